"""``WebSocketView``: what a handler is called for, and what it costs."""

from __future__ import annotations

import gc
import logging
import re
import weakref
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import gevent
import pytest
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.core.signals import got_request_exception
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.test import RequestFactory, override_settings
from django.utils import translation
from gevent import socket
from gevent.event import Event
from greenlet import settrace
from websockets.exceptions import InvalidStatus

from dwebsocket import require_websocket
from dwebsocket.conversation import ViewGreenlet
from dwebsocket.gateway import HANDOVER, SCOPE, take_socket
from dwebsocket.pool import pool
from dwebsocket.registry import ServerScope, registry
from dwebsocket.signals import websocket_closed, websocket_message, websocket_opened
from dwebsocket.views import WebSocketView

from .clients import MIB, connect, frame
from .servers import KINDS, TIMEOUT, Farm, wait_for
from .test_upgrade import everything_ends, make_request, receive_all
from .test_views import UPGRADE, log_in

__all__ = ["everything_ends"]

CLOSE = frame(8, b"\x03\xe8")


def serve(view: Any, **kwargs: Any) -> HttpResponseBase:
    """Return the response of a view to a WebSocket request."""
    return view(make_request(), **kwargs)


def start(view: Any, received: bytes = b"", **kwargs: Any) -> socket.socket:
    """Start a conversation as a server does; return the client's socket."""
    request = make_request(**kwargs.pop("environ", {}))
    response = view(request, **kwargs)
    assert response.status_code == 101
    handover = request.META[HANDOVER]
    assert list(response) == []
    response.close()
    client, sock = socket.socketpair()
    client.settimeout(TIMEOUT)
    handover.switch.start(take_socket(sock), received, owns_socket=True)
    return client


def wait_until(condition: Any) -> None:
    """Wait in a greenlet, so that others run."""
    with gevent.Timeout(TIMEOUT):
        while not condition():
            gevent.sleep(0.001)


class Recorder(WebSocketView):
    """Notes what it is called for, in a list that all of its kind share."""

    events: list[Any]

    def __init_subclass__(cls) -> None:
        cls.events = []

    def connect(self, request: HttpRequest, **kwargs: Any) -> HttpResponseBase | None:
        self.events.append(("connect", kwargs))
        return None

    def receive(self, message: str | bytes) -> None:
        self.events.append(message)

    def disconnect(self, code: int) -> None:
        self.events.append(("disconnect", code))


# The life of a connection


def test_a_life() -> None:
    class Handler(Recorder):
        def connect(self, request: HttpRequest, **kwargs: Any) -> None:
            super().connect(request, **kwargs)
            self.name = kwargs["name"]
            self.websocket.send("welcome")

        def receive(self, message: str | bytes) -> None:
            super().receive(message)
            self.websocket.send(f"{self.name} {self.kwargs}")

    client = start(Handler.as_view(), name="x")
    assert client.recv(100) == b"\x81\x07welcome"
    client.sendall(frame(1, b"one"))
    assert client.recv(100) == b"\x81\x0fx {'name': 'x'}"
    client.sendall(frame(2, b"two"))
    assert client.recv(100) == b"\x81\x0fx {'name': 'x'}"
    assert receive_all(client) == b"\x88\x02\x03\xe8"
    wait_until(lambda: len(Handler.events) == 4)
    assert Handler.events == [
        ("connect", {"name": "x"}),
        "one",
        b"two",
        ("disconnect", 1000),
    ]


def test_a_lost_connection_has_1006() -> None:
    class Handler(Recorder):
        pass

    start(Handler.as_view()).close()
    wait_until(lambda: Handler.events[1:] == [("disconnect", 1006)])


def test_nothing_is_overridden() -> None:
    client = start(WebSocketView.as_view(), frame(1, b"x"))
    assert receive_all(client) == b"\x88\x02\x03\xe8"


def test_no_greenlet_is_left_while_it_is_idle() -> None:
    class Handler(Recorder):
        def receive(self, message: str | bytes) -> None:
            gate.wait()
            super().receive(message)

    gate = Event()

    def count() -> int:
        return sum(
            type(thing) is ViewGreenlet and not thing.dead for thing in gc.get_objects()
        )

    # The pool keeps one, however many connections there are.
    receive_all(start(WebSocketView.as_view(), frame(1, b"x")))
    gc.collect()
    before = count()
    clients = [start(Handler.as_view()) for _ in range(5)]
    wait_until(lambda: len(Handler.events) == 5 and count() == before)
    for client in clients:
        client.sendall(frame(1, b"x"))
    wait_until(lambda: count() == before + 4)
    gate.set()
    wait_until(lambda: len(Handler.events) == 10)
    wait_until(lambda: count() == before)
    for client in clients:
        receive_all(client)


def test_context_variables_are_those_of_one_message() -> None:
    class Handler(Recorder):
        def receive(self, message: str | bytes) -> None:
            self.events.append((variable.get(), translation.get_language()))
            variable.set(str(message))
            translation.activate("eo")

    variable: ContextVar[str] = ContextVar("variable", default="none")
    language = translation.get_language()
    receive_all(start(Handler.as_view(), frame(1, b"x") + frame(1, b"y")))
    wait_until(lambda: len(Handler.events) == 4)
    assert Handler.events[1:3] == [("none", language)] * 2


@pytest.mark.parametrize("is_kept", [False, True])
def test_keep_request(is_kept: bool) -> None:
    class Handler(Recorder):
        keep_request = is_kept

        def connect(self, request: HttpRequest) -> None:
            self.request.user = lambda: request  # type: ignore[method-assign,assignment]
            requests.append(weakref.ref(request))
            assert self.request is request

        def receive(self, message: str | bytes) -> None:
            self.events.append(hasattr(self, "request"))

    requests: list[Any] = []
    client = start(Handler.as_view(), frame(1, b"x"))
    wait_until(lambda: Handler.events)
    assert Handler.events == [is_kept]
    gc.collect()
    assert (requests[0]() is not None) == is_kept
    receive_all(client)


def test_connect_may_forget_the_request_itself() -> None:
    class Handler(Recorder):
        def connect(self, request: HttpRequest) -> None:
            del self.request

    receive_all(start(Handler.as_view(), frame(1, b"x")))
    wait_until(lambda: Handler.events == ["x", ("disconnect", 1000)])


def test_messages_are_handled_in_order_one_after_the_other() -> None:
    class Handler(Recorder):
        is_busy = False

        def receive(self, message: str | bytes) -> None:
            assert not self.is_busy
            self.is_busy = True
            gevent.sleep(0.001 if len(self.events) % 3 else 0)
            super().receive(message)
            self.is_busy = False

    messages = [b"%d" % number for number in range(100)]
    client = start(Handler.as_view(), b"".join(frame(1, x) for x in messages[:50]))
    for message in messages[50:]:
        client.sendall(frame(1, message))
        gevent.sleep(0)
    client.sendall(CLOSE)
    wait_until(lambda: ("disconnect", 1000) in Handler.events)
    texts = [message.decode() for message in messages]
    assert Handler.events == [("connect", {}), *texts, ("disconnect", 1000)]
    client.close()


def test_receive_may_read_on() -> None:
    class Handler(Recorder):
        def receive(self, message: str | bytes) -> None:
            self.events.append((message, self.websocket.wait()))

    client = start(Handler.as_view())
    for text in (b"1", b"2", b"3", b"4"):
        client.sendall(frame(1, text))
        gevent.sleep(0)
    wait_until(lambda: len(Handler.events) == 3)
    assert Handler.events[1:] == [("1", "2"), ("3", "4")]
    receive_all(client)


def test_the_language_is_that_of_connect() -> None:
    class Handler(Recorder):
        def connect(self, request: HttpRequest) -> None:
            translation.activate("eo")

        def receive(self, message: str | bytes) -> None:
            self.events.append(translation.get_language())

        def disconnect(self, code: int) -> None:
            self.events.append(translation.get_language())

    receive_all(start(Handler.as_view(), frame(1, b"x")))
    wait_until(lambda: len(Handler.events) == 2)
    assert Handler.events == ["eo", "eo"]


# Closing


def test_nothing_is_received_after_its_own_close() -> None:
    class Handler(Recorder):
        def receive(self, message: str | bytes) -> None:
            super().receive(message)
            self.websocket.close(4000, "enough")

    client = start(Handler.as_view(), frame(1, b"1") + frame(1, b"2"))
    assert receive_all(client) == b"\x88\x08\x0f\xa0enough"
    wait_until(lambda: len(Handler.events) == 3)
    assert Handler.events[1:] == ["1", ("disconnect", 4000)]


def test_close_in_connect() -> None:
    class Handler(Recorder):
        def connect(self, request: HttpRequest) -> None:
            self.websocket.close(4000)

    client = start(Handler.as_view(), frame(1, b"1"))
    assert receive_all(client) == b"\x88\x02\x0f\xa0"
    wait_until(lambda: Handler.events)
    assert Handler.events == [("disconnect", 4000)]


def test_close_from_elsewhere() -> None:
    class Handler(Recorder):
        def connect(self, request: HttpRequest) -> None:
            websockets.append(self.websocket)

    websockets: list[Any] = []
    client = start(Handler.as_view())
    wait_until(lambda: websockets)
    websockets[0].close(4001)
    # The client hasn't answered yet.
    wait_until(lambda: Handler.events)
    assert Handler.events == [("disconnect", 4001)]
    receive_all(client)


def test_a_client_that_leaves_while_connect_sends() -> None:
    class Handler(Recorder):
        def connect(self, request: HttpRequest) -> None:
            while True:
                self.websocket.send("x" * MIB)

    client = start(Handler.as_view())
    client.recv(1000)
    client.close()
    wait_until(lambda: Handler.events)
    assert Handler.events == [("disconnect", 1006)]


def test_a_drain_closes_idle_connections() -> None:
    class Handler(Recorder):
        pass

    scope = ServerScope()
    client = start(Handler.as_view(), environ={SCOPE: scope})
    drain = gevent.spawn(scope.drain, 1012, "", TIMEOUT)
    assert receive_all(client) == b"\x88\x02\x03\xf4"
    assert drain.get()
    assert Handler.events[1:] == [("disconnect", 1012)]


def test_heartbeat() -> None:
    client = start(WebSocketView.as_view(ping_interval=0.05, ping_timeout=0.05))
    assert client.recv(100) == b"\x89\x00"
    assert client.recv(100) == b""  # the ping wasn't answered
    client.close()


# Refusals


def test_connect_refuses() -> None:
    class Handler(Recorder):
        def connect(self, request: HttpRequest) -> HttpResponse:
            return HttpResponse("no", status=429)

    assert serve(Handler.as_view()).status_code == 429
    assert Handler.events == []


def test_connect_raises() -> None:
    class Handler(Recorder):
        def connect(self, request: HttpRequest) -> None:
            raise PermissionDenied

    with pytest.raises(PermissionDenied):
        serve(Handler.as_view())
    assert Handler.events == []


def test_a_bad_handshake_calls_nothing() -> None:
    class Handler(Recorder):
        pass

    request = make_request(HTTP_ORIGIN="http://elsewhere")
    assert Handler.as_view()(request).status_code == 403
    assert Handler.events == []


def test_plain_http() -> None:
    class Page(WebSocketView):
        def get(self, request: HttpRequest) -> HttpResponse:
            return HttpResponse("a page")

    plain = RequestFactory().get("/")
    assert WebSocketView.as_view()(plain).status_code == 400
    assert WebSocketView.as_view()(RequestFactory().post("/")).status_code == 405
    assert Page.as_view()(plain).content == b"a page"
    receive_all(start(Page.as_view()))


def test_http_method_names() -> None:
    class Handler(Recorder):
        http_method_names = ["post"]

    response = serve(Handler.as_view())
    assert (response.status_code, Handler.events) == (405, [])


def test_connections_that_do_not_come_about() -> None:
    class Handler(Recorder):
        pass

    before = registry.open
    response: Any = serve(Handler.as_view())
    del response  # a middleware returned another one
    wait_until(lambda: registry.open == before)
    assert Handler.events == [("connect", {})]


# Errors


@pytest.fixture
def reports() -> Iterator[list[Any]]:
    """The requests that ``got_request_exception`` is sent with."""
    sent: list[Any] = []

    def note(request: HttpRequest | None, **kwargs: Any) -> None:
        sent.append(request)

    got_request_exception.connect(note)
    yield sent
    got_request_exception.disconnect(note)


@pytest.mark.parametrize("is_kept", [False, True])
def test_receive_fails(
    caplog: pytest.LogCaptureFixture, reports: list[Any], is_kept: bool
) -> None:
    class Handler(Recorder):
        keep_request = is_kept

        def receive(self, message: str | bytes) -> None:
            super().receive(message)
            raise ZeroDivisionError("a secret")

    client = start(Handler.as_view(), frame(1, b"1") + frame(1, b"2"))
    assert receive_all(client) == b"\x88\x02\x03\xf3"
    wait_until(lambda: len(Handler.events) == 3)
    assert Handler.events[1:] == ["1", ("disconnect", 1011)]
    (record,) = [x for x in caplog.records if x.levelno == logging.ERROR]
    assert record.getMessage() == "Internal error in the WebSocket view of /path/"
    assert record.exc_info and record.exc_info[0] is ZeroDivisionError
    assert [request is not None for request in reports] == [is_kept]


def test_connect_fails_after_it_accepted(
    caplog: pytest.LogCaptureFixture, reports: list[Any]
) -> None:
    class Handler(Recorder):
        def connect(self, request: HttpRequest) -> None:
            self.websocket.accept()
            raise ZeroDivisionError

    client = start(Handler.as_view(), frame(1, b"x"))
    assert receive_all(client) == b"\x88\x02\x03\xf3"
    wait_until(lambda: Handler.events)
    assert Handler.events == [("disconnect", 1011)]
    assert len(reports) == 1 and "ZeroDivisionError" in caplog.text


def test_disconnect_fails(caplog: pytest.LogCaptureFixture, reports: list[Any]) -> None:
    class Handler(WebSocketView):
        def disconnect(self, code: int) -> None:
            raise ZeroDivisionError

    before = registry.open
    receive_all(start(Handler.as_view()))
    wait_until(lambda: registry.open == before)
    assert len(reports) == 1 and "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("end", [gevent.GreenletExit, gevent.Timeout])
def test_receive_ends_by_force(end: type[BaseException]) -> None:
    class Handler(Recorder):
        def receive(self, message: str | bytes) -> None:
            raise end

    client = start(Handler.as_view(), frame(1, b"x"))
    code = 1001 if end is gevent.GreenletExit else 1011
    assert receive_all(client) == b"\x88\x02" + code.to_bytes(2, "big")
    wait_until(lambda: len(Handler.events) == 2)
    assert Handler.events[1] == ("disconnect", code)


# The pool


class Blocker(Recorder):
    """Handles a message until its gate is opened."""

    gate: Event

    def receive(self, message: str | bytes) -> None:
        self.events.append(f"{message!s} starts")
        self.gate.wait()
        self.events.append(f"{message!s} ends")


def test_one_greenlet_handles_what_many_have_received() -> None:
    class Handler(Recorder):
        def receive(self, message: str | bytes) -> None:
            self.events.append((gevent.getcurrent(), variable.get()))
            variable.set("of another")
            if message == "fail":
                raise ZeroDivisionError

    variable: ContextVar[str] = ContextVar("variable", default="none")
    view = Handler.as_view()
    clients = [start(view) for _ in range(3)]
    wait_until(lambda: len(Handler.events) == 3 and pool._running == 0)
    switches: list[tuple[Any, Any]] = []
    previous = settrace(lambda event, pair: switches.append(pair))
    try:
        for client, text in zip(clients, (b"1", b"fail", b"3"), strict=True):
            client.sendall(frame(1, text))
        wait_until(lambda: len(Handler.events) == 7)
    finally:
        settrace(previous)
    greenlet = Handler.events[3][0]
    assert Handler.events.count((greenlet, "none")) == 3
    assert ("disconnect", 1011) in Handler.events
    # Not by way of the hub each time.
    assert [pair for pair in switches if greenlet in pair] == [
        (gevent.get_hub(), greenlet),
        (greenlet, gevent.get_hub()),
    ]
    for client in clients:
        receive_all(client)


@pytest.mark.parametrize("position", range(3))
def test_a_handler_that_waits_holds_up_no_other(position: int) -> None:
    class Handler(Recorder):
        def receive(self, message: str | bytes) -> None:
            if message == "wait":
                gate.wait()
            super().receive(message)

    gate = Event()
    view = Handler.as_view()
    clients = [start(view) for _ in range(3)]
    wait_until(lambda: len(Handler.events) == 3)
    for index, client in enumerate(clients):
        client.sendall(frame(1, b"wait" if index == position else b"x"))
    wait_until(lambda: Handler.events[3:] == ["x", "x"])
    gate.set()
    wait_until(lambda: Handler.events[5:] == ["wait"])
    for client in clients:
        receive_all(client)


def test_what_the_pool_has_no_room_for_waits_its_turn() -> None:
    class Handler(Blocker):
        gate = Event()

        def connect(self, request: HttpRequest) -> None: ...
        def disconnect(self, code: int) -> None: ...

    view = Handler.as_view()
    with override_settings(WEBSOCKET_HANDLER_POOL_SIZE=2):
        clients = [start(view, frame(1, b"%d" % number)) for number in range(6)]
        wait_until(lambda: len(pool._waiting) == 4)
    assert Handler.events == ["0 starts", "1 starts"]
    # The room that is made is not for those that come later.
    clients[0].sendall(frame(1, b"later"))
    Handler.gate.set()
    wait_until(lambda: len(Handler.events) == 14)
    starts = [event for event in Handler.events if event.endswith("starts")]
    assert starts == [*(f"{number} starts" for number in range(6)), "later starts"]
    for client in clients:
        receive_all(client)
    wait_until(lambda: pool._running == 0)


def test_a_client_is_held_back_while_its_messages_wait() -> None:
    class Handler(Blocker):
        gate = Event()

        def connect(self, request: HttpRequest) -> None:
            websockets.append(self.websocket)

    websockets: list[Any] = []
    client = start(Handler.as_view(max_queue=3))
    message = frame(1, b"x" * 1000)
    sender = gevent.spawn(client.sendall, message * 2000)
    wait_until(lambda: websockets and websockets[0].count_messages() >= 3)
    for _ in range(20):
        gevent.sleep(0.001)
    # No more than one read may bring.
    assert websockets[0].count_messages() <= 3 + 65536 // len(message)
    assert Handler.events == [f"{'x' * 1000} starts"]
    assert not sender.dead
    Handler.gate.set()
    sender.get(timeout=TIMEOUT)
    receive_all(client)
    wait_until(lambda: len(Handler.events) == 4001)


# Settings and declarations


def test_options() -> None:
    class Handler(WebSocketView):
        max_message_size = 10

    client = start(Handler.as_view(), frame(1, b"x" * 11))
    assert b"\x03\xf1" in receive_all(client)
    client = start(Handler.as_view(max_message_size=9), frame(1, b"x" * 10))
    assert b"\x03\xf1" in receive_all(client)
    environ = {"HTTP_SEC_WEBSOCKET_PROTOCOL": "a, b"}
    response = Handler.as_view(subprotocols=["b"])(make_request(**environ))
    assert ("Sec-WebSocket-Protocol", "b") in response.items()
    del response
    with pytest.raises(ValueError, match="max_queue must be a positive integer"):
        Handler.as_view(max_queue=0)
    with pytest.raises(TypeError, match="max_size"):
        Handler.as_view(max_size=0)


def test_async_methods_are_refused() -> None:
    class Handler(WebSocketView):
        async def receive(self, message: str | bytes) -> None: ...

    with pytest.raises(TypeError, match="Handler.receive is async"):
        Handler.as_view()


def test_a_decorator_of_ours_is_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match="needs no decorator"):
        serve(require_websocket(WebSocketView.as_view()))


# Signals and the log


@pytest.mark.parametrize("is_kept", [False, True])
def test_signals(is_kept: bool) -> None:
    class Handler(WebSocketView):
        keep_request = is_kept

    names = ["opened", "message", "closed"]
    sent: list[tuple[str, bool, Any]] = []

    def make_receiver(name: str) -> Any:
        def receiver(request: Any, websocket: Any, **kwargs: Any) -> None:
            has_request = isinstance(request, HttpRequest)
            sent.append((name, has_request, kwargs.get("message", kwargs.get("code"))))

        return receiver

    signals = [websocket_opened, websocket_message, websocket_closed]
    receivers = [make_receiver(name) for name in names]
    for signal, receiver in zip(signals, receivers, strict=True):
        signal.connect(receiver)
    try:
        receive_all(start(Handler.as_view(), frame(1, b"x")))
        wait_until(lambda: len(sent) == 3)
    finally:
        for signal, receiver in zip(signals, receivers, strict=True):
            signal.disconnect(receiver)
    assert sent == [
        ("opened", True, None),
        ("message", is_kept, "x"),
        ("closed", is_kept, 1000),
    ]


def test_log_line(caplog: pytest.LogCaptureFixture) -> None:
    class User:
        pk = 7

    class Handler(WebSocketView):
        def connect(self, request: HttpRequest) -> None:
            request._cached_user = User()  # type: ignore[attr-defined]

    caplog.set_level(logging.INFO, "dwebsocket")
    before = registry.open
    receive_all(start(Handler.as_view(), frame(1, b"hello")))
    wait_until(lambda: registry.open == before)
    assert re.fullmatch(
        r"/path/ closed by client with 1000 after \d+\.\d s, user 7, "
        "in 1 messages 19 bytes, out 0 messages 4 bytes",
        caplog.records[-1].getMessage(),
    )


# Under real servers


@pytest.mark.parametrize("kind", KINDS)
def test_on_every_server(farm: Farm, kind: str) -> None:
    server = farm(kind)
    with connect(server, "/handlers/echo/") as websocket:
        for message in ("text", b"binary", "x" * MIB):
            websocket.send(message)
            assert websocket.recv(TIMEOUT) == message
    assert websocket.close_code == 1000


def test_mixins_and_arguments(farm: Farm) -> None:
    server = farm("gunicorn")
    assert server.get("/handlers/room/green/", UPGRADE)[0] == 302
    with pytest.raises(InvalidStatus):
        connect(server, "/handlers/room/green/")
    headers = log_in("ann")
    assert server.get("/handlers/room/green/", headers)[2] == "the page of green"
    assert server.get("/handlers/room/secret/", {**UPGRADE, **headers})[0] == 403
    options = {"additional_headers": headers}
    with connect(server, "/handlers/room/green/", **options) as websocket:
        websocket.send("hi")
        assert websocket.recv(TIMEOUT) == "ann in green: 'hi'"
    line = re.compile(r"/handlers/room/green/ closed by client .* user 1, in 1 mess")
    wait_for(lambda: line.search(server.log), "the log line")


def test_memory_of_an_idle_connection(farm: Farm) -> None:
    server = farm.start("gunicorn")
    request = (
        f"GET /handlers/echo/ HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ).encode()

    def hold(count: int) -> list[socket.socket]:
        sockets = []
        for _ in range(count):
            sock = socket.create_connection(("127.0.0.1", server.port), TIMEOUT)
            sock.sendall(request)
            assert sock.recv(1000).startswith(b"HTTP/1.1 101")
            sockets.append(sock)
        return sockets

    # What the first ones need is used again by others.
    sockets = hold(300)
    before = server.memory
    sockets += hold(1000)
    growth = (server.memory - before) / 1000
    for sock in sockets:
        sock.close()
    assert growth < 3.5 * 1024
