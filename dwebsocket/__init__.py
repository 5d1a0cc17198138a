"""WebSockets for synchronous Django on gevent, as plain views.

Names are imported when used: gunicorn imports ``dwebsocket.workers``, and with it
this package, before gevent patches the standard library, which Django must not
see unpatched.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, SourceFileLoader
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .decorators import accept_websocket, require_websocket
    from .exceptions import (
        ConnectionClosed,
        GroupError,
        HandshakeError,
        InvalidPayload,
        MessageTooBig,
        ProtocolError,
        UnsupportedServer,
        WebSocketError,
    )
    from .frames import is_compiled
    from .request import WebSocketRequest
    from .websocket import WebSocket

__version__ = "1.0"

__all__ = [
    "ConnectionClosed",
    "GroupError",
    "HandshakeError",
    "InvalidPayload",
    "MessageTooBig",
    "ProtocolError",
    "UnsupportedServer",
    "WebSocket",
    "WebSocketError",
    "WebSocketRequest",
    "accept_websocket",
    "is_compiled",
    "require_websocket",
    "stats",
]

_MODULES = {
    "WebSocket": "websocket",
    "WebSocketRequest": "request",
    "accept_websocket": "decorators",
    "is_compiled": "frames",
    "require_websocket": "decorators",
}

if os.environ.get("DWEBSOCKET_PURE"):
    # See only the source of the modules, not what is compiled of it.
    for _path in __path__:
        sys.path_importer_cache[_path] = FileFinder(
            _path, (SourceFileLoader, SOURCE_SUFFIXES)
        )


def stats() -> dict[str, Any]:
    """Return counters of this process, since it started.

    ``open`` (connections now), ``opened``, ``refused`` ({HTTP status: count}),
    ``closed`` ({close code: count}), ``messages_in``, ``messages_out``,
    ``bytes_in``, ``bytes_out`` (of frames), ``outbox_bytes`` (waiting now),
    ``slow_consumers`` (closed with 1013); of messages for groups, ``dropped`` and
    ``coalesced`` on slow connections, and ``group_gaps`` (times that this process may
    have missed some).
    """
    from .registry import registry

    return registry.stats()


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f".{_MODULES.get(name, 'exceptions')}", __name__)
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
