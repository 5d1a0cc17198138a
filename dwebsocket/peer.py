"""The client's end of a connection, for tests: RFC 6455 from the other side.

It has a greenlet that reads all the time, as a browser does: it keeps the messages,
answers pings and the close frame.  No Django.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO

import gevent
from gevent.event import Event
from gevent.lock import BoundedSemaphore
from gevent.socket import socket as Socket

from .exceptions import ConnectionClosed, ProtocolError
from .frames import (
    Buffer,
    CloseCode,
    Opcode,
    apply_mask,
    encode_header,
    parse_close,
)
from .message import Message

__all__ = ["Peer"]

#: Messages that are kept; then nothing is read, and the view is held back.
_MAX_QUEUE = 1000
#: The first byte of a frame that is a whole message (section 5.2).
_FIN = 0x80


class Peer:
    """The client's end; ``on_change`` is called when something has come or ended.

    Attributes to read:

    * ``messages``: what has come and wasn't taken
    * ``pongs``: payloads of the pongs that have come
    * ``close_code``, ``close_reason``: of the first close frame, sent or received;
      1006 when the connection was lost without one; None and "" while it is open
    * ``is_over``: whether nothing will come any more
    """

    def __init__(self, sock: Socket, on_change: Callable[[], object]) -> None:
        self.messages: deque[Message] = deque()
        self.pongs: list[bytes] = []
        self.close_code: int | None = None
        self.close_reason = ""
        self.is_over = False
        self._sock = sock
        self._on_change = on_change
        self._is_writable = BoundedSemaphore()
        self._has_room = Event()
        self._reader = gevent.spawn(self._read)

    def take(self) -> Message:
        """Return the first of ``messages`` and remove it."""
        self._has_room.set()
        return self.messages.popleft()

    def send(self, message: str | Buffer) -> None:
        """Send a message; wait until the server has room for it.

        Raises ConnectionClosed, and TypeError for what can't be a message.
        """
        if isinstance(message, str):
            self._send(Opcode.TEXT, message.encode())
        elif isinstance(message, (bytes, bytearray, memoryview)):
            self._send(Opcode.BINARY, bytes(message))
        else:
            raise TypeError(
                f"a message is str or bytes-like, not {type(message).__name__}"
            )

    def ping(self, payload: bytes) -> None:
        """Send a ping.  Raises ConnectionClosed."""
        self._send(Opcode.PING, payload)

    def close(self, payload: bytes) -> None:
        """Send a close frame, if there was none and the connection isn't lost."""
        if self.close_code is None:
            self._set_close(*parse_close(payload))
            with suppress(OSError):  # the reader sees the end
                self._send_frame(Opcode.CLOSE, payload)

    def abort(self) -> None:
        """Drop the connection without a close frame."""
        self._reader.kill(block=False)
        self._end()

    def _send(self, opcode: int, payload: bytes) -> None:
        if self.close_code is not None:
            raise ConnectionClosed(self.close_code, self.close_reason)
        try:
            self._send_frame(opcode, payload)
        except OSError as exc:
            raise ConnectionClosed(CloseCode.ABNORMAL_CLOSURE) from exc

    def _send_frame(self, opcode: int, payload: bytes) -> None:
        # Section 5.1: "a client MUST mask all frames that it sends to the server".
        header = bytearray(encode_header(opcode, len(payload)))
        header[1] |= 0x80
        mask = os.urandom(4)
        with self._is_writable:
            self._sock.sendall(header + mask + apply_mask(payload, mask))

    def _set_close(self, code: int, reason: str) -> None:
        if self.close_code is None:
            self.close_code = code
            self.close_reason = reason
            self._has_room.set()

    def _end(self) -> None:
        self._set_close(int(CloseCode.ABNORMAL_CLOSURE), "")
        self.is_over = True
        self._sock.close()
        self._on_change()

    # In the greenlet that reads

    def _read(self) -> None:
        try:
            with self._sock.makefile("rb") as stream:
                while True:
                    self._receive(*_read_frame(stream))
                    self._on_change()
        except (EOFError, OSError):
            pass  # the end, of which close_code tells
        finally:
            self._end()

    def _receive(self, first: int, payload: bytes) -> None:
        if first == _FIN | Opcode.TEXT:
            self._add(payload.decode())
        elif first == _FIN | Opcode.BINARY:
            self._add(payload)
        elif first == _FIN | Opcode.PING:
            self._send_frame(Opcode.PONG, payload)
        elif first == _FIN | Opcode.PONG:
            self.pongs.append(payload)
        elif first == _FIN | Opcode.CLOSE:
            is_answer = self.close_code is not None
            self._set_close(*parse_close(payload))
            if not is_answer:
                self._send_frame(Opcode.CLOSE, payload[:2])
        else:
            # Neither fragments nor extensions come from our server.
            raise ProtocolError(f"unexpected frame that begins with {first:#04x}")

    def _add(self, message: Message) -> None:
        while len(self.messages) >= _MAX_QUEUE and self.close_code is None:
            self._has_room.clear()
            self._has_room.wait()
        self.messages.append(message)


def _read_frame(stream: BinaryIO) -> tuple[int, bytes]:
    """Return a frame's first byte and its payload.  Raises EOFError."""
    first, length = _read_exactly(stream, 2)
    if length >= 0x80:
        raise ProtocolError("the server's frame is masked")
    if length >= 126:
        length = int.from_bytes(_read_exactly(stream, 2 if length == 126 else 8), "big")
    return first, _read_exactly(stream, length)


def _read_exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data
