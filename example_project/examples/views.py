"""The WebSocket views: this is all the code the server side of an example has.

The pages on which they can be tried are made in `pages`.
"""

from __future__ import annotations

import json

from django.contrib import messages
from django.contrib.auth import get_user_model
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import AbstractBaseUser
from django.core import signing
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render

from dwebsocket import (
    GroupError,
    WebSocket,
    accept_websocket,
    groups,
    require_websocket,
)
from dwebsocket.authentication import bearer_token_required
from dwebsocket.views import WebSocketView

from . import noise
from .forms import DamForm
from .models import Dam


@require_websocket
def echo_once(request: HttpRequest) -> None:
    message = request.websocket.wait()
    request.websocket.send(message)


@require_websocket(max_message_size=16 * 1024 * 1024)
def echo(request: HttpRequest) -> None:
    for message in request.websocket:
        request.websocket.send(message)


@accept_websocket
def lower(request: HttpRequest) -> HttpResponse | None:
    if not request.is_websocket():
        message = request.GET.get("message", "").lower()
        return HttpResponse(message, "text/plain; charset=utf-8")
    for message in request.websocket:
        request.websocket.send(message.lower())
    return None


@login_required
@require_websocket
def members(request: HttpRequest) -> None:
    request.websocket.send(f"Hello {request.user}")
    for message in request.websocket:
        request.websocket.send(f"{request.user} said {message}")


TOKEN_SALT = "examples.token"


def new_token(request: HttpRequest) -> HttpResponse:
    if not request.user.is_authenticated:
        return HttpResponse("Log in first.", status=403)
    token = signing.dumps(request.user.pk, salt=TOKEN_SALT)
    return JsonResponse({"token": token})


def find_token_user(token: str) -> AbstractBaseUser | None:
    key = signing.loads(token, salt=TOKEN_SALT, max_age=60)  # seconds
    return get_user_model().objects.filter(pk=key).first()


@bearer_token_required(find_token_user)
@require_websocket
def bearer_token(request: HttpRequest) -> None:
    request.websocket.send(f"Hello {request.user}, by your token")
    for message in request.websocket:
        request.websocket.send(f"{request.user} said {message}")


class EchoHandler(WebSocketView):
    def receive(self, message: str | bytes) -> None:
        self.websocket.send(message)


@require_websocket
def notifications(request: HttpRequest) -> None:
    request.websocket.join("dams")
    news = {"dams": list(Dam.objects.values()[:20]), "count": Dam.objects.count()}
    request.websocket.send_json(news)
    for _ in request.websocket:
        pass  # it only listens, until the page is closed


def dams(request: HttpRequest) -> HttpResponse:
    form = DamForm(request.POST or None)
    if form.is_valid():
        dam = form.save()
        messages.success(request, f"{dam} has been added.")
        return redirect("notifications")
    context = {"form": form, "dams": Dam.objects.all()[:20]}
    return render(request, "examples/notifications.html", context)


MAX_TOPICS = 20
MAX_TOPIC = 40  # characters


@require_websocket(max_message_size=65536)
def topics(request: HttpRequest) -> None:
    subscribed: set[str] = set()
    for message in request.websocket:
        try:
            obey(request.websocket, subscribed, message)
        except (GroupError, RecursionError, ValueError) as exc:
            request.websocket.send_json({"error": str(exc)})


def obey(websocket: WebSocket, subscribed: set[str], message: str | bytes) -> None:
    try:
        command = json.loads(message)
    except ValueError as exc:
        raise ValueError(f"Not JSON: {exc}") from exc
    if not isinstance(command, dict):
        raise ValueError("A message is an object with an action and a topic")
    action, topic = command.get("action"), command.get("topic")
    if not isinstance(topic, str) or not 0 < len(topic) <= MAX_TOPIC:
        raise ValueError(f"A topic is a string of 1 to {MAX_TOPIC} characters")
    group = f"topic.{topic}"
    if action == "publish":
        news = {"action": action, "topic": topic, "data": command.get("data")}
        groups.send(group, json.dumps(news, allow_nan=False))
        return
    if action == "subscribe":
        if len(subscribed | {topic}) > MAX_TOPICS:
            raise ValueError(f"A connection has at most {MAX_TOPICS} topics")
        websocket.join(group)
        subscribed.add(topic)
    elif action == "unsubscribe":
        websocket.leave(group)
        subscribed.discard(topic)
    else:
        raise ValueError("An action is publish, subscribe or unsubscribe")
    websocket.send_json({"action": action, "topic": topic})


@require_websocket
def noise_monitor(request: HttpRequest) -> None:
    request.websocket.join(noise.GROUP, slow_consumer="coalesce")
    noise.ensure_publisher()  # does nothing with Redis: see noise.py
    for _ in request.websocket:
        pass
