"""WebSockets for synchronous Django on gevent, as plain views.

Names are imported when used: gunicorn imports ``dwebsocket.workers``, and with it
this package, before gevent patches the standard library, which Django must not
see unpatched.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .decorators import accept_websocket, require_websocket
    from .exceptions import (
        ConnectionClosed,
        HandshakeError,
        InvalidPayload,
        MessageTooBig,
        ProtocolError,
        UnsupportedServer,
        WebSocketError,
    )
    from .websocket import WebSocket

__version__ = "1.0.dev0"

__all__ = [
    "ConnectionClosed",
    "HandshakeError",
    "InvalidPayload",
    "MessageTooBig",
    "ProtocolError",
    "UnsupportedServer",
    "WebSocket",
    "WebSocketError",
    "accept_websocket",
    "require_websocket",
    "stats",
]

_MODULES = {
    "WebSocket": "websocket",
    "accept_websocket": "decorators",
    "require_websocket": "decorators",
}


def stats() -> dict[str, Any]:
    """Return counters of this process, since it started.

    ``open`` (connections now), ``opened``, ``refused`` ({HTTP status: count}),
    ``closed`` ({close code: count}), ``messages_in``, ``messages_out``,
    ``bytes_in``, ``bytes_out`` (of frames), ``outbox_bytes`` (waiting now).
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
