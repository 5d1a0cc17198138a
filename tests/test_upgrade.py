"""``run_view`` and what it makes of a request, over a socket pair."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import gevent
import pytest
from django.core.exceptions import PermissionDenied
from django.core.signals import got_request_exception, request_finished
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory, override_settings
from gevent import socket
from greenlet import getcurrent

from dwebsocket import gateway, groups, upgrade
from dwebsocket.conf import Settings, settings
from dwebsocket.exceptions import ConnectionClosed, HandshakeError, WebSocketError
from dwebsocket.gateway import HANDOVER, Handover, take_socket
from dwebsocket.inprocess import InProcess
from dwebsocket.registry import registry
from dwebsocket.upgrade import prepare_request, refuse, refuse_http, run_view
from dwebsocket.websocket import WebSocket

from .clients import frame
from .servers import TIMEOUT

HANDSHAKE = {
    "HTTP_HOST": "testserver",
    "HTTP_UPGRADE": "websocket",
    "HTTP_CONNECTION": "Upgrade",
    "HTTP_SEC_WEBSOCKET_KEY": "dGhlIHNhbXBsZSBub25jZQ==",
    "HTTP_SEC_WEBSOCKET_VERSION": "13",
}


def make_request(**environ: Any) -> HttpRequest:
    """Return a WebSocket request on a server that hands sockets over."""
    environ = {**HANDSHAKE, HANDOVER: InProcess(), **environ}
    request = RequestFactory().get("/path/", **environ)
    assert prepare_request(request)
    return request


class Server:
    """What a server that hands over does with a request and its response."""

    def __init__(self, view: Callable[..., Any], **environ: Any) -> None:
        self.request = make_request(**environ)
        self.response = run_view(self.request, view, (), {}, settings)

    def start(self, received: bytes = b"") -> socket.socket:
        """Start the conversation; return the client's socket."""
        handover = self.request.META[HANDOVER]
        assert list(self.response) == []
        self.response.close()
        client, sock = socket.socketpair()
        client.settimeout(TIMEOUT)
        handover.switch.start(take_socket(sock), received, owns_socket=True)
        return client


def receive_all(client: socket.socket) -> bytes:
    """Send a close frame, return what comes until the end and close."""
    with client:
        client.sendall(frame(8, b"\x03\xe8"))
        received = b""
        while data := client.recv(1000):
            received += data
        return received


@pytest.fixture(autouse=True)
def everything_ends() -> Iterator[None]:
    before = registry.open
    yield
    with gevent.Timeout(TIMEOUT):
        while registry.open > before:
            gevent.sleep(0.001)


# Requests


def test_prepare_request() -> None:
    request = make_request()
    websocket = request.websocket
    assert request.is_websocket() is True and isinstance(websocket, WebSocket)
    assert prepare_request(request) is True
    assert request.websocket is websocket
    plain = RequestFactory().get("/")
    assert prepare_request(plain) is plain.is_websocket() is False
    assert plain.websocket is None


def test_refuse() -> None:
    error = HandshakeError("No.", status_code=426, headers={"X-Why": "so"})
    response = refuse(error)
    assert (response.status_code, response["X-Why"]) == (426, "so")
    assert response["Content-Type"] == "text/plain; charset=utf-8"
    assert response.content == b"No.\n"


@pytest.mark.parametrize(
    "server, has_header", [("gevent/2", True), ("WSGIServer/0.2", False)]
)
def test_refuse_http(server: str, has_header: bool) -> None:
    response = refuse_http(RequestFactory().get("/", SERVER_SOFTWARE=server))
    assert response.status_code == 400
    # PEP 3333 forbids it, and wsgiref sees to that.
    assert response.has_header("Upgrade") is has_header


def test_a_websocket_outside_of_a_view() -> None:
    request = make_request()
    assert request.websocket.is_closed() is False
    assert request.websocket.close_code is request.websocket.latency is None
    with pytest.raises(WebSocketError, match="isn't in a WebSocket view"):
        request.websocket.send("x")


# Refusals


@pytest.mark.parametrize(
    "environ, code",
    [
        ({"HTTP_SEC_WEBSOCKET_VERSION": "8"}, 426),
        ({"HTTP_SEC_WEBSOCKET_KEY": ""}, 400),
        ({"HTTP_ORIGIN": "http://elsewhere"}, 403),
        ({"HTTP_SEC_WEBSOCKET_PROTOCOL": ","}, 400),
    ],
)
def test_a_bad_handshake_calls_no_view(environ: dict[str, str], code: int) -> None:
    assert Server(pytest.fail, **environ).response.status_code == code


@pytest.mark.parametrize("is_patched", [True, False])
def test_a_server_that_does_not_fit(
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    is_patched: bool,
) -> None:
    if is_patched:
        monkeypatch.setattr(gateway.monkey, "is_module_patched", lambda name: True)
        server = Server(pytest.fail, **{HANDOVER: Handover()})
        wanted = "one database connection"
    else:
        server = Server(pytest.fail, SERVER_SOFTWARE="Other/1", **{HANDOVER: None})
        wanted = "WebSockets don't work on Other/1: "
    assert server.response.status_code == 501
    assert wanted in server.response.content.decode()
    assert [(record.levelname, record.name) for record in caplog.records] == [
        ("ERROR", "dwebsocket")
    ]
    assert wanted in caplog.text


def test_connections_are_shared_without_patching() -> None:
    # Here nothing is patched.
    assert upgrade.are_connections_shared() is True


def test_the_answer_of_a_view() -> None:
    answer = HttpResponse("no")
    greenlets = []

    def view(request: HttpRequest) -> HttpResponse:
        greenlets.append(getcurrent())
        return answer

    assert Server(view).response is answer
    assert greenlets[0] is not getcurrent() and greenlets[0].dead


@pytest.mark.parametrize("error", [PermissionDenied, ValueError, ConnectionClosed])
def test_the_exception_of_a_view(error: type[Exception]) -> None:
    exception = error(1)

    def view(request: HttpRequest) -> None:
        raise exception

    with pytest.raises(error) as caught:
        Server(view)
    assert caught.value is exception
    # The traceback shows where.
    assert caught.traceback[-1].name == "view"


def test_too_late_after_an_answer() -> None:
    server = Server(lambda request: HttpResponse("no"))
    with pytest.raises(WebSocketError, match="answered already"):
        server.request.websocket.send("x")


def test_a_probe_ends_the_view_that_accepts() -> None:
    ends = []

    def view(request: HttpRequest) -> None:
        assert request.is_websocket()
        try:
            request.websocket.accept()
        except ConnectionClosed as exc:
            ends.append(exc.code)
            raise

    request = RequestFactory().get("/path/", headers={"WebSocket-Probe": "1"})
    request.META[HANDOVER] = InProcess()
    assert prepare_request(request)
    response = run_view(request, view, (), {}, settings)
    assert (response.status_code, response.content) == (204, b"")
    gevent.idle()
    assert ends == [1006]
    assert registry.open == 0


def test_max_connections() -> None:
    def view(request: HttpRequest) -> None:
        request.websocket.wait()

    with override_settings(WEBSOCKET_MAX_CONNECTIONS=1):
        server = Server(view)
        # Counted from the start of the view, not of the conversation.
        refused = Server(pytest.fail).response
        assert (refused.status_code, refused["Retry-After"]) == (503, "5")
        receive_all(server.start())
        receive_all(Server(view).start())


# The 101


def test_the_101_and_the_conversation() -> None:
    finished = []

    def view(request: HttpRequest) -> None:
        websocket = request.websocket
        assert repr(websocket) == "<WebSocket not accepted>"
        websocket.accept(headers={"X-A": "b"})
        assert repr(websocket) == "<WebSocket open>"
        with pytest.raises(ValueError, match="accepted already"):
            websocket.accept("chat")
        websocket.accept()
        for message in websocket:
            websocket.send(message)
        assert repr(websocket) == "<WebSocket closed 1000>"

    def receiver(**kwargs: Any) -> None:
        finished.append(1)

    request_finished.connect(receiver)
    server = Server(view)
    response = server.response
    assert response.status_code == 101
    response["Content-Length"] = "0"
    response["Sec-WebSocket-Accept"] = "x"
    response["Upgrade"] = "x"
    response["Vary"] = "Cookie"
    response.set_cookie("a", "b")
    assert response.items() == [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ("X-A", "b"),
        ("Vary", "Cookie"),
    ]
    assert response.head() == (
        b"HTTP/1.1 101 Switching Protocols\r\n"
        b"Upgrade: websocket\r\n"
        b"Connection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
        b"X-A: b\r\n"
        b"Vary: Cookie\r\n"
        b"Set-Cookie: a=b; Path=/\r\n"
        b"\r\n"
    )
    client = server.start(frame(1, b"early"))
    client.sendall(frame(2, b"late"))
    assert client.recv(7) + client.recv(6) == b"\x81\x05early\x82\x04late"
    assert receive_all(client) == b"\x88\x02\x03\xe8"
    # Once, although closed by server and gateway.
    response.close()
    assert finished == [1]
    request_finished.disconnect(receiver)


def test_headers_of_a_view_that_occur_twice() -> None:
    def view(request: HttpRequest) -> None:
        headers = [
            ("Set-Cookie", "a=1; HttpOnly; Path=/x"),
            ("set-cookie", "b=2"),
            ("X-A", "1"),
            ("X-A", "2"),
        ]
        request.websocket.accept(headers=headers)

    server = Server(view)
    server.response.set_cookie("c", "3")
    lines = server.response.head().decode().split("\r\n")
    assert lines[4:] == [
        "X-A: 1, 2",
        "Set-Cookie: a=1; HttpOnly; Path=/x",
        "Set-Cookie: b=2",
        "Set-Cookie: c=3; Path=/",
        "",
        "",
    ]
    receive_all(server.start())


def test_two_greenlets_accept_at_the_same_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The one that is ready first does it; the other goes on with the connection."""

    def view(request: HttpRequest) -> None:
        other = gevent.spawn(request.websocket.send, "from another")
        gevent.sleep(0)
        request.websocket.accept(headers={"X-View": "first"})
        other.get()

    waits = iter((0.02, 0))
    monkeypatch.setattr(groups, "prepare_connection", lambda: gevent.sleep(next(waits)))
    server = Server(view)
    assert server.response["X-View"] == "first"
    client = server.start()
    assert client.recv(14) == b"\x81\x0cfrom another"
    receive_all(client)


def test_what_is_too_late_for_the_response_is_an_error() -> None:
    errors: list[str] = []

    def view(request: HttpRequest) -> None:
        gevent.spawn(request.websocket.accept)
        gevent.sleep(0)
        try:
            request.websocket.accept(headers={"X-View": "late"})
        except ValueError as exc:
            errors.append(str(exc))

    receive_all(Server(view).start())
    assert errors == ["the connection is accepted already"]


def test_the_view_keeps_the_request_but_not_http() -> None:
    variable = ContextVar[str]("variable")
    seen: dict[str, Any] = {}

    def view(request: HttpRequest) -> None:
        request.websocket.accept()
        seen.update(request.META, variable=variable.get(), body=request.body)

    variable.set("the request's")
    server = Server(view, **{"gunicorn.socket": object(), "wsgi.websocket": None})
    variable.set("another's")
    receive_all(server.start())
    assert seen["variable"] == "the request's"
    assert (seen["body"], seen["PATH_INFO"]) == (b"", "/path/")
    assert not {"wsgi.input", "gunicorn.socket", "wsgi.websocket"} & seen.keys()
    assert HANDOVER not in seen


def test_options_of_a_view_apply() -> None:
    def view(request: HttpRequest) -> None:
        request.websocket.wait()

    request = make_request(HTTP_SEC_WEBSOCKET_PROTOCOL="a, b")
    server = Server.__new__(Server)
    server.request = request
    source = Settings({"subprotocols": ["b", "a"], "max_message_size": 1})
    server.response = run_view(request, view, (), {}, source)
    assert ("Sec-WebSocket-Protocol", "b") in server.response.items()
    client = server.start(frame(1, b"xx"))
    assert client.recv(100)[2:4] == b"\x03\xf1"
    client.close()


def test_a_response_that_is_dropped_ends_the_view() -> None:
    seen: list[Any] = []

    def view(request: HttpRequest) -> None:
        try:
            request.websocket.send("x")
        except ConnectionClosed as exc:
            seen.append(exc.code)
            raise

    server = Server(view)
    server.response.close()
    del server.response
    gc.collect()
    gevent.sleep(0)
    assert seen == [1006]


def test_an_abort_ends_the_view() -> None:
    seen: list[Any] = []

    def view(request: HttpRequest) -> None:
        try:
            request.websocket.wait()
        finally:
            seen.append(1)

    server = Server(view)
    server.response.abort()
    gevent.sleep(0)
    assert seen == [1]
    with pytest.raises(ConnectionClosed):
        server.request.websocket.send("x")


# Ends


@pytest.mark.parametrize(
    "error, code, is_reported",
    [
        (None, 1000, False),
        (ValueError, 1011, True),
        (ConnectionClosed(4000), 1000, False),
        (gevent.GreenletExit, 1001, False),
    ],
)
def test_the_end_of_a_view_is_a_close_code(
    caplog: pytest.LogCaptureFixture, error: Any, code: int, is_reported: bool
) -> None:
    requests = []

    def view(request: HttpRequest) -> str:
        request.websocket.accept()
        if error is not None:
            raise error
        return "ignored"

    def receiver(request: HttpRequest, **kwargs: Any) -> None:
        requests.append(request)

    caplog.set_level(logging.WARNING, "dwebsocket")
    got_request_exception.connect(receiver)
    server = Server(view)
    assert receive_all(server.start()) == b"\x88\x02" + code.to_bytes(2, "big")
    got_request_exception.disconnect(receiver)
    assert requests == [server.request] * is_reported
    assert [record.getMessage() for record in caplog.records] == [
        "Internal error in the WebSocket view of /path/"
    ] * is_reported
    assert all(record.exc_info for record in caplog.records)


def test_system_exit_is_not_an_error_of_the_view(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def view(request: HttpRequest) -> None:
        request.websocket.accept()
        raise SystemExit

    server = Server(view)
    with server.start() as client:
        # As from any greenlet.
        with pytest.raises(SystemExit):
            client.recv(1)
        assert client.recv(4) == b"\x88\x02\x03\xf3"
    assert not caplog.records


def test_a_server_greenlet_that_is_killed_takes_the_view_along() -> None:
    seen = []

    def view(request: HttpRequest) -> None:
        try:
            gevent.sleep(TIMEOUT)
        finally:
            seen.append(1)

    server = gevent.spawn(Server, view)
    gevent.sleep(0)
    gevent.sleep(0)
    server.kill()
    gevent.sleep(0)
    assert seen == [1]


def test_a_view_that_is_killed_before_the_conversation_starts() -> None:
    greenlets = []

    def view(request: HttpRequest) -> None:
        greenlets.append(getcurrent())
        request.websocket.wait()

    server = Server(view)
    gevent.kill(greenlets[0])
    gevent.sleep(0)
    assert receive_all(server.start()) == b"\x88\x02\x03\xe9"


def test_wait_returns_when_view_and_connection_have_ended() -> None:
    def view(request: HttpRequest) -> None:
        request.websocket.accept()
        gevent.sleep(0.01)
        seen.append("view")

    seen: list[str] = []
    server = Server(view)
    client = server.start()
    waiter = gevent.spawn(server.response.wait)
    waiter.link(lambda _: seen.append("end"))
    receive_all(client)
    waiter.join(TIMEOUT)
    assert waiter.ready() and seen == ["view", "end"]
    server.response.wait()


def test_a_waiting_server_that_is_killed_drops_the_connection() -> None:
    def view(request: HttpRequest) -> None:
        request.websocket.wait()

    server = Server(view)
    with server.start() as client:
        waiter = gevent.spawn(server.response.wait)
        gevent.sleep(0)
        waiter.kill()
        assert client.recv(1) == b""
