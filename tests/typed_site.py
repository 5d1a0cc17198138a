"""What the code of a user looks like to type checkers, which read it in test_typing.

Each "type: ignore" is a mistake that they have to find: strict, they refuse those that
aren't needed.
"""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.test import TestCase
from django.urls import path
from typing_extensions import assert_type

from dwebsocket import (
    ConnectionClosed,
    WebSocket,
    WebSocketRequest,
    accept_websocket,
    groups,
    require_websocket,
)
from dwebsocket.authentication import bearer_token_required
from dwebsocket.messages import MessageView, TypedMessage, encode, handles, register
from dwebsocket.testing import ClientWebSocket, WebSocketTestMixin
from dwebsocket.views import WebSocketView


@require_websocket
def echo(request: WebSocketRequest) -> None:
    assert_type(request.websocket, WebSocket)
    assert_type(request.websocket.wait(), "str | bytes | None")
    for message in request.websocket:
        assert_type(message, "str | bytes")
        request.websocket.send(message)
    request.websocket.send(1)  # type: ignore[arg-type]
    request.websocket.sent("misspelt")  # type: ignore[attr-defined]


@accept_websocket
def lower(request: WebSocketRequest) -> HttpResponse | None:
    assert_type(request.is_websocket(), bool)
    if not request.is_websocket():
        return HttpResponse(request.GET["message"].lower())
    request.websocket.join("room", slow_consumer="drop-oldest")
    groups.join("room", request.websocket)
    return None


@login_required
@require_websocket(max_message_size=1000)
def member(request: WebSocketRequest, room: str) -> None:
    try:
        request.websocket.send_json({"user": request.user.get_username(), "room": room})
    except ConnectionClosed as exc:
        assert_type(exc.code, int)


@require_websocket(ping_interval=10.5, subprotocols=["chat"], rate_limit=["9/s"])
def options(request: WebSocketRequest) -> None: ...


require_websocket(max_queue="many")  # type: ignore[call-overload]
require_websocket(misspelt=1)  # type: ignore[call-overload]


@require_websocket  # type: ignore[arg-type]
def wrong(request: WebSocketRequest) -> str:
    return "not a response"


def get_user(token: str) -> object:
    return None


@bearer_token_required(get_user)
@require_websocket
def prices(request: WebSocketRequest) -> None: ...


class Echo(WebSocketView):
    def connect(self, request: HttpRequest, room: str) -> HttpResponse | None:
        self.room = room
        return None if request.user.is_authenticated else HttpResponse(status=403)

    def receive(self, message: str | bytes) -> None:
        assert_type(self.websocket, WebSocket)
        self.websocket.send(message)

    def disconnect(self, code: int) -> None:
        assert_type(self.room, str)


@register
def add(message: TypedMessage) -> int:
    return int(message.content)


@register("sub")
def subtract(message: TypedMessage) -> str:
    message.websocket.send(encode("chat.note", meta={"id": message.id}))
    return "-"


class Chat(MessageView):
    @handles("chat.say")
    def say(self, message: TypedMessage) -> None:
        self.websocket.send(str(message.content))


urlpatterns = [
    path("echo/", echo),
    path("lower/", lower),
    path("member/<room>/", member),
    path("prices/", prices),
    path("echo-handler/<room>/", Echo.as_view()),
    path("chat/", Chat.as_view()),
]

assert_type(add(TypedMessage(Chat(), "chat.add", 1, {}, None)), int)


# To pyright no attribute of a test case may become narrower.
class EchoTests(WebSocketTestMixin, TestCase):  # pyright: ignore[reportIncompatibleVariableOverride]
    def test_echo(self) -> None:
        with self.client.websocket_connect("/echo/") as websocket:
            assert_type(websocket, ClientWebSocket)
            websocket.send("Hello")
            assert_type(websocket.wait(), "str | bytes | None")
