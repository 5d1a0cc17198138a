"""The lines of the chat in the admin, to take back what shouldn't stand there."""

from __future__ import annotations

from django.contrib import admin

from .models import Line


@admin.register(Line)
class LineAdmin(admin.ModelAdmin):
    """Lines, the newest first."""

    list_display = ["said_at", "room", "author", "text"]
    list_filter = ["room"]
    ordering = ["-pk"]
