"""How the socket is got from a server, and what is said when it can't be."""

from __future__ import annotations

import io
import json
import socket
import struct
import types
from collections.abc import Iterator
from typing import Any

import gevent.socket
import pytest

from dwebsocket import gateway
from dwebsocket.exceptions import UnsupportedServer
from dwebsocket.gateway import HANDOVER, Handover, find_gateway

from .servers import Farm, Server
from .test_views import UPGRADE

Pair = tuple[gevent.socket.socket, gevent.socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = gevent.socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def patched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway.monkey, "is_module_patched", lambda name: True)


# Sockets


def test_take_socket(pair: Pair) -> None:
    ours, theirs = pair
    descriptor = ours.fileno()
    raw = gateway.take_socket(ours)
    assert (raw.fileno(), ours.fileno()) == (descriptor, -1)
    assert raw.gettimeout() == 0.0
    assert type(raw) is gateway.RawSocket
    theirs.sendall(b"x")
    assert raw.recv(10) == b"x"
    raw.close()


@pytest.mark.parametrize("timeout", [None, 5.0])
def test_read_buffered(pair: Pair, timeout: float | None) -> None:
    ours, theirs = pair
    ours.settimeout(timeout)
    theirs.sendall(b"line\nrest")
    with ours.makefile("rb", -1) as rfile:
        assert rfile.readline() == b"line\n"
        assert gateway.read_buffered(ours, rfile) == b"rest"
        # Neither waits nor spoils the file.
        assert gateway.read_buffered(ours, rfile) == b""
        theirs.sendall(b"more")
        assert rfile.read(4) == b"more"
    assert ours.gettimeout() == timeout


def test_read_buffered_from_a_lost_connection() -> None:
    with gevent.socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = gevent.socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    theirs.close()
    with ours, ours.makefile("rb", -1) as rfile:
        assert gateway.read_buffered(ours, rfile) == b""


# Which server it is


def environs(sock: Any) -> dict[str, dict[str, Any]]:
    """What servers put into the environ, by the name of the gateway."""
    rfile = sock.makefile("rb", -1) if sock else io.BytesIO()
    handler = types.SimpleNamespace(socket=sock, rfile=rfile)
    body = types.SimpleNamespace(rfile=rfile)
    return {
        "_GeventWebSocket": {"wsgi.websocket": types.SimpleNamespace(handler=handler)},
        "_Gunicorn": {"gunicorn.socket": sock},
        "_Pywsgi": {"SERVER_SOFTWARE": "gevent/26.9 Python/3.11", "wsgi.input": body},
        "_Pywsgi (upgrade)": {"SERVER_SOFTWARE": "gevent/26.9", "wsgi.input": rfile},
        "_Pywsgi (gunicorn)": {"gunicorn.sock": object(), "wsgi.input": rfile},
    }


NAMES = list(environs(None))


@pytest.mark.parametrize("name", NAMES)
def test_servers_on_gevent(patched: None, pair: Pair, name: str) -> None:
    found = find_gateway(environs(pair[0])[name])
    assert type(found).__name__ == name.partition(" ")[0]
    assert found.is_switched is (name == "_GeventWebSocket")


def test_our_servers(patched: None) -> None:
    handover = Handover()
    assert find_gateway({HANDOVER: handover, "SERVER_SOFTWARE": "x"}) is handover


@pytest.mark.parametrize("name", NAMES)
def test_servers_that_are_not_patched(pair: Pair, name: str) -> None:
    with pytest.raises(UnsupportedServer, match=r"monkey\.patch_all"):
        find_gateway(environs(pair[0])[name])


@pytest.mark.parametrize("name", [name for name in NAMES if name != "_GeventWebSocket"])
@pytest.mark.parametrize("has_socket", [True, False])
def test_servers_without_gevent(patched: None, name: str, has_socket: bool) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        environ = environs(ours if has_socket else None)[name]
        with pytest.raises(UnsupportedServer, match="WebSockets don't work on "):
            find_gateway(environ)


def test_an_unknown_server(patched: None) -> None:
    # Our worker offers a hand-over; without its socket that is of no use.
    environs: list[dict[str, Any]] = [{}, {HANDOVER: True}, {"wsgi.websocket": None}]
    for environ in environs:
        with pytest.raises(UnsupportedServer, match="don't work on this server: "):
            find_gateway(environ)


# Servers that WebSockets don't work on


@pytest.fixture(
    scope="module",
    params=["gunicorn-gthread", "pywsgi-unpatched", "stock runserver"],
)
def unsupported(request: pytest.FixtureRequest, farm: Farm) -> tuple[Server, str]:
    """A server, and what its error page says."""
    kind = request.param
    if kind == "stock runserver":
        server = farm.start("runserver", STOCK_RUNSERVER="1")
        return server, "WebSockets don't work on WSGIServer/"
    if kind == "pywsgi-unpatched":
        return farm.start(kind), "gevent hasn't patched the standard library"
    return farm.start(kind), "WebSockets don't work on gunicorn/"


def test_the_error_page_names_the_server_and_what_to_use(
    unsupported: tuple[Server, str],
) -> None:
    server, reason = unsupported
    for path in ("/echo/", "/both/", "/refuse/403/"):
        code, headers, text = server.get(path, UPGRADE)
        assert (code, headers["X-Marked"]) == (501, "501")
        assert headers["Content-Type"] == "text/plain; charset=utf-8"
        assert reason in text
        assert "dwebsocket.workers.WebSocketWorker" in text or "patch_all()" in text
    assert reason in server.log
    assert "Traceback" not in server.log


def test_plain_http_works_there(unsupported: tuple[Server, str]) -> None:
    server, _ = unsupported
    assert server.get("/page/")[::2] == (200, "a page")
    assert server.get("/both/")[2] == "plain, atomic: True"
    assert server.get("/echo/")[::2] == (
        400,
        "This URL needs a WebSocket connection.\n",
    )
    assert json.loads(server.get("/status/")[2])["connections"] == 0
    assert "Traceback" not in server.log


def test_django_imported_before_patching(farm: Farm) -> None:
    # Not a page is ready: there Django itself objects to sharing the database.
    server = farm.start(
        "gunicorn-gevent", ready_path="/echo/", GUNICORN_CMD_ARGS="--preload"
    )
    code, _, text = server.get("/echo/", UPGRADE)
    assert code == 501
    assert "Django was imported before gevent patched" in text
    assert "Don't use gunicorn's --preload" in text
    assert "Traceback" not in server.log
