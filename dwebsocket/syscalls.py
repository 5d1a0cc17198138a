"""System calls that don't wait: what is sent and received.

In C, ``syscalls.pxd`` has those of the hot path, ``receive`` and ``send``; in Python
they are the socket's methods.
"""

from __future__ import annotations

from typing import Any

from gevent.ssl import SSLWantReadError, SSLWantWriteError

__all__ = ["WouldBlock", "receive_into", "send_long"]

#: What the different sockets raise when they would block.
WouldBlock = (
    BlockingIOError,
    InterruptedError,
    SSLWantReadError,
    SSLWantWriteError,
)


def receive_into(sock: Any, buffer: memoryview) -> int:
    """Do as the socket's ``recv_into`` does, and release the buffer."""
    with buffer:
        return sock.recv_into(buffer)  # type: ignore[no-any-return]


def send_long(sock: Any, header: bytes, payload: bytes) -> int:
    """Return how many bytes of a frame the system takes now; not for TLS.

    Raises OSError.
    """
    try:
        return sock.sendmsg((header, payload))  # type: ignore[no-any-return]
    except WouldBlock:
        return 0
