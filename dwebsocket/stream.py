"""One connection on gevent's hub: reading and closing.

Theory of operation:

* A read watcher, never stopped while reading is wanted, calls ``_on_readable``
  in the hub.
* Complete messages go to the inbox, and the greenlets that wait for them go on when
  the hub has read from all connections.  A full inbox stops the watcher: TCP holds the
  peer back, nothing is dropped.
* What runs in the hub never blocks, never raises and never runs user code.
* Closing is the hub's: ``close`` starts it and returns.

Writing is ``writer``'s, the inbox ``inbox``'s, waiting ``transport``'s.

TLS sockets are used without blocking (timeout 0) and differ in three ways only:
at the start they may hold decrypted data back, they can't ``sendmsg``, and they
say "would block" in their own words.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .deflate import Deflate
from .inbox import Inbox
from .limits import Limits
from .protocol import Message, State
from .syscalls import WouldBlock, receive_into

if TYPE_CHECKING:
    from . import uncompiled as cython
    from .ratelimit import MessageLimiter
else:
    try:
        import cython
    except ImportError:
        from . import uncompiled as cython

__all__ = ["Stream"]

logger = logging.getLogger("dwebsocket")

_OPEN = State.OPEN
_READ = 1


class Stream(Inbox):
    """Moves bytes between a connected socket and inbox and outbox.

    ``sock`` is a plain non-blocking socket, or gevent's SSLSocket.  It is
    closed at the end when ``owns_socket``, else only shut down: then the server
    closes it.  ``on_end`` is called once, from the hub, when the connection is
    over.  ``limiter`` says which messages are received.
    """

    __slots__ = (
        "__weakref__",
        "_close_timeout",
        "_close_timer",
        "_is_half_closed",
        "_is_paused",
        "_on_end",
        "_owns_socket",
        "_ping",
        "_reader",
        "bytes_in",
        "latency",
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
        limiter: MessageLimiter | None = None,
    ) -> None:
        super().__init__(sock, limits, deflate, limiter)
        self._owns_socket = owns_socket
        self._close_timeout = limits.close_timeout
        self._on_end = on_end
        #: Seconds from the last answered ping to its pong, or None.
        self.latency: float | None = None
        self._ping: tuple[bytes, float] | None = None
        self._is_paused = False
        self._is_half_closed = False
        self._close_timer: Any = None
        self._reader = self._hub.loop.io(sock.fileno(), _READ)
        #: Bytes of frames received.
        self.bytes_in = 0
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
        return self.protocol.state is _OPEN

    @property
    def silence(self) -> float:
        """Seconds since something was received, as exact as heartbeats are."""
        return self._heartbeat.clock - self.heard_at

    @property
    def owner(self) -> Any:
        """The conversation, whose method ``on_end`` is; None when it is over."""
        return getattr(self._on_end, "__self__", None)

    @property
    def peer_address(self) -> str:
        """IP address of the other end of the socket; "" if there is none."""
        try:
            name = self._sock.getpeername()
        except (AttributeError, OSError):
            return ""  # the connection is over
        # IPv4 clients of a socket that is open for both.
        return name[0].removeprefix("::ffff:") if isinstance(name, tuple) else ""

    def close(self, code: int | None = 1000, reason: str = "") -> None:
        """Start the closing handshake, behind all that is queued.

        Does nothing when the connection is closing or closed.  Raises ValueError
        for a code or reason that must not be sent.
        """
        if not self.is_open:
            return
        frame = self.protocol.start_close(code, reason)
        if self._backlog is not None:
            self._queue_backlog()
        self._queue(frame)
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
        protocol = self.protocol
        buffer = self._shared.buffer
        try:
            try:
                room = None
                if protocol.message is not None:
                    room = protocol.get_buffer()
                if room is not None:
                    size = receive_into(self._sock, room)
                elif cython.compiled and self._fd >= 0:
                    size = receive(self._fd, buffer)  # noqa: F821
                else:
                    size = self._sock.recv_into(buffer)
            except WouldBlock:
                return
            except OSError:
                size = 0
            if not size:
                self._on_lost()
            elif room is not None:
                self._on_received(protocol.buffer_filled(size), size)
            else:
                self._on_received(protocol.receive_octets(buffer, size), size)
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
                self._on_received(self.protocol.receive_data(received), len(received))
            except Exception:
                self._on_error()

    def _on_received(self, received: Message | list[Message], size: int) -> None:
        """Take what ``size`` bytes of the peer have given, as Protocol returned it."""
        protocol = self.protocol
        self.heard_at = self._heartbeat.clock
        self.bytes_in += size
        # An empty message is one as well.
        if received or not isinstance(received, list):
            if self._store(received):
                self._pause()
            self._wake_later()
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

    def _resume_below_limit(self) -> None:
        # Not at the limit, but well below: else each message would stop and
        # start the watcher.
        if (
            self.count_messages() <= self._max_queue // 2
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
        self._wake_later()

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
        self._backlog = None
        self._drop_outbox()
        self._wake_later()
        try:
            if self._owns_socket:
                sock.close()
            else:
                sock.shutdown(socket.SHUT_RDWR)
        except OSError as exc:
            logger.debug("the socket was closed already: %s", exc)
        self._hub.loop.run_callback(self._on_end)
        self._on_end = int  # once
