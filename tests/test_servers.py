"""Every server that WebSockets work on, started for real."""

from __future__ import annotations

import json
import re
import socket

import pytest
from websockets.exceptions import ConnectionClosed

from .clients import connect, hammer, handshake
from .servers import KINDS, Farm, Server, wait_for

#: gevent-websocket writes none for a 101, nginx is told not to.
WRITES_ACCESS_LOG = {
    "gunicorn",
    "gunicorn-gevent",
    "gunicorn-gevent_pywsgi",
    "pywsgi-handler",
    "pywsgi-stock",
    "pywsgi-websocket",
    "runserver",
}
#: gevent-websocket has answered with its own 101 before Django runs.
ANSWERS_ITSELF = {"gunicorn-gevent-websocket", "pywsgi-gevent-websocket"}


#: Of several workers each has counters of its own.
with_one_worker = pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind != "gunicorn-3-workers"], indirect=True
)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(farm: Farm, kind: str) -> Server:
    return farm(kind)


def status(server: Server) -> dict:
    return json.loads(server.get("/status/")[2])


def test_200_connections_echo_50_messages_each(farm: Farm, kind: str) -> None:
    server = farm(kind, "example")
    start = len(server.log)
    hammer(server, "/echo/", connections=200, messages=50)
    assert "Traceback" not in server.log[start:]


def test_example_pages_are_served(farm: Farm, kind: str) -> None:
    server = farm(kind, "example")
    assert server.get("/")[0] == 200
    assert server.get("/lower/?message=LOUD")[2] == "loud"
    stylesheet = server.get("/static/examples/site.css")
    assert stylesheet[0] == 200 and stylesheet[1]["Content-Type"].startswith("text/css")


def test_closing_leaves_no_trace_in_the_error_log(server: Server, kind: str) -> None:
    start = len(server.log)
    for _ in range(3):
        with connect(server, "/echo/") as websocket:
            websocket.send("x")
            assert websocket.recv() == "x"
        assert websocket.close_code == 1000
    with connect(server, "/close/") as websocket:
        with pytest.raises(ConnectionClosed) as caught:
            websocket.recv()
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4321, "that's it")
    if kind in WRITES_ACCESS_LOG:
        pattern = re.compile(r'"GET /(echo|close)/ HTTP/1.1" 101 ')
        wait_for(
            lambda: len(pattern.findall(server.log[start:])) == 4, "the access log"
        )
    known = re.compile(r'"GET /\S* HTTP/1.1" (101|200) |^/\w+/ closed by [cs]')
    for line in server.log[start:].splitlines():
        assert known.search(line), line


def test_a_lost_connection_leaves_no_trace_either(server: Server) -> None:
    start = len(server.log)
    with connect(server, "/wait/") as websocket:
        websocket.recv()
        websocket.send("1")
        assert websocket.recv() == "1"
        websocket.socket.shutdown(socket.SHUT_RDWR)
    # One of several workers has seen it.
    wait_for(lambda: "ended 1006 " in status(server)["events"], "the view's end")
    assert "Traceback" not in server.log[start:]


@with_one_worker
def test_request_is_finished_when_the_conversation_starts(server: Server) -> None:
    before = status(server)["request_finished"]
    with connect(server, "/echo/") as websocket:
        websocket.send("x")
        websocket.recv()
        # The first status request, the handshake.
        assert status(server)["request_finished"] == before + 2


@with_one_worker
def test_a_probe_is_answered_as_a_websocket_would_be(server: Server) -> None:
    before = status(server)
    for path, code, header in (
        ("/echo/", 204, None),
        ("/both/", 204, None),
        ("/sleep/", 204, None),
        ("/refuse/403/", 403, ("X-Reason", "because")),
        ("/refuse/429/", 429, ("Retry-After", "7")),
        ("/members/", 302, ("Location", "/login/?next=/members/")),
    ):
        actual, headers, _ = server.get(path, {"WebSocket-Probe": "1"})
        assert (path, actual) == (path, code)
        assert header is None or headers[header[0]] == header[1]
    foreign = {"WebSocket-Probe": "1", "Origin": "https://elsewhere.example"}
    assert server.get("/echo/", foreign)[0] == 403
    # No view goes on, and nothing was a connection.
    wait_for(lambda: status(server)["connections"] == 0, "the views' ends")
    after = status(server)
    assert after["events"] == before["events"]
    for name in ("opened", "refused"):
        assert after["stats"][name] == before["stats"][name]


@with_one_worker
def test_connections_are_counted(server: Server) -> None:
    wait_for(lambda: status(server)["connections"] == 0, "other tests' ends")
    with connect(server, "/echo/") as websocket:
        assert status(server)["connections"] == 1
        websocket.send("x")
        websocket.recv()
    wait_for(lambda: status(server)["connections"] == 0, "the end")


def test_bytes_that_come_with_the_handshake_are_not_lost(server: Server) -> None:
    frame = b"\x81\x83abcd" + bytes(a ^ b for a, b in zip(b"hey", b"abc", strict=True))
    sock, received = handshake(server, "/echo/", extra=frame)
    with sock:
        while not received.endswith(b"\x81\x03hey"):
            data = sock.recv(1000)
            assert data, received
            received += data


def test_an_error_in_the_view_is_reported(server: Server, kind: str) -> None:
    start = len(server.log)
    with connect(server, "/fail/") as websocket:
        websocket.send("x")
        with pytest.raises(ConnectionClosed) as caught:
            websocket.recv()
    assert caught.value.rcvd.code == 1011
    assert caught.value.rcvd.reason == ""
    if kind != "nginx":
        wait_for(
            lambda: "ZeroDivisionError: after the upgrade" in server.log[start:],
            "the log",
        )
    with connect(server, "/echo/") as websocket:
        websocket.send("still alive")
        assert websocket.recv() == "still alive"


def test_a_refusal_is_plain_http(server: Server, kind: str) -> None:
    sock, received = handshake(server, "/refuse/403/")
    with sock:
        if kind in ANSWERS_ITSELF:
            while not received.endswith(b"403."):
                data = sock.recv(1000)
                assert data, received
                received += data
            assert b"\x03\xf0The request was refused with status 403." in received
        else:
            assert received.startswith(b"HTTP/1.1 403 ")
            assert b"X-Reason: because\r\n" in received


def test_1_mib_bursts_from_view_and_client_cross(server: Server) -> None:
    with connect(server, "/echo/") as websocket:
        message = b"x" * 1024 * 1024
        for _ in range(8):
            websocket.send(message)
        for _ in range(8):
            assert len(websocket.recv()) == len(message)
