"""One connection on gevent's hub: writing.

A frame is written whole or queued whole in the outbox, so frames of two senders
never mix.  The outbox has a write watcher while it isn't empty.  Messages of groups
wait in the backlog behind it.
"""

from __future__ import annotations

import logging
import sys
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any

from gevent import get_hub
from gevent.hub import Waiter
from gevent.ssl import SSLSocket

from .backlog import Backlog
from .deflate import Deflate
from .exceptions import ConnectionClosed
from .frames import Buffer, CloseCode
from .limits import Limits
from .protocol import Protocol, State
from .registry import registry
from .syscalls import WouldBlock

if TYPE_CHECKING:
    from . import uncompiled as cython
else:
    try:
        import cython
    except ImportError:
        from . import uncompiled as cython

__all__ = ["Writer", "unlimited"]

logger = logging.getLogger("dwebsocket")

_OPEN = State.OPEN
_WRITE = 2
#: Buffers for one sendmsg(); Linux takes up to 1024.
_SEND_BUFFERS = 64

#: Frames of so many bytes at most share blocks of about so many in the outbox.
_SHORT = 128
_BLOCK_SIZE = 4096
#: Bytes of the backlog that go into the outbox at once.
_BACKLOG_SIZE = 16384


def unlimited(value: int | None) -> int:
    """Return ``value`` for comparisons: None is no limit."""
    return sys.maxsize if value is None else value


class Writer:
    """The socket, the protocol and the outbox of a connection."""

    __slots__ = (
        "_backlog",
        "_fd",
        "_heartbeat",
        "_hub",
        "_is_tls",
        "_outbox",
        "_outbox_size",
        "_pong",
        "_send_buffer_size",
        "_senders",
        "_sock",
        "_writer",
        "bytes_out",
        "heard_at",
        "messages_out",
        "protocol",
        "slow_consumer",
    )

    def __init__(self, sock: Any, limits: Limits, deflate: Deflate | None) -> None:
        self._hub = get_hub()
        self._sock: Any = sock  # None when the connection is over
        self._is_tls = isinstance(sock, SSLSocket)
        # For system calls in C, which TLS hasn't.
        self._fd = -1 if self._is_tls else sock.fileno()
        self.protocol = Protocol(
            max_message_size=limits.max_message_size, deflate=deflate
        )
        self._send_buffer_size = unlimited(limits.send_buffer_size)
        #: What happens to messages of groups beyond that, if a group doesn't say.
        self.slow_consumer = limits.slow_consumer
        # Frames for the peer; None while there are none.
        self._outbox: deque[Buffer] | None = None
        self._outbox_size = 0
        # Messages of groups behind them; None while there are none.
        self._backlog: Backlog | None = None
        self._pong: bytes | None = None
        self._senders: list[Waiter[Any]] = []
        self._writer: Any = None
        #: Messages and bytes of frames sent, or on their way.
        self.messages_out = self.bytes_out = 0
        #: When the peer gave a sign of life, on the heartbeat's clock.
        self.heard_at = 0.0
        self._heartbeat = registry.heartbeat(limits.ping_interval, limits.ping_timeout)

    @property
    def outbox_size(self) -> int:
        """Bytes that wait for the peer."""
        if self._backlog is None:
            return self._outbox_size
        return self._outbox_size + self._backlog.size

    def _closed_error(self) -> ConnectionClosed:
        protocol = self.protocol
        code = protocol.close_code
        if code is None:
            code = int(CloseCode.ABNORMAL_CLOSURE)
        return ConnectionClosed(code, protocol.close_reason)

    def _queue(self, frame: bytes) -> None:
        """Write or queue without waiting; the reader notices a lost connection."""
        self.bytes_out += len(frame)
        if self._outbox is not None:
            self._append(frame)
            return
        try:
            sent = self._write(frame)
        except OSError as exc:
            logger.debug("send failed: %s", exc)
            return
        if sent < len(frame):
            self._start_outbox(memoryview(frame)[sent:])

    def _write(self, frame: bytes) -> int:
        """Return how many bytes of a frame the system takes now.  Raises OSError."""
        try:
            if cython.compiled and self._fd >= 0:
                return send(self._fd, frame)  # noqa: F821
            return self._sock.send(frame)  # type: ignore[no-any-return]
        except WouldBlock:
            return 0

    def _start_outbox(self, frame: Buffer) -> None:
        self._outbox = deque((frame,))
        self._outbox_size = len(frame)
        self._writer = self._hub.loop.io(self._sock.fileno(), _WRITE)
        self._writer.start(self._on_writable)

    def _append(self, frame: Buffer) -> None:
        outbox = self._outbox
        assert outbox is not None
        self._outbox_size += len(frame)
        if len(frame) <= _SHORT:
            # As objects of their own, short frames would take many times their bytes.
            last = outbox[-1]
            if isinstance(last, bytearray) and len(last) < _BLOCK_SIZE:
                last += frame
                return
            frame = bytearray(frame)
        outbox.append(frame)

    def _on_writable(self) -> None:
        try:
            self._flush()
        except Exception:
            self._on_error()

    def _flush(self) -> None:
        outbox = self._outbox
        assert outbox is not None
        if self._pong is not None:
            # Not before the first: its bytes may be on their way.
            outbox.insert(1, self._pong)
            self._outbox_size += len(self._pong)
            self._pong = None
        try:
            if self._is_tls:
                sent = self._sock.send(outbox[0])
            else:
                sent = self._sock.sendmsg(list(islice(outbox, _SEND_BUFFERS)))
        except WouldBlock:
            return
        except OSError as exc:
            logger.debug("send failed: %s", exc)
            # The reader will see what came before the end, and the end.
            for waiter in self._senders:
                self._hub.loop.run_callback(waiter.throw, self._closed_error())
            self._backlog = None
            self._drop_outbox()
            self._after_flush()
            return
        # Its system acknowledges data: as good a sign of life as any.
        self.heard_at = self._heartbeat.clock
        self._outbox_size -= sent
        while sent:
            head = outbox[0]
            if sent < len(head):
                outbox[0] = memoryview(head)[sent:]
                break
            sent -= len(outbox.popleft())
        if not outbox:
            self._drop_outbox()
            if self._backlog is not None:
                self._send_backlog()
            if self._outbox is None:
                self._after_flush()
        elif self._outbox_size <= self._send_buffer_size:
            self._wake_senders()

    def _send_backlog(self) -> None:
        """Send what the peer takes now, or a part of it."""
        backlog = self._backlog
        while self._outbox is None and backlog and self.protocol.state is _OPEN:
            frames = [self._encode_next(backlog)]
            size = len(frames[0])
            while backlog and size < _BACKLOG_SIZE:
                frames.append(self._encode_next(backlog))
                size += len(frames[-1])
            self._queue(b"".join(frames))
        if not backlog or self.protocol.state is not _OPEN:
            self._backlog = None

    def _queue_backlog(self) -> None:
        """Put all of it into the outbox, before something that comes after it."""
        backlog, self._backlog = self._backlog, None
        while backlog:
            self._queue(self._encode_next(backlog))

    def _encode_next(self, backlog: Backlog) -> bytes:
        self.messages_out += 1
        return self.protocol.encode_broadcast(backlog.pop())

    def _drop_outbox(self) -> None:
        self._outbox = None
        self._outbox_size = 0
        self._pong = None
        if self._writer is not None:
            self._writer.stop()
            self._writer.close()
            self._writer = None
        self._wake_senders()

    def _wake_senders(self) -> None:
        for waiter in self._senders:
            self._hub.loop.run_callback(waiter.switch, None)

    def _after_flush(self) -> None:
        """Called when the outbox is empty again."""
        raise NotImplementedError

    def _on_error(self) -> None:
        """Called in an exception handler: it must not happen in the hub."""
        raise NotImplementedError
