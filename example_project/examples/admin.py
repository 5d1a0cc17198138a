"""The inventory of dams in the admin."""

from __future__ import annotations

from django.contrib import admin

from .models import Dam


@admin.register(Dam)
class DamAdmin(admin.ModelAdmin):
    """Dams; a new one is announced as anywhere else."""

    list_display = ["name", "river", "height"]
