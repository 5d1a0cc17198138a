"""One connection as greenlets use it: they wait, the hub moves the bytes."""

from __future__ import annotations

from typing import Any

from gevent.hub import Waiter, getcurrent

from .exceptions import ConnectionClosed
from .frames import Buffer, CloseCode
from .protocol import Message, State
from .stream import Stream
from .writer import WouldBlock

__all__ = ["Transport"]

_OPEN = State.OPEN


def _before_wait() -> None:
    # Set in a greenlet that has something to release before it is suspended.
    release = getattr(getcurrent(), "before_wait", None)
    if release is not None:
        release()


class Transport(Stream):
    """Moves messages between a connected socket and greenlets."""

    __slots__ = ()

    def receive(self, timeout: float | None = None) -> Message | None:
        """Return the next message, waiting ``timeout`` seconds for it at most.

        None means: nothing came in time, or nothing will come any more.
        """
        if self._inbox is None and not self._wait_for_message(timeout):
            return None
        inbox = self._inbox
        assert inbox is not None
        message = inbox.popleft()
        if not inbox:
            self._inbox = None
        self._inbox_size -= len(message)
        if self._is_paused:
            self._resume_below_limit()
        return message

    def send(self, message: str | Buffer) -> None:
        """Send a message; wait while the outbox is above its limit.

        Raises ConnectionClosed, and TypeError or ValueError for what can't be
        a message.
        """
        protocol = self.protocol
        if protocol.state is not _OPEN:
            # Before a complaint about None, which wait() returns when closed.
            raise self._closed_error()
        self._send(protocol.encode_message(message))
        self.messages_out += 1

    def ping(self, payload: Buffer = b"") -> None:
        """Send a ping; the pong sets ``latency``.  Raises like ``send``."""
        frame = self.protocol.encode_ping(payload)
        self._note_ping(bytes(payload))
        self._send(frame)

    def drop_inbox(self) -> None:
        """Forget the messages that nobody will ask for any more."""
        self._inbox = None
        self._inbox_size = 0
        self._resume()

    def _wait_for_message(self, timeout: float | None) -> bool:
        _before_wait()
        # It may have taken its time.
        if self._inbox is not None or self.protocol.state is not _OPEN:
            return self._inbox is not None
        timer = None
        waiter: Waiter[Any] = Waiter(self._hub)
        if timeout is not None:
            timer = self._hub.loop.timer(max(timeout, 0.0))
            # The loop's clock stands still while a greenlet computes.
            timer.start(waiter.switch, None, update=True)
        receivers = self._receivers
        receivers.append(waiter)
        try:
            waiter.get()
        finally:
            # It timed out, was killed, or a gevent.Timeout of the caller's.
            if receivers and waiter in receivers:
                receivers.remove(waiter)
            if timer is not None:
                timer.close()
        return self._inbox is not None

    def _send(self, frame: bytes) -> None:
        if self._outbox is not None:
            self._wait_for_drain()
        if self.protocol.state is not _OPEN:
            raise self._closed_error()
        self.bytes_out += len(frame)
        if self._outbox is None:
            try:
                sent = self._sock.send(frame)
            except WouldBlock:
                sent = 0
            except OSError as exc:
                # The reader will see what came before the end, and the end.
                raise ConnectionClosed(CloseCode.ABNORMAL_CLOSURE) from exc
            if sent == len(frame):
                return
            self._start_outbox(memoryview(frame)[sent:])
        else:
            self._append(frame)
        self._wait_for_drain()

    def _wait_for_drain(self) -> None:
        if self._outbox_size <= self._send_buffer_size:
            return
        _before_wait()
        waiter: Waiter[Any] = Waiter(self._hub)
        # It keeps its place until it has its turn.
        self._senders.append(waiter)
        try:
            while self._outbox_size > self._send_buffer_size:
                waiter.get()
        finally:
            self._senders.remove(waiter)
        if self._sock is None:
            raise self._closed_error()
