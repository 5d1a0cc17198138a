"""Handlers of the test site, and their URLs."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.mixins import LoginRequiredMixin
from django.http import HttpRequest, HttpResponse
from django.urls import path

import dwebsocket
from dwebsocket.views import WebSocketView


class Echo(WebSocketView):
    def receive(self, message: str | bytes) -> None:
        self.websocket.send(message)


class Room(LoginRequiredMixin, WebSocketView):
    """Keeps what ``connect`` found out, and has a page at the same URL."""

    def connect(self, request: HttpRequest, name: str) -> HttpResponse | None:
        if name == "secret":
            return HttpResponse("not you", status=403)
        self.greeting = f"{request.user} in {name}"
        return None

    def receive(self, message: str | bytes) -> None:
        self.websocket.send(f"{self.greeting}: {message!r}")

    def get(self, request: HttpRequest, name: str) -> HttpResponse:
        return HttpResponse(f"the page of {name}")


class Fail(WebSocketView):
    def receive(self, message: str | bytes) -> None:
        raise ZeroDivisionError("after the upgrade")


class Create(WebSocketView):
    def receive(self, message: str | bytes) -> None:
        User = get_user_model()
        User.objects.create(username=message)
        self.websocket.send(str(User.objects.filter(username=message).count()))


urlpatterns: list[Any] = [
    path("echo/", Echo.as_view()),
    path("room/<str:name>/", Room.as_view()),
    path("fail/", Fail.as_view()),
    path("messages/", dwebsocket.messages.endpoint),
    path("create/", Create.as_view()),
]
