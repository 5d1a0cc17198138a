"""What was said in the rooms."""

from __future__ import annotations

from typing import Any

from django.db import models


class Line(models.Model):
    """One line that was said; the author's name stays as it was then."""

    room = models.CharField(max_length=20, db_index=True)
    author = models.CharField(max_length=150)
    text = models.CharField(max_length=500)
    said_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.author}: {self.text}"

    def describe(self) -> dict[str, Any]:
        """Return what pages are told of it."""
        return {
            "id": self.pk,
            "room": self.room,
            "author": self.author,
            "text": self.text,
            "said_at": self.said_at,
        }
