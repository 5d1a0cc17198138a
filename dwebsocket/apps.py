"""The Django app: registers the system checks and a signal receiver."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.db import close_old_connections
from django.db.backends.signals import connection_created
from gevent import getcurrent

__all__ = ["WebSocketConfig"]


class WebSocketConfig(AppConfig):
    name = "dwebsocket"
    verbose_name = "WebSockets"

    def ready(self) -> None:
        from . import checks  # noqa: F401

        connection_created.connect(_release_before_waiting)


def _release_before_waiting(**kwargs: Any) -> None:
    """Let this greenlet apply Django's rule for old connections when it waits.

    The rule is that of the end of a request: CONN_MAX_AGE counts, an open
    transaction is left alone.  ``transport`` calls it.
    """
    getcurrent().before_wait = close_old_connections  # type: ignore[attr-defined]
