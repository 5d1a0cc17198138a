"""The database connections of the greenlets that views run in.

Each greenlet has connections of its own, for as short as it can.  In a test they all
use the test's: else they wouldn't see what its transaction holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections
from gevent import getcurrent

__all__ = [
    "adopt",
    "close",
    "note_connection",
    "release",
    "release_used",
    "share",
    "shared",
]

#: Those of the test, by alias; empty when there is none.
shared: dict[str, Any] = {}


def note_connection(**kwargs: Any) -> None:
    """Have this greenlet release its connections before it waits for a message.

    ``transport`` calls it.  A receiver of ``connection_created``.
    """
    getcurrent().before_wait = release  # type: ignore[attr-defined]


def adopt() -> None:
    """Begin with what this greenlet, a new one, has to share."""
    for alias, connection in shared.items():
        connections[alias] = connection


def release() -> None:
    """Apply Django's rule for the end of a request, by which CONN_MAX_AGE counts.

    ``close_old_connections`` would close one amid a transaction.
    """
    if not shared:
        for connection in connections.all(initialized_only=True):
            if not connection.in_atomic_block:
                connection.close_if_unusable_or_obsolete()


def release_used() -> None:
    """Do as ``release`` does, if this greenlet has made a connection."""
    if getattr(getcurrent(), "before_wait", None) is not None:
        release()


def close() -> None:
    """Close the connections of this greenlet, if it has made any."""
    current: Any = getcurrent()
    # Looking for them takes long.
    if getattr(current, "before_wait", None) is not None:
        current.before_wait = None
        if not shared:
            for connection in connections.all(initialized_only=True):
                connection.close()


@contextmanager
def share() -> Iterator[None]:
    """Have all greenlets use the connections of this one, and leave them open."""
    # Those that haven't been used yet as well: a test case has marked them.
    shared.update({alias: connections[alias] for alias in connections})
    for connection in shared.values():
        connection.inc_thread_sharing()
    try:
        yield
    finally:
        for connection in shared.values():
            connection.dec_thread_sharing()
        shared.clear()
