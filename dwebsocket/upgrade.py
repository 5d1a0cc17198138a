"""From a request to a conversation: the one upgrade path.

``run_view`` runs in the server's greenlet, inside Django's middleware chain.
It starts the view in a greenlet of its own and waits for its decision: an HTTP
answer, an exception, or to accept.  Accepting gives a 101 response, which goes
back through the chain; when the server has sent it and the HTTP request is
over, the view goes on with an open connection.
"""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import copy_context
from functools import cache
from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.core.signals import got_request_exception
from django.db import DEFAULT_DB_ALIAS, connections
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.urls import get_script_prefix, get_urlconf, set_script_prefix, set_urlconf
from django.utils import timezone, translation
from gevent import GreenletExit, get_hub, getcurrent, kill
from gevent.event import Event
from gevent.hub import Waiter
from greenlet import greenlet

from . import handshake
from .conf import Settings
from .exceptions import (
    ConnectionClosed,
    HandshakeError,
    UnsupportedServer,
    WebSocketError,
)
from .frames import CloseCode
from .gateway import Gateway, find_gateway
from .protocol import Message
from .registry import registry
from .signals import websocket_closed, websocket_message, websocket_opened
from .transport import Limits, Transport
from .websocket import WebSocket

__all__ = [
    "View",
    "are_connections_shared",
    "prepare_request",
    "refuse",
    "refuse_http",
    "run_view",
]

logger = logging.getLogger("dwebsocket")

View = Callable[..., Any]

#: Seconds after which a client that was refused with 503 may try again.
_RETRY_AFTER = 5

#: environ entries that belong to the HTTP request and hold on to the server.
_HTTP_ONLY = (
    "dwebsocket.handover",
    "gunicorn.sock",
    "gunicorn.socket",
    "wsgi.early_hints",
    "wsgi.errors",
    "wsgi.file_wrapper",
    "wsgi.input",
    "wsgi.websocket",
)

_ACCEPTED = object()


@cache
def are_connections_shared() -> bool:
    """Tell whether two greenlets get the same database connection.

    They do when ``django.db`` was imported before gevent patched ``threading``.
    """
    seen: list[Any] = []
    greenlet(lambda: seen.append(connections[DEFAULT_DB_ALIAS])).switch()
    return seen[0] is connections[DEFAULT_DB_ALIAS]


def prepare_request(request: HttpRequest) -> bool:
    """Set ``request.is_websocket`` and ``request.websocket``; return the former.

    ``request.websocket`` is a WebSocket that waits for its view, or None.
    """
    if not hasattr(request, "is_websocket"):
        is_websocket = handshake.is_websocket_request(request.META)
        request.is_websocket = _is_websocket if is_websocket else _is_not_websocket  # type: ignore[attr-defined]
        request.websocket = WebSocket() if is_websocket else None  # type: ignore[attr-defined]
    return request.is_websocket()  # type: ignore[no-any-return,attr-defined]


def run_view(
    request: HttpRequest,
    view: View,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    settings: Settings,
) -> HttpResponseBase:
    """Run a view for a WebSocket request and return the response to it.

    That is the view's own, or a 101, or a refusal of the handshake.  Raises
    what the view raises before it accepts.
    """
    websocket: WebSocket = request.websocket  # type: ignore[attr-defined]
    if websocket._transport is not None or websocket._opener is not None:
        # Decorated twice: the outer decorator has done the work.
        return view(request, *args, **kwargs)  # type: ignore[no-any-return]
    try:
        gateway = find_gateway(request.META)
        if are_connections_shared():
            raise UnsupportedServer(
                "WebSockets don't work here because Django was imported before "
                "gevent patched the standard library: all connections would share "
                "one database connection. Don't use gunicorn's --preload; call "
                "gevent.monkey.patch_all() before anything else is imported."
            )
    except UnsupportedServer as exc:
        logger.error("%s", exc, extra={"request": request})
        registry.refused[501] += 1
        return _plain_text(str(exc), 501)
    try:
        upgrade = _check_handshake(request, websocket, settings)
    except HandshakeError as exc:
        registry.refused[exc.status_code] += 1
        gateway.refuse(str(exc))
        return refuse(exc)
    outcome = upgrade.run(view, args, kwargs)
    if outcome is _ACCEPTED:
        return _SwitchingProtocols(upgrade, gateway)
    status = _get_status(outcome)
    registry.refused[status] += 1
    gateway.refuse(f"The request was refused with status {status}.")
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome  # type: ignore[no-any-return]


def _get_status(outcome: Any) -> int:
    """Return the status that Django will answer with (``response_for_exception``)."""
    if isinstance(outcome, HttpResponseBase):
        return outcome.status_code
    if isinstance(outcome, Http404):
        return 404
    if isinstance(outcome, PermissionDenied):
        return 403
    if isinstance(outcome, (BadRequest, SuspiciousOperation)):
        return 400
    return 500


def refuse(error: HandshakeError) -> HttpResponse:
    """Turn a HandshakeError into a response."""
    return _plain_text(str(error), error.status_code, error.headers)


def refuse_http(request: HttpRequest) -> HttpResponse:
    """Answer a plain HTTP request to a view that requires a WebSocket."""
    headers = {}
    # wsgiref, Django's own runserver, fails on hop-by-hop headers (PEP 3333).
    if not request.META.get("SERVER_SOFTWARE", "").startswith("WSGIServer/"):
        headers["Upgrade"] = "websocket"
    return _plain_text("This URL needs a WebSocket connection.", 400, headers)


def _check_handshake(
    request: HttpRequest, websocket: WebSocket, settings: Settings
) -> _Upgrade:
    environ = request.META
    handshake.check_request(environ)
    handshake.check_origin(
        environ,
        host=request.get_host(),
        is_secure=request.is_secure(),
        allowed=settings.allowed_origins,
    )
    limit = settings.max_connections
    if registry.is_draining or (limit is not None and registry.open >= limit):
        raise HandshakeError(
            "The server takes no more connections now.",
            status_code=503,
            headers={"Retry-After": str(_RETRY_AFTER)},
        )
    offered = handshake.parse_subprotocols(environ)
    websocket.subprotocol = handshake.choose_subprotocol(offered, settings.subprotocols)
    return _Upgrade(request, websocket, offered, settings.limits)


def _plain_text(
    text: str, status: int, headers: Mapping[str, str] | None = None
) -> HttpResponse:
    return HttpResponse(
        text + "\n",
        status=status,
        headers=headers,
        content_type="text/plain; charset=utf-8",
    )


def _is_websocket() -> bool:
    return True


def _is_not_websocket() -> bool:
    return False


class _ViewGreenlet(greenlet):
    """A raw greenlet that ``gevent.kill`` can handle."""

    __slots__ = ()

    @property
    def loop(self) -> Any:
        return get_hub().loop


class _Upgrade:
    """One request on its way, then what keeps view and connection together."""

    __slots__ = (
        "_decided",
        "_ended",
        "_is_connected",
        "_is_view_running",
        "_limits",
        "_offered",
        "_outcome",
        "_ready",
        "_request",
        "_started_at",
        "_transport",
        "_websocket",
        "headers",
    )

    def __init__(
        self,
        request: HttpRequest,
        websocket: WebSocket,
        offered: list[str],
        limits: Limits,
    ) -> None:
        self._request = request
        self._websocket = websocket
        self._offered = offered
        self._limits = limits
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

    def run(self, view: View, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Start the view; return its decision.

        That is ``_ACCEPTED``, the response it returned or the exception it
        raised.
        """
        hub = get_hub()
        self._decided = Waiter(hub)
        self._websocket._opener = self
        self._is_view_running = True
        registry.enter()
        greenlet = _ViewGreenlet(self._run_view, hub)
        greenlet.gr_context = copy_context()
        hub.loop.run_callback(greenlet.switch, view, args, kwargs, _get_locals())
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
        return self._request

    @property
    def subprotocol(self) -> str | None:
        return self._websocket.subprotocol

    def start(self, sock: Any, received: bytes, *, owns_socket: bool) -> None:
        """Start the conversation on a connected socket."""
        _forget_http(self._request)
        self._transport = Transport(
            sock,
            self._limits,
            owns_socket=owns_socket,
            on_end=self._on_transport_end,
        )
        self._is_connected = True
        self._started_at = time.monotonic()
        registry.opened += 1
        if websocket_message.has_listeners(WebSocket):
            self._websocket._on_message = self._send_message_signal
        self._transport.start(received)
        if not self._is_view_running:
            # It was killed meanwhile.
            registry.enter()
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
            if subprotocol is not None:
                if subprotocol not in self._offered:
                    raise ValueError(f"the client doesn't offer {subprotocol!r}")
                self._websocket.subprotocol = subprotocol
            self.headers = checked
            self._ready = Event()
            self._decide(_ACCEPTED)
            transport = self._wait_until_open()
            websocket_opened.send(
                sender=WebSocket, request=self._request, websocket=self._websocket
            )
            return transport
        elif self._outcome is not _ACCEPTED:
            raise WebSocketError("the request has been answered already")
        return self._wait_until_open()

    def _wait_until_open(self) -> Transport:
        if self._ready is not None:
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
        view: View,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        values: _Locals | None,
    ) -> None:
        code = CloseCode.NORMAL_CLOSURE
        try:
            assert values is not None
            _set_locals(*values)
            values = None
            response = view(self._request, *args, **kwargs)
            if self._outcome is None:
                if response is None:
                    self._websocket.accept()
                else:
                    self._decide(response)
        except ConnectionClosed as exc:
            if self._outcome is None:
                self._decide(exc)
            else:
                logger.debug("the view ended: %s", exc)
        except GreenletExit as exc:
            code = CloseCode.GOING_AWAY
            if self._outcome is None:
                self._decide(exc)
        except BaseException as exc:
            code = CloseCode.INTERNAL_ERROR
            if self._outcome is None:
                self._decide(exc)
            elif isinstance(exc, Exception):
                self._report()
            else:
                raise  # KeyboardInterrupt and SystemExit are the hub's
        finally:
            self._end_view(code)

    def _report(self) -> None:
        request = self._request
        logger.exception(
            "Internal error in the WebSocket view of %s",
            request.path,
            extra={"request": request},
        )
        got_request_exception.send(sender=None, request=request)

    def _end_view(self, code: CloseCode) -> None:
        if self._transport is not None:
            self._transport.close(code)
            self._transport.drop_inbox()
        self._is_view_running = False
        try:
            for connection in connections.all(initialized_only=True):
                connection.close()
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
        self._on_end()

    def _on_end(self) -> None:
        if self._is_view_running or self._is_connected:
            return
        if self._transport is None:
            self._leave()
        elif isinstance(getcurrent(), _ViewGreenlet):
            self._finish()
        else:
            # The hub, or a server's greenlet that may be killed any time.
            hub = get_hub()
            hub.loop.run_callback(_ViewGreenlet(self._finish, hub).switch)

    def _finish(self) -> None:
        """View and connection have ended: count, log, send the signal."""
        assert self._transport is not None
        try:
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

    def _log_end(self, code: int, duration: float) -> None:
        transport = self._transport
        assert transport is not None
        # Not request.user, which might ask the database.
        user = getattr(self._request, "_cached_user", None)
        logger.info(
            "%s closed by %s with %d after %.1f s, user %s, "
            "in %d messages %d bytes, out %d messages %d bytes",
            self._request.path,
            transport.protocol.closed_by,
            code,
            duration,
            "unknown" if user is None else user.pk,
            transport.messages_in,
            transport.bytes_in,
            transport.messages_out,
            transport.bytes_out,
        )

    def _leave(self) -> None:
        registry.leave()
        if self._ended is not None:
            self._ended.set()


# What Django keeps per request in asgiref.Locals.  Those are context variables,
# but since asgiref 3.12 visible to the thread only that set them: the greenlet.
_Locals = tuple[str | None, Any, Any, str]


def _get_locals() -> _Locals:
    return (
        translation.get_language(),
        timezone.get_current_timezone(),
        get_urlconf(django_settings.ROOT_URLCONF),
        get_script_prefix(),
    )


def _set_locals(language: str | None, zone: Any, urlconf: Any, prefix: str) -> None:
    if language is None:
        translation.deactivate_all()
    elif language != translation.get_language():
        translation.activate(language)
    if zone != timezone.get_current_timezone():
        timezone.activate(zone)
    if urlconf != get_urlconf(django_settings.ROOT_URLCONF):
        set_urlconf(urlconf)
    if prefix != get_script_prefix():
        set_script_prefix(prefix)


def _forget_http(request: HttpRequest) -> None:
    """Let go of what only HTTP needed, while the view keeps the request."""
    for name in _HTTP_ONLY:
        request.META.pop(name, None)
    request._stream = io.BytesIO()


class _SwitchingProtocols(HttpResponse):
    """The 101 response, which the server's iteration turns into a connection."""

    status_code = 101

    def __init__(self, upgrade: _Upgrade, gateway: Gateway) -> None:
        super().__init__()
        self._upgrade = upgrade
        self._gateway = gateway
        self._is_started = False
        self._on_close: tuple[Any, bytes] | None = None
        self._accept_key = handshake.accept_key(upgrade.request.META)
        for name, value in upgrade.headers:
            if name.lower() == "set-cookie":
                self.cookies.load(value)
            else:
                self[name] = f"{self[name]}, {value}" if name in self else value

    def __del__(self) -> None:
        # A middleware returned another response instead, or the server failed.
        if not self._is_started:
            self.abort()

    def items(self) -> list[tuple[str, str]]:
        """Return all headers but the cookies, the handshake's being final."""
        headers = [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Accept", self._accept_key),
        ]
        if self._upgrade.subprotocol is not None:
            headers.append(("Sec-WebSocket-Protocol", self._upgrade.subprotocol))
        headers += (
            (name, value)
            for name, value in self.headers.items()
            if not name.lower().startswith(("content-", "sec-websocket-"))
            and name.lower() not in ("connection", "transfer-encoding", "upgrade")
        )
        return headers

    def __iter__(self) -> Iterator[bytes]:
        return self._gateway.respond(self)

    def close(self) -> None:
        self.finish_request()
        if self._on_close is not None:
            (sock, received), self._on_close = self._on_close, None
            self.start(sock, received, owns_socket=True)

    # gateway.Switch

    def head(self) -> bytes:
        cookies = (("Set-Cookie", c.OutputString()) for c in self.cookies.values())
        lines = [f"{name}: {value}\r\n" for name, value in (*self.items(), *cookies)]
        head = f"HTTP/1.1 101 Switching Protocols\r\n{''.join(lines)}\r\n"
        return head.encode("latin-1")

    def finish_request(self) -> None:
        if not self.closed:
            super().close()

    def on_close(self, sock: Any, received: bytes) -> None:
        self._on_close = (sock, received)

    def start(self, sock: Any, received: bytes, *, owns_socket: bool) -> None:
        self._is_started = True
        self._upgrade.start(sock, received, owns_socket=owns_socket)

    def abort(self) -> None:
        self._is_started = True
        self._upgrade.abort()

    def wait(self) -> None:
        self._upgrade.wait()
