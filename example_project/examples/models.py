"""The inventory of dams, and what is said when there is a new one."""

from __future__ import annotations

from typing import Any

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models.signals import post_save
from django.dispatch import receiver
from django.forms import model_to_dict

from dwebsocket import groups


class Dam(models.Model):
    """A dam."""

    name = models.CharField(max_length=100, unique=True)
    river = models.CharField(max_length=100)
    height = models.PositiveSmallIntegerField(
        "height in metres", validators=[MinValueValidator(1), MaxValueValidator(999)]
    )

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return self.name


@receiver(post_save, sender=Dam)
def announce_dam(instance: Dam, created: bool, **kwargs: Any) -> None:
    if created:
        news = {
            "message": "A new dam has been added",
            "dams": [model_to_dict(instance)],
            "count": Dam.objects.count(),
        }
        groups.send_json("dams", news, on_commit=True)
