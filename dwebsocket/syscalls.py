"""The system calls of the hot path: what is sent and received without waiting.

A plain socket is known by its descriptor ``fd``; TLS has none of its own, ``fd`` is -1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from gevent import get_hub
from gevent.ssl import SSLWantReadError, SSLWantWriteError

if TYPE_CHECKING:
    from . import uncompiled as cython
else:
    try:
        import cython
    except ImportError:
        from . import uncompiled as cython

__all__ = ["WouldBlock", "receive", "receive_into", "send", "send_long"]

#: What the different sockets raise when they would block.
WouldBlock = (
    BlockingIOError,
    InterruptedError,
    SSLWantReadError,
    SSLWantWriteError,
)

_BUFFER_SIZE = 65536
#: One for all connections of a hub: an idle connection owns none.
_buffers: WeakKeyDictionary[Any, memoryview] = WeakKeyDictionary()


def receive(sock: Any, fd: int) -> bytes:
    """Return what has come; b"" is the end.  Raises OSError, also WouldBlock."""
    if cython.compiled and fd >= 0:
        return _receive(fd)  # noqa: F821
    hub = get_hub()
    buffer = _buffers.get(hub)
    if buffer is None:
        buffer = _buffers[hub] = memoryview(bytearray(_BUFFER_SIZE))
    return bytes(buffer[: sock.recv_into(buffer)])


def receive_into(sock: Any, buffer: memoryview) -> int:
    """Return how many bytes have come into the buffer; 0 is the end."""
    with buffer:
        return sock.recv_into(buffer)  # type: ignore[no-any-return]


def send(sock: Any, fd: int, frame: bytes) -> int:
    """Return how many bytes of a frame the system takes now.  Raises OSError."""
    if cython.compiled and fd >= 0:
        return _send(fd, frame)  # noqa: F821
    try:
        return sock.send(frame)  # type: ignore[no-any-return]
    except WouldBlock:
        return 0


def send_long(sock: Any, header: bytes, payload: bytes) -> int:
    """Do as ``send`` does, for a frame that isn't joined; not for TLS."""
    try:
        return sock.sendmsg((header, payload))  # type: ignore[no-any-return]
    except WouldBlock:
        return 0
