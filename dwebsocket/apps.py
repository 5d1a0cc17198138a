"""The Django app: registers the system checks and a signal receiver."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.db import connections
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
    """Have this greenlet release its connections before it waits for a message.

    ``transport`` calls it.
    """
    getcurrent().before_wait = _release_connections  # type: ignore[attr-defined]


def _release_connections() -> None:
    """Apply Django's rule for the end of a request, by which CONN_MAX_AGE counts.

    ``close_old_connections`` would close one amid a transaction.
    """
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()
