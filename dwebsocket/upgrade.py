"""From a request to a conversation: the one upgrade path.

``run_view`` runs in the server's greenlet, inside Django's middleware chain.
It starts the view in a greenlet of its own and waits for its decision: an HTTP
answer, an exception, or to accept.  Accepting gives a 101 response, which goes
back through the chain; when the server has sent it and the HTTP request is
over, the view goes on with an open connection.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from django.core.exceptions import (
    BadRequest,
    ImproperlyConfigured,
    PermissionDenied,
    SuspiciousOperation,
)
from django.db import DEFAULT_DB_ALIAS, connections
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from greenlet import greenlet

from . import handshake
from .address import find_client_network
from .conf import Settings, UpgradeSettings
from .conversation import ACCEPTED, Conversation
from .deflate import negotiate
from .exceptions import HandshakeError, UnsupportedServer
from .gateway import SCOPE, Gateway, find_gateway
from .logins import find_login
from .ratelimit import MessageLimiter, buckets
from .registry import registry
from .switching import SwitchingProtocols
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

#: Seconds after which a client that was refused with 503 may try again: when there
#: are too many, and when the worker is ending, beside others or before its successor.
_RETRY_AFTER_FULL = 5
_RETRY_AFTER_DRAINING = 1


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

    ``request.websocket`` is a WebSocket that waits for its view, or None.  Views see
    no difference between a WebSocket request and a probe.
    """
    if not hasattr(request, "is_websocket"):
        meta = request.META
        is_websocket = handshake.is_websocket_request(meta) or handshake.is_probe(meta)
        request.is_websocket = _is_websocket if is_websocket else _is_not_websocket  # type: ignore[attr-defined]
        request.websocket = WebSocket() if is_websocket else None  # type: ignore[attr-defined]
    return request.is_websocket()  # type: ignore[no-any-return,attr-defined]


def run_view(
    request: HttpRequest,
    view: View,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    settings: Settings,
    conversation_class: Callable[..., Conversation] = Conversation,
) -> HttpResponseBase:
    """Run a view for a WebSocket request and return the response to it.

    That is the view's own, or a 101, or a refusal of the handshake.  Raises
    what the view raises before it accepts.  A probe gets 204 for a 101.
    """
    websocket: WebSocket = request.websocket  # type: ignore[attr-defined]
    if websocket._transport is not None or websocket._opener is not None:
        # Decorated twice: the outer decorator has done the work.
        if conversation_class is not Conversation:
            raise ImproperlyConfigured("a WebSocketView needs no decorator of ours")
        return view(request, *args, **kwargs)  # type: ignore[no-any-return]
    try:
        gateway = find_gateway(request.META)
        if not gateway.is_test and are_connections_shared():
            raise UnsupportedServer(
                "WebSockets don't work here because Django was imported before "
                "gevent patched the standard library: all connections would share "
                "one database connection. Don't use gunicorn's --preload; call "
                "gevent.monkey.patch_all() before anything else is imported."
            )
    except UnsupportedServer as exc:
        logger.error("%s", exc, extra={"request": request})
        _count_refusal(request, 501)
        return _plain_text(str(exc), 501)
    try:
        conversation = conversation_class(
            *_check_handshake(request, websocket, settings.upgrade, gateway)
        )
    except HandshakeError as exc:
        _count_refusal(request, exc.status_code)
        gateway.refuse(str(exc))
        return refuse(exc)
    outcome = conversation.run(view, args, kwargs)
    if outcome is ACCEPTED:
        if handshake.is_probe(request.META):
            conversation.abort()
            return HttpResponse(status=204)
        return SwitchingProtocols(conversation, gateway)
    status = _get_status(outcome)
    _count_refusal(request, status)
    gateway.refuse(f"The request was refused with status {status}.")
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome  # type: ignore[no-any-return]


def _count_refusal(request: HttpRequest, status: int) -> None:
    if not handshake.is_probe(request.META):
        registry.refused[status] += 1


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
    request: HttpRequest,
    websocket: WebSocket,
    settings: UpgradeSettings,
    gateway: Gateway,
) -> tuple[Any, ...]:
    """Return the arguments of a Conversation; raise HandshakeError."""
    environ = request.META
    if not handshake.is_probe(environ):
        handshake.check_request(environ)
    handshake.check_origin(
        environ,
        host=request.get_host(),
        is_secure=request.is_secure(),
        allowed=settings.allowed_origins,
    )
    names = _find_names(request, settings)
    for rate_limit in settings.handshake_rate_limits:
        wait = buckets.take(rate_limit, names[rate_limit.per])
        if wait:
            raise HandshakeError(
                "Too many connections were opened.",
                status_code=429,
                headers={"Retry-After": str(math.ceil(wait))},
            )
    limit = settings.max_connections
    scope = environ.get(SCOPE, registry)
    if scope.is_draining or (limit is not None and registry.open >= limit):
        seconds = _RETRY_AFTER_DRAINING if scope.is_draining else _RETRY_AFTER_FULL
        raise HandshakeError(
            "The server takes no more connections now.",
            status_code=503,
            headers={"Retry-After": str(seconds)},
        )
    offered = handshake.parse_subprotocols(environ)
    websocket.subprotocol = handshake.choose_subprotocol(offered, settings.subprotocols)
    extension = None
    compression = settings.compression
    if compression is not None and not gateway.is_switched:
        extension = negotiate(handshake.parse_extensions(environ), compression)
    limiter = None
    if settings.rate_limits:
        limiter = MessageLimiter(settings.rate_limits, names)
    return request, websocket, offered, settings.limits, extension, scope, limiter


def _find_names(request: HttpRequest, settings: UpgradeSettings) -> dict[str, str]:
    """Return with whom the request shares its rate limits, by ``RateLimit.per``."""
    limits = [*settings.rate_limits, *settings.handshake_rate_limits]
    if not limits:
        return {}
    address = f"address {find_client_network(request)}"
    # Those who aren't logged in are told apart by their addresses.
    names = {"address": address, "user": address}
    if any(limit.per == "user" for limit in limits):
        login = find_login(request)
        if login is not None:
            names["user"] = f"user {login.user_id}"
    return names


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
