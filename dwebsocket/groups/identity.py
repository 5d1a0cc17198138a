"""What names this process and its websockets among all processes.

An id is ``<process>.<websocket>``, each random: the first part tells where to send,
the second can't be guessed.
"""

from __future__ import annotations

import os
import secrets
from typing import Any
from weakref import WeakValueDictionary

__all__ = ["find_websocket", "get_process_id", "make_id", "split_id"]

#: Bytes of an id, with room for longer ones.
_MAX_SIZE = 200

_process_id = ""
_websockets: WeakValueDictionary[str, Any] = WeakValueDictionary()


def get_process_id() -> str:
    """Return the id of this process, another one after a fork."""
    global _process_id
    if not _process_id:
        _process_id = secrets.token_urlsafe(9)
    return _process_id


def make_id(websocket: Any) -> str:
    """Return a new id, with which ``find_websocket`` finds it in this process."""
    websocket_id = f"{get_process_id()}.{secrets.token_urlsafe(16)}"
    _websockets[websocket_id] = websocket
    return websocket_id


def find_websocket(websocket_id: str) -> Any:
    """Return the websocket of this process with the id, or None."""
    return _websockets.get(websocket_id)


def split_id(websocket_id: str) -> tuple[str, str]:
    """Return the two parts.  Raises TypeError or ValueError for what isn't an id."""
    if not isinstance(websocket_id, str):
        raise TypeError(
            f"the id of a websocket is a str, not {type(websocket_id).__name__}"
        )
    process_id, dot, rest = websocket_id.partition(".")
    if not (process_id and dot and rest) or len(websocket_id.encode()) > _MAX_SIZE:
        raise ValueError(f"{websocket_id!r} isn't the id of a websocket")
    return process_id, rest


def _forget() -> None:
    global _process_id
    _process_id = ""
    _websockets.clear()


os.register_at_fork(after_in_child=_forget)
