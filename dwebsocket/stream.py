"""One connection on gevent's hub: reading and closing.

Theory of operation:

* A read watcher, never stopped while reading is wanted, calls ``_on_readable``
  in the hub.
* A complete message goes straight to the greenlet that waits for it, or to the
  inbox.  A full inbox stops the watcher: TCP holds the peer back, nothing is
  dropped.
* What runs in the hub never blocks, never raises and never runs user code.
* Closing is the hub's: ``close`` starts it and returns.

Writing is ``writer``'s, waiting ``transport``'s.

TLS sockets are used without blocking (timeout 0) and differ in three ways only:
at the start they may hold decrypted data back, they can't ``sendmsg``, and they
say "would block" in their own words.
"""

from __future__ import annotations

import logging
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from greenlet import greenlet

from .deflate import Deflate
from .limits import Limits
from .protocol import Message, State
from .syscalls import WouldBlock, receive, receive_into
from .writer import Writer, unlimited

__all__ = ["Stream"]

logger = logging.getLogger("dwebsocket")

_OPEN = State.OPEN
_READ = 1


class Stream(Writer):
    """Moves bytes between a connected socket and inbox and outbox.

    ``sock`` is a plain non-blocking socket, or gevent's SSLSocket.  It is
    closed at the end when ``owns_socket``, else only shut down: then the server
    closes it.  ``on_end`` is called once, from the hub, when the connection is
    over.
    """

    __slots__ = (
        "__weakref__",
        "_close_timeout",
        "_close_timer",
        "_inbox",
        "_inbox_size",
        "_is_half_closed",
        "_is_paused",
        "_max_inbox_size",
        "_max_queue",
        "_on_end",
        "_owns_socket",
        "_ping",
        "_reader",
        "_receivers",
        "bytes_in",
        "latency",
        "messages_in",
        "pinged_at",
        "slice_",
    )

    def __init__(
        self,
        sock: Any,
        limits: Limits,
        *,
        owns_socket: bool,
        on_end: Callable[[], object],
        deflate: Deflate | None = None,
    ) -> None:
        super().__init__(sock, limits, deflate)
        self._owns_socket = owns_socket
        self._max_queue = unlimited(limits.max_queue)
        # In bytes, the longest message is allowed to fill the inbox alone.
        self._max_inbox_size = unlimited(limits.max_message_size)
        self._close_timeout = limits.close_timeout
        self._on_end = on_end
        #: Seconds from the last answered ping to its pong, or None.
        self.latency: float | None = None
        self._ping: tuple[bytes, float] | None = None
        # Messages for the view; None while there are none.
        self._inbox: deque[Message] | None = None
        self._inbox_size = 0
        self._is_paused = False
        self._is_half_closed = False
        # Greenlets that wait for a message.
        self._receivers: list[greenlet] = []
        self._close_timer: Any = None
        self._reader = self._hub.loop.io(sock.fileno(), _READ)
        #: Messages and bytes of frames received.
        self.messages_in = self.bytes_in = 0
        # For the registry.
        self.slice_ = 0
        self.pinged_at = 0.0

    def start(self, received: bytes = b"") -> None:
        """Start reading.  ``received`` came in along with the handshake."""
        sock = self._sock
        if self._is_tls:
            sock.settimeout(0.0)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # The back-stop, where heartbeats are off.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._heartbeat.add(self)
        if received:
            # The watcher may not run before this callback has.
            self._hub.loop.run_callback(self._start_reading, received)
        else:
            self._start_reading()

    # From anywhere

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent."""
        return self.protocol.state is State.OPEN

    @property
    def inbox_count(self) -> int:
        """How many messages wait for ``receive``."""
        return len(self._inbox) if self._inbox is not None else 0

    @property
    def silence(self) -> float:
        """Seconds since something was received, as exact as heartbeats are."""
        return self._heartbeat.clock - self.heard_at

    def close(self, code: int | None = 1000, reason: str = "") -> None:
        """Start the closing handshake, behind all that is queued.

        Does nothing when the connection is closing or closed.  Raises ValueError
        for a code or reason that must not be sent.
        """
        if not self.is_open:
            return
        self._queue(self.protocol.start_close(code, reason))
        self._on_closing()

    def abort(self) -> None:
        """Drop the connection without a closing handshake."""
        self._on_lost()

    # For the registry

    def send_heartbeat(self) -> None:
        """Send a ping without waiting."""
        if self.is_open:
            self._note_ping(b"")
            self._queue(self.protocol.encode_ping())

    def on_silence(self) -> None:
        """The peer didn't answer a ping in time."""
        if self._is_paused:
            # Its pongs wait with all else that isn't read.
            self.heard_at = self._heartbeat.clock
            return
        logger.debug("no sign of life for %.1f s", self.silence)
        self._on_lost()

    def _note_ping(self, payload: bytes) -> None:
        # Pongs come in the order of the pings: of equal ones the first counts.
        if self._ping is None or self._ping[0] != payload:
            self._ping = (payload, time.monotonic())

    # Reading, in the hub

    def _on_readable(self) -> None:
        # Once: a peer that sends all the time must not keep the hub from others.
        if self._sock is None or self._is_paused:
            return
        try:
            try:
                buffer = self.protocol.get_buffer()
                if buffer is not None:
                    data = None
                    size = receive_into(self._sock, buffer)
                else:
                    data = receive(self._sock, self._fd)
                    size = len(data)
            except WouldBlock:
                return
            except OSError:
                size = 0
            if size:
                self._receive(data, size)
            else:
                self._on_lost()
        except Exception:
            self._on_error()

    def _start_reading(self, received: bytes = b"") -> None:
        if self._sock is None or self._is_paused:
            return
        self._reader.start(self._on_readable)
        if self._is_tls:
            # There may be decrypted data that the descriptor knows nothing of,
            # the rest of a record; reading leaves none, a record being shorter
            # than the buffer.
            self._hub.loop.run_callback(self._on_readable)
        if received or self.protocol.is_held:
            try:
                self._receive(received, len(received))
            except Exception:
                self._on_error()

    def _receive(self, data: bytes | None, size: int) -> None:
        """Take what was received: ``data``, or what is in the protocol's buffer."""
        protocol = self.protocol
        self.heard_at = self._heartbeat.clock
        self.bytes_in += size
        if data is None:
            messages = protocol.buffer_filled(size)
        else:
            messages = protocol.receive_data(data)
        message: Message | None = None
        if messages:
            self.messages_in += len(messages)
            if len(messages) == 1 and self._receivers and self._inbox is None:
                message = messages[0]
            else:
                self._store(messages)
        if protocol.replies:
            self._reply()
        if protocol.pong is not None:
            self._on_pong()
        if protocol.is_held and not self._is_paused:
            # Parsed on when those who wait have had this.
            self._pause()
            self._hub.loop.run_callback(self._resume)
        if protocol.state is not _OPEN:
            self._on_closing()
        # The last thing that a callback does: the greenlets run meanwhile.
        if message is not None:
            self._switch_to(self._receivers.pop(0), message)
        elif self._receivers:
            self._wake_receivers()

    def _store(self, messages: list[Message]) -> None:
        inbox = self._inbox
        if inbox is None:
            inbox = self._inbox = deque(messages)
        else:
            inbox.extend(messages)
        for message in messages:
            self._inbox_size += len(message)
        if len(inbox) >= self._max_queue or self._inbox_size >= self._max_inbox_size:
            self._pause()

    def _switch_to(self, receiver: greenlet, message: Message | None) -> None:
        """Let a greenlet go on that is no longer in ``_receivers``."""
        try:
            receiver.switch(message)
        except BaseException:
            # It has ended with this; not ours.
            self._hub.handle_error(receiver, *sys.exc_info())

    def _wake_receivers(self) -> None:
        """Let go on whom there is a message for; all, when nothing will come."""
        receivers = self._receivers
        while receivers and (
            self._inbox is not None or self.protocol.state is not _OPEN
        ):
            self._switch_to(receivers.pop(0), None)

    def _wake_all_receivers(self) -> None:
        # Later, and only those who still wait then.
        if self._receivers:
            self._hub.loop.run_callback(self._wake_receivers)

    def _resume_below_limit(self) -> None:
        # Not at the limit, but well below: else each message would stop and
        # start the watcher.
        if (
            self.inbox_count <= self._max_queue // 2
            and self._inbox_size <= self._max_inbox_size // 2
        ):
            self._resume()

    def _pause(self) -> None:
        self._is_paused = True
        self._reader.stop()

    def _resume(self) -> None:
        if self._is_paused and self._sock is not None:
            self._is_paused = False
            if self.protocol.is_held:
                # In the hub; this may be a view's greenlet.
                self._hub.loop.run_callback(self._start_reading)
            else:
                self._start_reading()

    def _reply(self) -> None:
        replies = self.protocol.replies
        if self._outbox is None or self.protocol.close_sent:
            self._queue(b"".join(replies))
        else:
            # RFC 6455 section 5.5.3: "it MAY elect to send a Pong frame for
            # only the most recently processed Ping frame": a peer that pings
            # and doesn't read fills no memory.
            self._pong = replies[-1]
        replies.clear()

    def _on_pong(self) -> None:
        payload = self.protocol.pong
        self.protocol.pong = None
        if self._ping is not None and self._ping[0] == payload:
            self.latency = time.monotonic() - self._ping[1]
            self._ping = None

    # Closing

    def _on_closing(self) -> None:
        """A close frame was sent or received, or the peer made a mistake."""
        # Read on, for the peer's close frame or the end of the stream; what
        # else comes is dropped.
        self._resume()
        if self._close_timer is None:
            self._start_close_timer()
        if self._outbox is None:
            self._after_flush()
        self._wake_all_receivers()

    def _after_flush(self) -> None:
        protocol = self.protocol
        if protocol.close_received:
            # Section 7.1.1: the server closes the TCP connection first.
            self._end()
        elif protocol.state is State.CLOSED and not self._is_half_closed:
            # Failed: closing with unread input would reset the connection, and
            # the peer might never see our close frame.  Read on to its end.
            self._is_half_closed = True
            try:
                self._sock.shutdown(socket.SHUT_WR)
            except OSError:
                self._on_lost()

    def _start_close_timer(self) -> None:
        timeout = self._close_timeout
        if timeout is not None:
            self._close_timer = self._hub.loop.timer(timeout)
            self._close_timer.start(
                self._on_close_timeout, self._outbox_size, update=True
            )

    def _on_close_timeout(self, outbox_size: int) -> None:
        self._close_timer.close()
        self._close_timer = None
        if self._outbox_size < outbox_size:
            # Slow, but still taking what was sent before the close frame.
            self._start_close_timer()
        else:
            self._on_lost()

    def _on_lost(self) -> None:
        self.protocol.receive_eof()
        self._end()

    def _on_error(self) -> None:
        logger.exception("internal error; the connection is dropped")
        self._on_lost()

    def _end(self) -> None:
        if self._sock is None:
            return
        self._heartbeat.discard(self)
        self._reader.stop()
        self._reader.close()
        if self._close_timer is not None:
            self._close_timer.close()
            self._close_timer = None
        sock, self._sock = self._sock, None
        self._fd = -1
        self._drop_outbox()
        self._wake_all_receivers()
        try:
            if self._owns_socket:
                sock.close()
            else:
                sock.shutdown(socket.SHUT_RDWR)
        except OSError as exc:
            logger.debug("the socket was closed already: %s", exc)
        self._hub.loop.run_callback(self._on_end)
        self._on_end = int  # once
