"""The system calls of the hot path: what is sent and received without waiting.

A plain socket is known by its descriptor ``fd``; TLS has none of its own, ``fd`` is -1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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


def receive(sock: Any, fd: int, buffer: bytearray) -> int:
    """Return how many bytes have come into the buffer; 0 is the end.

    Raises OSError, also WouldBlock.
    """
    if cython.compiled and fd >= 0:
        return _receive(fd, buffer)  # noqa: F821
    return sock.recv_into(buffer)  # type: ignore[no-any-return]


def receive_into(sock: Any, buffer: memoryview) -> int:
    """Do as ``receive`` does, and release the buffer."""
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
