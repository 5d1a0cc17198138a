"""The Django app: registers the system checks."""

from __future__ import annotations

from django.apps import AppConfig

__all__ = ["WebSocketConfig"]


class WebSocketConfig(AppConfig):
    name = "dwebsocket"
    verbose_name = "WebSockets"

    def ready(self) -> None:
        from . import checks  # noqa: F401
