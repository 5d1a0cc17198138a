"""Where the state of a task is kept, how it reaches who watches, and who may.

The state is a dictionary in one of Django's caches.  It is stored before the message
that tells of it is sent, and who watches joins the group before reading it: so nothing
is missed, and what is in both is known by its number, ``seq``.
"""

from __future__ import annotations

import hashlib
from typing import Any

from django.core import signing
from django.core.cache import caches

from .. import groups
from ..conf import settings

__all__ = [
    "check_name",
    "find_group",
    "make_reference",
    "publish",
    "read_reference",
    "read_state",
    "write_state",
]

_PREFIX = "dwebsocket.task."
_SALT = "dwebsocket.tasks"
#: Bytes: with the prefix it is a group's name.
_MAX_NAME = 180


def check_name(name: str) -> None:
    """Raise TypeError or ValueError for what can't be the name of a task."""
    if not isinstance(name, str):
        raise TypeError(f"a task's name is a str, not {type(name).__name__}")
    if not 0 < len(name.encode()) <= _MAX_NAME:
        raise ValueError(f"a task's name is 1 to {_MAX_NAME} bytes of UTF-8")


def find_group(name: str) -> str:
    """Return the group of those who watch a task."""
    return _PREFIX + name


def read_state(name: str) -> dict[str, Any] | None:
    """Return the state of a task; None if it is unknown, or not any more."""
    state: dict[str, Any] | None = caches[settings.tasks.cache].get(_key(name))
    return state


def write_state(state: dict[str, Any]) -> None:
    """Store the state of a task, for WEBSOCKET_TASKS' ``timeout``."""
    options = settings.tasks
    caches[options.cache].set(_key(state["task"]), state, options.timeout)


def publish(type: str, content: dict[str, Any], **meta: Any) -> None:
    """Send a typed message to those who watch ``meta["task"]``."""
    envelope = {"type": type, "content": content, "meta": meta}
    groups.send_json(find_group(meta["task"]), envelope, using=settings.tasks.using)


def make_reference(name: str, user: Any = None) -> str:
    """Return a signed text: who has it may watch the task.

    For an authenticated ``user`` it is valid on this user's connections only.
    It expires after WEBSOCKET_TASKS' ``timeout``.
    """
    check_name(name)
    user_id = getattr(user, "pk", None)
    return signing.dumps([name, None if user_id is None else str(user_id)], salt=_SALT)


def read_reference(reference: str, user_id: str | None) -> str | None:
    """Return the name in a reference; None if it isn't valid for the user."""
    try:
        name, owner = signing.loads(
            reference, salt=_SALT, max_age=settings.tasks.timeout
        )
    except signing.BadSignature:
        return None
    return str(name) if owner in (None, user_id) else None


def _key(name: str) -> str:
    # Memcached takes neither every character nor every length.
    return _PREFIX + hashlib.sha256(name.encode()).hexdigest()
