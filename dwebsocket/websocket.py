"""The object that views hold: ``request.websocket``.

Its methods are safe from any greenlet of the hub's thread.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from .exceptions import WebSocketError
from .frames import Buffer
from .protocol import Message
from .transport import Transport

if TYPE_CHECKING:
    from .groups.local import Membership

__all__ = ["WebSocket"]


class _Opener(Protocol):
    """What makes a connection of a WebSocket: an upgrade in progress."""

    def accept(
        self,
        subprotocol: str | None,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None,
    ) -> Transport: ...


class WebSocket:
    """A conversation with one client.

    It begins with ``accept()``, or with the first call of any method that reads
    or sends; until then the view may still answer with an HTTP response.  It
    ends when the view returns, when either side closes it or when the
    connection is lost.

    Text is ``str``, binary is ``bytes``.  Iteration yields each message and
    ends when the connection has closed.
    """

    __slots__ = (
        "__weakref__",
        "_id",
        "_memberships",
        "_on_message",
        "_opener",
        "_transport",
        "subprotocol",
        "user_id",
    )

    def __init__(self) -> None:
        self._opener: _Opener | None = None
        self._transport: Transport | None = None
        self._on_message: Callable[[Message], object] | None = None
        #: The subprotocol that both sides agreed on, or None.
        self.subprotocol: str | None = None
        #: Primary key of the user who was logged in, as a str, or None.
        self.user_id: str | None = None
        self._id: str | None = None
        self._memberships: dict[tuple[str, str], Membership] | None = None

    def __repr__(self) -> str:
        if self._transport is None:
            state = "not accepted"
        elif self.is_closed():
            state = f"closed {self.close_code}"
        else:
            state = "open"
        return f"<{type(self).__name__} {state}>"

    def accept(
        self,
        subprotocol: str | None = None,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
    ) -> None:
        """Accept the connection: answer the opening handshake with 101.

        ``subprotocol`` is one that the client offered; without it, the first of
        WEBSOCKET_SUBPROTOCOLS that it offered is used.  ``headers`` are added to
        the response.  Raises ValueError for a subprotocol or header that can't
        be sent, and for either of them when the connection is accepted already.
        """
        if self._transport is None:
            if self._opener is None:
                raise WebSocketError("this request isn't in a WebSocket view")
            self._transport = self._opener.accept(subprotocol, headers)
            self._opener = None
        elif subprotocol is not None or headers is not None:
            raise ValueError("the connection is accepted already")

    def wait(self, timeout: float | None = None) -> Message | None:
        """Return the next message, waiting for it ``timeout`` seconds at most.

        None means that the connection has closed or, if ``is_closed()`` is
        false, that the time passed.  A ``timeout`` of None or below 0 waits
        without limit.  Messages that came before a close are returned first.
        """
        if timeout is not None and timeout < 0:
            timeout = None
        message = self._accepted().receive(timeout)
        if self._on_message is not None and message is not None:
            self._on_message(message)
        return message

    def wait_json(self, timeout: float | None = None) -> Any:
        """Return the next message's JSON value; otherwise like ``wait``.

        JSON's null is None as well.  Raises ValueError
        (``json.JSONDecodeError`` or ``UnicodeDecodeError``) if it isn't JSON.
        """
        message = self.wait(timeout)
        if message is None:
            return None
        try:
            return json.loads(message)
        except RecursionError as exc:
            raise ValueError("the JSON is nested too deeply") from exc

    def read(self, fallback: Any = None) -> Any:
        """Return the next message if there is one, else ``fallback``, at once."""
        return self.wait() if self.has_messages() else fallback

    def has_messages(self) -> bool:
        """Tell whether a message can be read without waiting."""
        return self._accepted().count_messages() > 0

    def count_messages(self) -> int:
        """Return how many messages can be read without waiting."""
        return self._accepted().count_messages()

    def __iter__(self) -> Iterator[Message]:
        return self

    def __next__(self) -> Message:
        transport = self._transport
        if transport is None:
            transport = self._accepted()
        message = transport.receive()
        if message is None:
            raise StopIteration
        if self._on_message is not None:
            self._on_message(message)
        return message

    def send(self, message: str | Buffer) -> None:
        """Send a message: text for a str, binary for a bytes-like object.

        Suspends the greenlet while more than WEBSOCKET_SEND_BUFFER_SIZE bytes
        wait for the client.  Raises ConnectionClosed when the connection is
        closing or closed, TypeError for any other object.
        """
        transport = self._transport
        if transport is None:
            transport = self._accepted()
        transport.send(message)

    def send_nowait(self, message: str | Buffer) -> None:
        """Send a message without ever suspending the greenlet.

        For a sender that must not be held up by one client: when more than
        WEBSOCKET_SEND_BUFFER_SIZE bytes wait for the client already, the connection
        is closed with 1013.  Raises ConnectionClosed then; otherwise like ``send``.
        """
        self._accepted().send_nowait(message)

    def send_json(self, value: Any, **options: Any) -> None:
        """Send ``value`` as JSON text; ``options`` are those of ``json.dumps``.

        Dates, decimals and the like need ``cls=DjangoJSONEncoder``.
        """
        options.setdefault("separators", (",", ":"))
        self.send(json.dumps(value, **options))

    def join(self, group: str, **options: Any) -> None:
        """Get what is sent to a group, until the connection ends.

        See ``dwebsocket.groups.join``, which has the same options.
        """
        from . import groups

        groups.join(group, self, **options)

    def leave(self, group: str, *, using: str = "default") -> None:
        """Get what is sent to a group no longer."""
        from . import groups

        groups.leave(group, self, using=using)

    def ping(self, payload: Buffer = b"") -> None:
        """Send a ping with up to 125 bytes; its pong sets ``latency``."""
        self._accepted().ping(payload)

    def close(self, code: int | None = 1000, reason: str = "") -> None:
        """Close the connection, after what was sent before.

        Returns at once; the closing handshake is completed in the background.
        ``code`` is 1000 or another code that may be sent (RFC 6455 section 7.4;
        3000-4999 are free for applications), ``reason`` at most 123 bytes of
        UTF-8.  Raises ValueError otherwise.  Closing twice does nothing.
        """
        self._accepted().close(code, reason)

    def is_closed(self) -> bool:
        """Tell whether the connection is closing or closed: nothing can be sent.

        Messages that came before may still be there to read.
        """
        return self._transport is not None and not self._transport.is_open

    @property
    def close_code(self) -> int | None:
        """Code of the first close frame, sent or received; None while open.

        1005: it had none; 1006: the connection was lost without one.
        """
        return None if self._transport is None else self._transport.protocol.close_code

    @property
    def close_reason(self) -> str:
        """Reason of the first close frame, sent or received."""
        return "" if self._transport is None else self._transport.protocol.close_reason

    @property
    def latency(self) -> float | None:
        """Seconds that the last answered ping took, or None."""
        return None if self._transport is None else self._transport.latency

    @property
    def silence(self) -> float | None:
        """Seconds since the client's last sign of life, or None.

        Any byte received is one.  As exact as the heartbeat, an eighth of a
        quarter of WEBSOCKET_PING_INTERVAL; 0 where that is None.
        """
        return None if self._transport is None else self._transport.silence

    @property
    def id(self) -> str:
        """What ``dwebsocket.groups.send_to`` knows this by, in all processes.

        It can't be guessed.
        """
        if self._id is None:
            from . import groups

            self._id = groups.make_reachable(self)
        return self._id

    # For dwebsocket.groups

    @property
    def memberships(self) -> dict[tuple[str, str], Membership]:
        """Memberships by alias and channel."""
        if self._memberships is None:
            self._memberships = {}
        return self._memberships

    @property
    def transport(self) -> Transport:
        """The connection, which is accepted if it isn't yet."""
        return self._accepted()

    def _accepted(self) -> Transport:
        if self._transport is None:
            self.accept()
        assert self._transport is not None
        return self._transport
