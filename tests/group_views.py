"""Views of the test site that are members of groups, and such that send to them."""

from __future__ import annotations

import json
import os
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from dwebsocket import GroupError, groups, require_websocket, stats
from dwebsocket.groups.backends import get_backend


@require_websocket
def member(request: HttpRequest) -> None:
    """Join the groups that the query names, tell the own id, do what is asked for.

    A message is the name of a method or function and its arguments, as JSON; the
    answer is its result.
    """
    websocket = request.websocket
    options = json.loads(request.GET.get("options", "{}"))
    for name in request.GET.getlist("group"):
        websocket.join(name, **options)
    websocket.send_json({"id": websocket.id, "pid": os.getpid()})
    for message in websocket:
        name, *arguments = json.loads(message)
        if name in ("join", "leave", "close"):
            result = getattr(websocket, name)(*arguments)
        else:
            result = getattr(groups, name)(*arguments)
        websocket.send_json({"result": result})


@require_websocket(send_buffer_size=200_000)
def slow(request: HttpRequest) -> None:
    """A member with the policy that the query names; sends nothing itself."""
    websocket = request.websocket
    for name in request.GET.getlist("group"):
        websocket.join(name, slow_consumer=request.GET.get("policy"))
    websocket.send("joined")
    for _ in websocket:
        pass


@csrf_exempt
def call(request: HttpRequest) -> HttpResponse:
    """Call a function of ``dwebsocket.groups``; the body has its name and arguments."""
    name, arguments, options = json.loads(request.body)
    try:
        result = getattr(groups, name)(*arguments, **options)
    except (GroupError, TypeError, ValueError) as exc:
        return JsonResponse({"error": type(exc).__name__, "text": str(exc)})
    return JsonResponse({"result": result})


@csrf_exempt
def publish(request: HttpRequest) -> HttpResponse:
    """Send many messages: each is a group and a text."""
    messages: list[tuple[str, str]] = json.loads(request.body)
    for name, text in messages:
        groups.send(name, text)
    return HttpResponse()


def state(request: HttpRequest) -> HttpResponse:
    """Return the counters of the worker and how many channels it has."""
    backend: Any = get_backend("default")
    counters: dict[str, Any] = {**stats(), "pid": os.getpid()}
    return JsonResponse({**counters, "channels": len(list(backend.local))})
