"""Views of the test site whose messages or handshakes are limited."""

from __future__ import annotations

from typing import Any

import gevent
from django.http import HttpRequest, HttpResponse
from django.urls import path

from dwebsocket import groups, require_websocket, stats


def echo(request: HttpRequest) -> None:
    """Echo messages, and get what is sent to the group that the query names."""
    websocket = request.websocket
    websocket.join(request.GET.get("group", ""))
    websocket.send("ready")
    for message in websocket:
        websocket.send(message)


def busy(request: HttpRequest) -> None:
    """Read nothing while the connection is there."""
    request.websocket.send("ready")
    while not request.websocket.is_closed():
        gevent.sleep(0.01)


def send(request: HttpRequest) -> HttpResponse:
    groups.send(request.GET["group"], request.GET["message"])
    return HttpResponse()


def outbox(request: HttpRequest) -> HttpResponse:
    """Return how many bytes wait for clients."""
    return HttpResponse(str(stats()["outbox_bytes"]))


def limit(count: int, **options: Any) -> dict[str, Any]:
    """Return a rate that doesn't let anything more through during a test."""
    return {"rate": "1/d", "burst": count, **options}


def limited(view: Any, **options: Any) -> Any:
    return require_websocket(rate_limit=limit(3, **options))(view)


FAST = {"rate": "1000/s", "burst": 1000}

urlpatterns = [
    path("send/", send),
    path("outbox/", outbox),
    path("close/", limited(echo)),
    path("drop/", limited(echo, over="drop")),
    path("error/", limited(echo, over="error")),
    path("busy/", limited(busy)),
    path("both/", require_websocket(rate_limit=[FAST, limit(3)])(echo)),
    path("user/", limited(echo, per="user")),
    path("address/", limited(echo, per="address")),
    path("handshake/", require_websocket(handshake_rate_limit=limit(2))(echo)),
    path(
        "handshake-user/",
        require_websocket(handshake_rate_limit=limit(2, per="user"))(echo),
    ),
    path(
        "handshake-retry/",
        require_websocket(handshake_rate_limit={"rate": "1/m", "burst": 1})(echo),
    ),
]
