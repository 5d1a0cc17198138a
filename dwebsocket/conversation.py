"""A view and its connection: how they begin, go on together and end.

The view runs in a greenlet of its own and decides: an HTTP answer, an exception,
or to accept.  When the connection is there, the view goes on; when both have
ended, they are counted and logged, and ``websocket_closed`` is sent.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from contextvars import copy_context
from typing import Any

from django.http import HttpRequest
from gevent import GreenletExit, get_hub, getcurrent, kill
from gevent.event import Event
from gevent.hub import Waiter
from greenlet import greenlet

from . import databases, groups, handshake
from .address import find_client_address
from .context import Setter, call_setters, find_setters
from .deflate import Deflate
from .exceptions import ConnectionClosed, WebSocketError
from .failures import find_close_code, on_one_line, report
from .frames import CloseCode
from .limits import Limits
from .logins import find_login
from .protocol import Message
from .ratelimit import MessageLimiter
from .registry import Scope, registry
from .request import trim_request
from .signals import websocket_closed, websocket_message, websocket_opened
from .transport import Transport
from .websocket import WebSocket

__all__ = [
    "ACCEPTED",
    "Conversation",
    "ViewGreenlet",
]

logger = logging.getLogger("dwebsocket")

#: The decision to accept.
ACCEPTED = object()


class ViewGreenlet(greenlet):
    """A raw greenlet that ``gevent.kill`` can handle."""

    __slots__ = ("before_wait",)

    def __init__(self, run: Callable[..., Any], parent: greenlet) -> None:
        super().__init__(run, parent)
        #: See ``databases``; a slot, found without searching and without a dict.
        self.before_wait: Callable[[], object] | None = None

    @property
    def loop(self) -> Any:
        return get_hub().loop


class Conversation:
    """One view and its connection, from the request on.

    ``offered`` are the client's subprotocols; ``extension`` is the one agreed on:
    what the response says of it, and the thing itself; ``scope`` counts it;
    ``limiter`` is for its messages.
    """

    __slots__ = (
        "_decided",
        "_ended",
        "_is_connected",
        "_is_view_running",
        "_limiter",
        "_limits",
        "_offered",
        "_outcome",
        "_ready",
        "_request",
        "_scope",
        "_started_at",
        "_transport",
        "_websocket",
        "extension",
        "headers",
    )

    def __init__(
        self,
        request: HttpRequest,
        websocket: WebSocket,
        offered: list[str],
        limits: Limits,
        extension: tuple[str, Deflate] | None = None,
        scope: Scope = registry,
        limiter: MessageLimiter | None = None,
    ) -> None:
        #: None when a handler is done with it.
        self._request: Any = request
        self._websocket = websocket
        self._offered = offered
        self._limits = limits
        self._scope = scope
        self._limiter = limiter
        self.extension = extension
        #: Headers of the 101 response that are the view's own.
        self.headers: list[tuple[str, str]] = []
        self._outcome: Any = None
        self._decided: Waiter[Any] | None = None
        self._ready: Event | None = None
        self._ended: Event | None = None
        self._transport: Transport | None = None
        self._is_view_running = False
        self._is_connected = False

    # In the server's greenlet

    def run(
        self, view: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Start the view; return ACCEPTED, its response or the exception it raised."""
        hub = get_hub()
        self._decided = Waiter(hub)
        self._websocket._opener = self
        self._is_view_running = True
        self._scope.enter()
        # A function, not a bound method: one thing less on the view's C stack, which
        # is copied whenever it waits.
        greenlet = ViewGreenlet(type(self)._run_view, hub)
        greenlet.gr_context = context = copy_context()
        setters = find_setters(context)
        hub.loop.run_callback(greenlet.switch, self, view, args, kwargs, setters)
        try:
            self._decided.get()
        except BaseException:
            # The server gives up: a worker's end, say.
            kill(greenlet)
            raise
        finally:
            self._decided = None
        return self._outcome

    @property
    def request(self) -> HttpRequest:
        return self._request  # type: ignore[no-any-return]

    @property
    def subprotocol(self) -> str | None:
        return self._websocket.subprotocol

    def start(self, sock: Any, received: bytes, *, owns_socket: bool) -> None:
        """Start the conversation on a connected socket."""
        trim_request(self._request)
        self._transport = Transport(
            sock,
            self._limits,
            owns_socket=owns_socket,
            on_end=self._on_transport_end,
            deflate=None if self.extension is None else self.extension[1],
            limiter=self._limiter,
        )
        del self._limits, self._limiter, self.headers
        self.extension = None
        self._is_connected = True
        self._scope.add(self._transport)
        self._started_at = time.monotonic()
        registry.opened += 1
        if websocket_message.has_listeners(WebSocket):
            self._websocket._on_message = self._send_message_signal
        self._transport.start(received)
        if not self._is_view_running:
            # It was killed meanwhile.
            self._scope.enter()
            self._transport.close(CloseCode.GOING_AWAY)
        self._set_ready()

    def abort(self) -> None:
        """The connection didn't come about, or has to end now."""
        if self._transport is not None:
            self._transport.abort()
        else:
            self._set_ready()

    def wait(self) -> None:
        """Wait until view and connection have ended."""
        if self._is_view_running or self._is_connected:
            self._ended = Event()
            try:
                self._ended.wait()
            except BaseException:
                self.abort()
                raise

    # In the view's greenlet

    def accept(
        self,
        subprotocol: str | None,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None,
    ) -> Transport:
        """Decide to accept, and wait for the connection."""
        if self._outcome is None:
            checked = handshake.check_response_headers(headers)
            if subprotocol is not None and subprotocol not in self._offered:
                raise ValueError(f"the client doesn't offer {subprotocol!r}")
            # While an error can still be answered.
            groups.prepare_connection()
            login = find_login(self._request)
        if self._outcome is None:  # nor has another greenlet decided meanwhile
            self.headers = checked
            if subprotocol is not None:
                self._websocket.subprotocol = subprotocol
            del self._offered
            self._ready = Event()
            self._decide(ACCEPTED)
            self._websocket._transport = transport = self._wait_until_open()
            groups.add_websocket(self._websocket, login)
            websocket_opened.send(
                sender=WebSocket, request=self._request, websocket=self._websocket
            )
            return transport
        if self._outcome is not ACCEPTED:
            raise WebSocketError("the request has been answered already")
        if subprotocol is not None or headers is not None:
            raise ValueError("the connection is accepted already")
        return self._wait_until_open()

    def _wait_until_open(self) -> Transport:
        if self._ready is not None:
            # Middleware may need a database connection to answer, and the pool be
            # used up by views that wait for its answer.
            databases.release_used()
            self._ready.wait()
        if self._transport is None:
            raise ConnectionClosed(CloseCode.ABNORMAL_CLOSURE)
        return self._transport

    def _send_message_signal(self, message: Message) -> None:
        websocket_message.send(
            sender=WebSocket,
            request=self._request,
            websocket=self._websocket,
            message=message,
        )

    def _run_view(
        self,
        view: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        setters: tuple[Setter, ...],
    ) -> None:
        code: CloseCode | None = None
        try:
            databases.adopt()
            call_setters(setters)
            del setters  # a view may go on for days
            if args or kwargs:
                response = view(self._request, *args, **kwargs)
            else:  # without a call in C, which would be on that stack as well
                response = view(self._request)
            if self._outcome is None:
                if response is None:
                    self._websocket.accept()
                else:
                    self._decide(response)
        except BaseException as exc:
            code = find_close_code(exc)
            if self._outcome is None:
                self._decide(exc)
            else:
                self.on_error(exc)
        finally:
            self._end_view(code)

    def on_error(self, exc: BaseException) -> None:
        """Report an exception that ended the view; raise what isn't the view's."""
        if isinstance(exc, ConnectionClosed):
            logger.debug("the view ended: %s", on_one_line(str(exc)))
        elif isinstance(exc, Exception):
            path, _ = self.find_client()
            place = f"the WebSocket view of {on_one_line(path)}"
            report(place, self._request)
        elif not isinstance(exc, GreenletExit):
            raise exc  # KeyboardInterrupt and SystemExit are the hub's

    def _end_view(self, code: CloseCode | None) -> None:
        """The view has ended: by an exception, with ``code``, or it returned."""
        if self._transport is not None:
            self._transport.close(CloseCode.NORMAL_CLOSURE if code is None else code)
            self._transport.drop_inbox()
        self._is_view_running = False
        try:
            databases.close()
        finally:
            self._on_end()

    # Anywhere

    def _decide(self, outcome: Any) -> None:
        self._outcome = outcome
        if self._decided is not None:
            get_hub().loop.run_callback(self._decided.switch, None)

    def _set_ready(self) -> None:
        if self._ready is not None:
            self._ready.set()
            self._ready = None

    def _on_transport_end(self) -> None:
        self._is_connected = False
        assert self._transport is not None
        self._scope.discard(self._transport)
        groups.remove_websocket(self._websocket)
        self._on_end()

    def _on_end(self) -> None:
        if self._is_view_running or self._is_connected:
            return
        if self._transport is None:
            self._leave()
        elif isinstance(getcurrent(), ViewGreenlet):
            self._finish()
        else:
            # The hub, or a server's greenlet that may be killed any time.
            hub = get_hub()
            hub.loop.run_callback(ViewGreenlet(self._finish, hub).switch)

    def _finish(self) -> None:
        """View and connection have ended: count, log, send the signal."""
        assert self._transport is not None
        try:
            databases.adopt()
            protocol = self._transport.protocol
            code = protocol.close_code or int(CloseCode.ABNORMAL_CLOSURE)
            duration = time.monotonic() - self._started_at
            registry.note_end(self._transport, code)
            self._log_end(code, duration)
            websocket_closed.send(
                sender=WebSocket,
                request=self._request,
                websocket=self._websocket,
                code=code,
                reason=protocol.close_reason,
                duration=duration,
            )
        finally:
            self._leave()
            databases.close()

    def _log_end(self, code: int, duration: float) -> None:
        transport = self._transport
        assert transport is not None
        path, user = self.find_client()
        logger.info(
            "%s closed by %s with %d after %.1f s, user %s, "
            "in %d messages %d bytes, out %d messages %d bytes",
            on_one_line(path),
            transport.protocol.closed_by,
            code,
            duration,
            "unknown" if user is None else user,
            transport.messages_in,
            transport.bytes_in,
            transport.messages_out,
            transport.bytes_out,
        )

    def _leave(self) -> None:
        self._scope.leave()
        if self._ended is not None:
            self._ended.set()

    # For the log line, and who lists connections

    @property
    def websocket(self) -> WebSocket:
        return self._websocket

    @property
    def started_at(self) -> float:
        """When the connection was opened, by ``time.monotonic()``."""
        return self._started_at

    def find_client(self) -> tuple[str, Any]:
        """Return the path and the user's primary key, None if it isn't known."""
        # Not request.user, which might ask the database.
        user = getattr(self._request, "_cached_user", None)
        return self._request.path, None if user is None else user.pk

    def find_address(self) -> str:
        """Return the client's address; "" if it isn't known."""
        return find_client_address(self._request)
