"""Views of the test site that are members of groups, and such that send to them."""

from __future__ import annotations

import json
import os
from datetime import date, datetime
from typing import Any

from django.db import transaction
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from gevent import get_hub

from dwebsocket import ConnectionClosed, GroupError, groups, require_websocket, stats
from dwebsocket.groups.backends import get_backend
from dwebsocket.signals import group_gap

from .publisher.publishing import publish_many


@require_websocket
def member(request: HttpRequest) -> None:
    """Join the groups that the query names, tell the own id, do what is asked for.

    A message is the name of a method or function, its arguments and options, as JSON;
    the answer is its result.
    """
    websocket = request.websocket
    options = json.loads(request.GET.get("options", "{}"))
    for name in request.GET.getlist("group"):
        websocket.join(name, **options)
    websocket.send_json({"id": websocket.id, "pid": os.getpid()})
    for message in websocket:
        name, arguments, options = _load(message)
        if options.get("exclude") == "self":
            options["exclude"] = websocket
        if name == "fail":
            raise RuntimeError("as asked for")
        if name == "in_thread":
            threads = get_hub().threadpool
            result = threads.apply(_call, (groups, "send", arguments, options))
        else:
            owner = websocket if name in ("join", "leave", "close") else groups
            result = _call(owner, name, arguments, options)
        if not websocket.is_closed():
            websocket.send_json(result)


@require_websocket
def late(request: HttpRequest) -> None:
    """Join when the connection has been closed, by the one whom the query names."""
    websocket = request.websocket
    websocket.accept()
    if request.GET["by"] == "view":
        websocket.close()
    for _ in websocket:
        pass
    name = request.GET["group"]
    try:
        websocket.join(name)
    except ConnectionClosed:
        print(f"refused: {name}", flush=True)


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
    name, arguments, options = _load(request.body)
    return JsonResponse(_call(groups, name, arguments, options))


@csrf_exempt
def commit(request: HttpRequest, how: str) -> HttpResponse:
    """Send in a transaction, which ``ATOMIC_REQUESTS`` or a block of ours makes."""
    assert transaction.get_connection().in_atomic_block
    name = json.loads(request.body)
    groups.send(name, "after the request", on_commit="default")
    try:
        with transaction.atomic():
            groups.send_json(name, ["after the block"], on_commit=True)
            groups.send_to_user(0, "to nobody", on_commit=True)
            groups.send(name, "at once")
            if how == "block-fails":
                raise RuntimeError("as asked for")
    except RuntimeError:
        pass
    groups.send(name, "before the end")
    if how == "request-fails":
        raise RuntimeError("as asked for")
    return JsonResponse({})


@csrf_exempt
def publish(request: HttpRequest) -> HttpResponse:
    """Call ``publish_many`` with what is in the body."""
    publish_many(*json.loads(request.body))
    return JsonResponse({})


def state(request: HttpRequest) -> HttpResponse:
    """Return the counters of the worker, its process and its channels."""
    backend: Any = get_backend("default")
    counters: dict[str, Any] = {**stats(), "pid": os.getpid()}
    return JsonResponse({**counters, "channels": list(backend.local)})


def _call(
    owner: Any, name: str, arguments: list[Any], options: dict[str, Any]
) -> dict[str, Any]:
    try:
        result = getattr(owner, name)(*arguments, **options)
        return {"result": _show(result) if name == "connections" else result}
    except (GroupError, TypeError, ValueError) as exc:
        name = "ValueError" if isinstance(exc, ValueError) else type(exc).__name__
        return {"error": name, "text": str(exc)}


def _show(found: groups.Connections) -> dict[str, Any]:
    # JsonResponse would round the times.
    rows = [{**c._asdict(), "opened_at": c.opened_at.isoformat()} for c in found]
    return {"rows": rows, "total": found.total, "missing": found.missing}


def _load(text: str | bytes) -> Any:
    return json.loads(text, object_hook=_revive)


def _revive(value: dict[str, Any]) -> Any:
    """Return what JSON has no form for, or that would be too long."""
    if "$text" in value:
        return value["$text"] * value.get("times", 1)
    if "$bytes" in value:
        return bytes.fromhex(value["$bytes"]) * value.get("times", 1)
    if "$date" in value:
        return date.fromisoformat(value["$date"])
    if "opened_at" in value:
        opened_at = datetime.fromisoformat(value["opened_at"])
        return groups.Connection(**{**value, "opened_at": opened_at})
    return value


@receiver(group_gap)
def print_gap(alias: str, duration: float, **kwargs: Any) -> None:
    print(f"gap signal: {alias} {duration:.1f} s", flush=True)
