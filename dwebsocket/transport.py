"""One connection as greenlets use it: they wait, the hub moves the bytes."""

from __future__ import annotations

import socket
from typing import Any

from gevent.hub import Waiter, getcurrent
from greenlet import greenlet

from .backlog import COALESCE, DISCONNECT, DROP_NEWEST, Backlog
from .encoder import Broadcast
from .exceptions import ConnectionClosed
from .frames import Buffer, CloseCode
from .inbox import switch_to
from .message import LONG, Message
from .protocol import State
from .registry import registry
from .stream import Stream
from .syscalls import send_long

__all__ = ["Transport"]

_OPEN = State.OPEN
_LONG = LONG

#: Bytes, for ``keep_current``.
_NOT_SENT_SIZE = 16384


class Transport(Stream):
    """Moves messages between a connected socket and greenlets."""

    __slots__ = ()

    def receive(self, timeout: float | None = None) -> Message | None:
        """Return the next message, waiting ``timeout`` seconds for it at most.

        None means: nothing came in time, or nothing will come any more.
        """
        if self._first is None:
            self._wait_for_message(timeout)
            if self._first is None:
                return None
        message = self._first
        if self._rest is None:
            self._first = None
            self._inbox_size = 0
        else:
            self._first = self._rest.popleft()
            if not self._rest:
                self._rest = None
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
        if self._outbox is not None:
            # Encoded in the order in which they are sent: a compressed message
            # may refer to those before it.
            self._wait_for_drain()
            if self._backlog is not None:
                self._queue_backlog()
        if (
            isinstance(message, (str, bytes))
            and len(message) >= _LONG
            and not self._is_tls
        ):
            self._send_long(message)
        else:
            self._send(protocol.encode_message(message))
        self.messages_out += 1

    def send_nowait(self, message: str | Buffer) -> None:
        """Send a message without waiting.

        When more waits for the peer already than the outbox may hold, the peer is too
        slow: the connection is closed with 1013, and ConnectionClosed is raised, as
        for one that is closed.
        """
        if self.protocol.state is not _OPEN:
            raise self._closed_error()
        if self.outbox_size > self._send_buffer_size:
            self._close_slow()
            raise self._closed_error()
        if self._backlog is not None:
            self._queue_backlog()
        self._queue(self.protocol.encode_message(message))
        self.messages_out += 1

    def post(
        self,
        broadcast: Broadcast,
        policy: str,
        key: tuple[str, str | None] | None = None,
    ) -> None:
        """Send a message of a group: without waiting, without raising.

        ``policy`` says what happens when more waits for the peer already than may
        (``backlog``); ``key`` which older message COALESCE replaces.
        """
        if self.protocol.state is not _OPEN:
            return
        if self._outbox is None:
            self._queue(self.protocol.encode_broadcast(broadcast))
            self.messages_out += 1
            return
        backlog = self._backlog
        if backlog is None:
            backlog = self._backlog = Backlog()
        if policy != COALESCE:
            key = None
        elif backlog.replace(broadcast, key):
            registry.note_slow("coalesced")
            return
        # Without the message itself: one that is longer than all that may wait isn't
        # the fault of the peer.
        excess = self._outbox_size + backlog.size - self._send_buffer_size
        if excess > 0:
            if policy == DISCONNECT:
                self._close_slow()
                return
            if policy == DROP_NEWEST:
                registry.note_slow("dropped")
                return
            registry.note_slow("dropped", backlog.make_room(excess))
        backlog.append(broadcast, policy, key)

    def ping(self, payload: Buffer = b"") -> None:
        """Send a ping; the pong sets ``latency``.  Raises like ``send``."""
        frame = self.protocol.encode_ping(payload)
        self._note_ping(bytes(payload))
        if self._outbox is not None:
            self._wait_for_drain()
        self._send(frame)

    def keep_current(self) -> None:
        """Have the system hold little back, for messages that become out of date."""
        if self._sock.family in (socket.AF_INET, socket.AF_INET6):
            self._sock.setsockopt(
                socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _NOT_SENT_SIZE
            )

    def _close_slow(self) -> None:
        registry.note_slow("slow_consumers")
        self._backlog = None
        self.close(CloseCode.TRY_AGAIN_LATER, "too slow")

    def drop_inbox(self) -> None:
        """Forget the messages that nobody will ask for any more."""
        self._first = self._rest = None
        self._inbox_size = 0
        self._resume()

    def _wait_for_message(self, timeout: float | None) -> None:
        current = getcurrent()
        # Set in a greenlet that has something to release before it is suspended.
        release = getattr(current, "before_wait", None)
        if release is not None:
            release()
        # It may have taken its time.
        if self._first is not None or self.protocol.state is not _OPEN:
            return
        hub = self._hub
        if current is hub:
            hub.switch_out()  # raises
        timer = None
        if timeout is not None:
            timer = hub.loop.timer(max(timeout, 0.0))
            # The loop's clock stands still while a greenlet computes.
            timer.start(self._on_receive_timeout, current, update=True)
        if self._receiver is None:
            self._receiver = current
        else:
            self._add_receiver(current)
        following = self._shared.next_receiver()
        try:
            switch_to(hub if following is None else following)
        except BaseException:
            # It was killed, or a gevent.Timeout of the caller's.
            self._discard_receiver(current)
            raise
        finally:
            if timer is not None:
                timer.close()

    def _on_receive_timeout(self, receiver: greenlet) -> None:
        if self._discard_receiver(receiver):
            switch_to(receiver)

    def _send(self, frame: bytes) -> None:
        if self.protocol.state is not _OPEN:
            raise self._closed_error()
        self.bytes_out += len(frame)
        if self._outbox is None:
            try:
                sent = self._write(frame)
            except OSError as exc:
                # The reader will see what came before the end, and the end.
                raise ConnectionClosed(CloseCode.ABNORMAL_CLOSURE) from exc
            if sent == len(frame):
                return
            self._start_outbox(memoryview(frame)[sent:])
        else:
            self._append(frame)
        self._wait_for_drain()

    def _send_long(self, message: str | bytes) -> None:
        """Send a message without joining it with its header."""
        header, payload = self.protocol.encode_long(message)
        if self._outbox is not None or self.protocol.state is not _OPEN:
            # Queued in one piece: a pong may be put behind the first.
            self._send(header + payload)
            return
        self.bytes_out += len(header) + len(payload)
        try:
            sent = send_long(self._sock, header, payload)
        except OSError as exc:
            raise ConnectionClosed(CloseCode.ABNORMAL_CLOSURE) from exc
        sent -= len(header)
        if sent == len(payload):
            return
        if sent >= 0:
            self._start_outbox(memoryview(payload)[sent:])
        else:
            self._start_outbox(header[sent:] + payload)
        self._wait_for_drain()

    def _wait_for_drain(self) -> None:
        if self._outbox_size <= self._send_buffer_size:
            return
        release = getattr(getcurrent(), "before_wait", None)
        if release is not None:
            release()
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
