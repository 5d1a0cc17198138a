"""Views of the test site, one for each way in which a view can behave."""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import gevent
import gevent.monkey
from django.contrib import messages
from django.contrib.auth import get_user_model
from django.contrib.auth.decorators import login_required, permission_required
from django.core.exceptions import PermissionDenied
from django.core.signals import got_request_exception, request_finished
from django.db import connection, transaction
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseRedirect,
    JsonResponse,
)
from django.template import Context, Template
from django.template.response import TemplateResponse
from django.urls import get_script_prefix, reverse
from django.utils import timezone, translation
from django.utils.decorators import method_decorator
from django.views import View
from greenlet import greenlet

from dwebsocket import accept_websocket, require_websocket, stats
from dwebsocket.exceptions import ConnectionClosed
from dwebsocket.registry import registry
from dwebsocket.request import share

_counters = {"request_finished": 0, "got_request_exception": 0, "ended": 0}
_events: list[str] = []


def _count(name: str) -> Any:
    def receiver(**kwargs: object) -> None:
        _counters[name] += 1

    return receiver


_receivers = [_count("request_finished"), _count("got_request_exception")]
request_finished.connect(_receivers[0])
got_request_exception.connect(_receivers[1])


def status(request: HttpRequest) -> HttpResponse:
    """What the tests ask for by HTTP while conversations go on."""
    data = {
        **_counters,
        "connections": registry.open,
        "stats": stats(),
        "events": _events,
        "greenlets": sum(
            isinstance(thing, greenlet) and not thing.dead for thing in gc.get_objects()
        ),
        "frozen": gc.get_freeze_count(),
    }
    return HttpResponse(json.dumps(data), content_type="application/json")


def census(request: HttpRequest) -> JsonResponse:
    """What this process holds, to be compared with what it held before."""
    _events.clear()
    # Caches of limited size that fill slowly; Python's, in 3.13, with names that were
    # made for one lookup of an attribute.
    share.cache_clear()
    sys._clear_type_cache()
    # What this greenlet itself holds is as much each time.
    connection.close()
    gc.collect()
    things = gc.get_objects()
    resident = Path("/proc/self/statm").read_text().split()[1]
    data = {
        "connections": registry.open,
        "objects": Counter(f"{type(x).__module__}.{type(x).__name__}" for x in things),
        "blocks": sys.getallocatedblocks(),
        "greenlets": sum(isinstance(x, greenlet) and not x.dead for x in things),
        "watchers": gevent.get_hub().loop.activecnt,
        "files": len(os.listdir("/proc/self/fd")),
        "memory": int(resident) * resource.getpagesize(),
    }
    return JsonResponse(data)


def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse("a page")


_SCRIPT_PAGE = """
{% load dwebsocket static %}<!doctype html>
<script nonce="{{ nonce }}">
  (window.dwebsocket ??= []).push(({ connect }) => {
    window.early = connect("/typed/", { maxDelay: 1000 });
  });
</script>
{% dwebsocket_script nonce=nonce defer=True %}
<script type="module" nonce="{{ nonce }}">
  import * as module from "{% static 'dwebsocket/dwebsocket.module.js' %}";
  window.module = module;
</script>
"""


def script_page(request: HttpRequest) -> HttpResponse:
    """A page with the JavaScript client, under a Content-Security-Policy."""
    html = Template(_SCRIPT_PAGE).render(Context({"nonce": "abc123"}))
    policy = "default-src 'none'; script-src 'nonce-abc123'; connect-src 'self' ws:"
    return HttpResponse(html, headers={"Content-Security-Policy": policy})


def slow_page(request: HttpRequest) -> HttpResponse:
    """Take a while, or until a file is there."""
    _events.append("slow page")
    if "until" not in request.GET:
        time.sleep(1)
    else:
        while not Path(request.GET["until"]).exists():
            time.sleep(0.01)
    return HttpResponse("a slow page")


@login_required
def login_first(request: HttpRequest) -> HttpResponse:
    return HttpResponse("a page for users")


@require_websocket
def echo(request: HttpRequest) -> None:
    for message in request.websocket:
        request.websocket.send(message)


@require_websocket(max_message_size=16 * 1024 * 1024)
def echo_big(request: HttpRequest) -> None:
    for message in request.websocket:
        request.websocket.send(message)


@require_websocket(max_message_size=10)
def echo_small(request: HttpRequest) -> None:
    for message in request.websocket:
        request.websocket.send(message)


@accept_websocket
def both(request: HttpRequest) -> HttpResponse | None:
    if not request.is_websocket():
        assert request.websocket is None
        return HttpResponse(f"plain, atomic: {connection.in_atomic_block}")
    for message in request.websocket:
        request.websocket.send(message.lower())
    return None


def attribute(request: HttpRequest) -> HttpResponse | None:
    request.websocket.send("by attribute")
    return None


@accept_websocket
def visit(request: HttpRequest) -> HttpResponse | None:
    """Count who comes; show the headers as the server gives them to Django."""
    _counters["visits"] = _counters.get("visits", 0) + 1
    if not request.is_websocket():
        return HttpResponse(f"visit {_counters['visits']}", status=202)
    headers = {key: value for key, value in request.META.items() if "HTTP" in key}
    request.websocket.send_json(headers)
    return None


@require_websocket(close_timeout=0.5)
def close_at_once(request: HttpRequest) -> None:
    """Close with a message in front, and don't wait long for the answer."""
    request.websocket.send("closing")


attribute.accept_websocket = True  # type: ignore[attr-defined]


def required_attribute(request: HttpRequest) -> None:
    request.websocket.send("by attribute, only")


required_attribute.accept_websocket = True  # type: ignore[attr-defined]
required_attribute.require_websocket = True  # type: ignore[attr-defined]


def attributes(request: HttpRequest) -> JsonResponse:
    """What WebSocketMiddleware sets, in a view that isn't decorated."""
    return JsonResponse(
        [request.is_websocket(), repr(request.websocket)],
        safe=False,
    )


@accept_websocket(max_message_size=10)
@require_websocket(max_message_size=5)
def twice(request: HttpRequest) -> None:
    for message in request.websocket:
        request.websocket.send(message)


class Greeting(View):
    greeting = "Hello"

    @method_decorator(require_websocket(subprotocols=["greet"]))
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return super().dispatch(request, *args, **kwargs)

    def get(self, request: HttpRequest, name: str) -> None:
        request.websocket.send(f"{self.greeting} {name}")
        request.websocket.send(str(request.websocket.subprotocol))


@require_websocket
def refuse(request: HttpRequest, how: str) -> HttpResponse | None:
    """Answer the request in one of many ways, before touching the conversation."""
    if how == "403":
        return HttpResponse("not you", status=403, headers={"X-Reason": "because"})
    if how == "429":
        return HttpResponse(status=429, headers={"Retry-After": "7"})
    if how == "redirect":
        return HttpResponseRedirect("/elsewhere/")
    if how == "404":
        raise Http404
    if how == "denied":
        raise PermissionDenied
    if how == "lookup":
        raise LookupError
    if how == "template":
        return TemplateResponse(request, "admin/404.html", status=404)
    if how == "message":
        messages.info(request, "try later")
        request.session["refused"] = True
        return HttpResponse("ok", status=200)
    if how == "error":
        raise ZeroDivisionError("before the upgrade")
    raise AssertionError(how)


@login_required
@require_websocket
def members(request: HttpRequest) -> None:
    request.websocket.send(f"Hello {request.user}")


@require_websocket
@permission_required("auth.add_user", raise_exception=True)
def staff(request: HttpRequest) -> None:
    request.websocket.send(f"Hello {request.user}")


@require_websocket
def set_cookies(request: HttpRequest) -> None:
    request.session["seen"] = request.session.get("seen", 0) + 1
    request.websocket.accept(headers={"X-View": "yes"})
    request.websocket.send(str(request.session["seen"]))
    # After the request is over: this doesn't reach the session any more.
    request.session["late"] = True


@require_websocket
def ask_first(request: HttpRequest) -> None:
    """Ask the database, and have the middleware ask it for the answer."""
    count = get_user_model().objects.count()
    request.session["asked"] = True
    request.websocket.send(str(count > 0))


@require_websocket
def keep_session(request: HttpRequest) -> None:
    websocket = request.websocket
    request.session["before"] = True
    websocket.accept()
    request.session["after"] = True
    for _ in websocket:
        request.session.save()
        websocket.send("saved")


@require_websocket
def choose(request: HttpRequest) -> None:
    """Choose what the query string says; report what accept() objects to."""
    websocket = request.websocket
    headers = [("X-Value", request.GET["header"])] if "header" in request.GET else None
    if "name" in request.GET:
        headers = [(request.GET["name"], "value")]
    try:
        websocket.accept(request.GET.get("subprotocol"), headers)
    except ValueError as exc:
        websocket.accept()
        websocket.send(f"ValueError: {exc}")
    websocket.send(str(websocket.subprotocol))


@require_websocket
def show_messages(request: HttpRequest) -> None:
    texts = [str(message) for message in messages.get_messages(request)]
    request.websocket.send_json(texts)


@require_websocket
def fail(request: HttpRequest, name: str = "") -> None:
    request.websocket.wait()
    raise ZeroDivisionError("after the upgrade")


@require_websocket
def close(request: HttpRequest) -> None:
    request.websocket.close(4321, "that's it")
    request.websocket.close(1000)
    assert request.websocket.is_closed()
    try:
        request.websocket.send("too late")
    except ConnectionClosed as exc:
        _events.append(f"closed {exc.code} {exc.reason}")


@require_websocket
def nothing(request: HttpRequest) -> None:
    """Return None without touching the conversation."""


@require_websocket
def sleep(request: HttpRequest) -> None:
    request.websocket.accept()
    _events.append("sleeping")
    time.sleep(2)
    _events.append(f"woke up, closed: {request.websocket.is_closed()}")


@require_websocket
def linger(request: HttpRequest) -> None:
    """Have something left to do when the connection has closed."""
    try:
        for _ in request.websocket:
            pass
    finally:
        time.sleep(0.5)
        print(f"lingered after {request.websocket.close_code}")


@require_websocket
def wait(request: HttpRequest) -> None:
    """Tell how waiting ended, and how the connection did."""
    websocket = request.websocket
    message = websocket.wait(0.05)
    websocket.send_json([message, websocket.is_closed(), websocket.read("nothing")])
    value = websocket.wait_json()
    websocket.send_json(value)
    try:
        for message in websocket:
            websocket.send(message)
    finally:
        _events.append(f"ended {websocket.close_code} {websocket.close_reason}")
        _counters["ended"] += 1


@require_websocket
def count(request: HttpRequest) -> None:
    """Read without waiting."""
    websocket = request.websocket
    while websocket.count_messages() < 3:
        gevent.sleep(0.001)
    assert websocket.has_messages()
    while websocket.has_messages():
        websocket.send(websocket.read())
    assert websocket.read() is None


@require_websocket
def many_senders(request: HttpRequest) -> None:
    """Three greenlets send while this one waits."""
    websocket = request.websocket
    total = int(websocket.wait())
    counts = [total // 3, total // 3, total - total // 3 * 2]

    def send(sender: int) -> None:
        for number in range(counts[sender]):
            # Of many lengths, so that frames are cut everywhere.
            padding = "x" * (number * 37 % 3000)
            websocket.send(f"{sender} {number} {padding}")

    greenlets = [gevent.spawn(send, sender) for sender in range(3)]
    assert websocket.wait() == "done"
    gevent.joinall(greenlets, raise_error=True)


@require_websocket
def flood(request: HttpRequest) -> None:
    """Send without end; note how far it came before it was suspended."""
    chunk = b"x" * 65536
    sent = 0
    try:
        while True:
            request.websocket.send(chunk)
            sent += len(chunk)
            _counters["flooded"] = sent
    except ConnectionClosed as exc:
        _events.append(f"flood ended {exc.code}")
        raise


@require_websocket
def slow_reader(request: HttpRequest) -> None:
    """Read nothing until told to by a second request."""
    _counters["go"] = 0
    request.websocket.accept()
    while not _counters["go"]:
        gevent.sleep(0.01)
    total = 0
    for message in request.websocket:
        total += len(message)
        if message == "end":
            break
    request.websocket.send(str(total))


def go(request: HttpRequest) -> HttpResponse:
    _counters["go"] = 1
    return HttpResponse("going")


@require_websocket
def ping(request: HttpRequest) -> None:
    websocket = request.websocket
    assert websocket.latency is None
    websocket.ping(b"are you there")
    for _ in websocket:
        websocket.send_json(websocket.latency)


@require_websocket(ping_interval=0.4, ping_timeout=0.4)
def heartbeat(request: HttpRequest) -> None:
    websocket = request.websocket
    started_at = time.monotonic()
    for message in websocket:
        if message == "stall":
            # As a view does that computes: nobody else runs.
            gevent.monkey.get_original("time", "sleep")(3)
        websocket.send_json([websocket.latency, websocket.silence])
    _events.append(f"silent {websocket.close_code}")
    _counters["silent_for"] = time.monotonic() - started_at


@require_websocket(close_timeout=0.2)
def impatient(request: HttpRequest) -> None:
    """End at once, and hardly wait for the peer's close frame."""


@require_websocket
def environment(request: HttpRequest) -> None:
    """What the request set up is still there in the view's own greenlet."""
    websocket = request.websocket
    websocket.accept()
    websocket.send_json(
        {
            "language": translation.get_language(),
            "timezone": timezone.get_current_timezone_name(),
            "prefix": get_script_prefix(),
            "url": reverse("environment"),
            "body": request.body.decode(),
            "atomic": connection.in_atomic_block,
            "user": str(request.user),
        }
    )


@require_websocket
def database(request: HttpRequest) -> None:
    websocket = request.websocket
    User = get_user_model()
    for name in websocket:
        with transaction.atomic():
            assert connection.in_atomic_block
            User.objects.create(username=name)
        websocket.send(str(User.objects.filter(username=name).count()))


@require_websocket
def query_and_send(request: HttpRequest) -> None:
    request.websocket.accept()
    request.websocket.send(str(get_user_model().objects.count()))
    request.websocket.send(bytes(16 * 1024 * 1024))


@require_websocket
def transaction_while_waiting(request: HttpRequest) -> None:
    websocket = request.websocket
    User = get_user_model()
    with transaction.atomic():
        User.objects.create(username=websocket.wait())
        websocket.send("created")
        websocket.wait()
        transaction.set_rollback(True)
    websocket.send("rolled back")


@require_websocket
def helper(request: HttpRequest) -> HttpResponse:
    """Another greenlet touches the conversation; what the view returns is void."""
    gevent.spawn(request.websocket.send, "from a helper").join()
    return HttpResponse("void")


def may_watch(user: Any, name: str) -> bool:
    return not name.startswith("secret") or user.is_staff


@require_websocket
def typed(request: HttpRequest) -> None:
    """Answer typed messages; "close" closes, "silence" gets no answer."""
    for text in request.websocket:
        message = json.loads(text)
        if message["type"] == "close":
            request.websocket.close(*message["content"])
        elif message["type"] != "silence":
            reply = {**message, "type": "reply" if "id" in message else "echo"}
            request.websocket.send_json(reply)
