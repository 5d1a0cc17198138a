"""Proxies in front of gunicorn, configured as docs/nginx.rst tells."""

from __future__ import annotations

import pytest
import websockets
from websockets.exceptions import ConnectionClosed

from .clients import connect, hammer, handshake
from .servers import PROXIES, ROOT, Farm, Server


@pytest.fixture(scope="module", params=PROXIES)
def server(request: pytest.FixtureRequest, farm: Farm) -> Server:
    return farm(request.param)


def test_20_connections_echo_50_messages_each(server: Server) -> None:
    hammer(server, "/echo/", connections=20, messages=50)


def test_big_messages_pass(server: Server) -> None:
    with connect(server, "/echo/") as websocket:
        message = b"x" * 1024 * 1024
        websocket.send(message)
        assert websocket.recv() == message


def test_codes_and_reasons_pass(server: Server) -> None:
    with connect(server, "/close/") as websocket:
        with pytest.raises(ConnectionClosed) as caught:
            websocket.recv()
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4321, "that's it")


def test_a_refusal_passes(server: Server) -> None:
    sock, received = handshake(server, "/refuse/403/")
    with sock:
        assert received.startswith(b"HTTP/1.1 403 ")
        assert b"x-reason: because\r\n" in received.lower()


def test_the_origin_is_compared_with_the_host_that_the_browser_asked_for(
    server: Server,
) -> None:
    with connect(server, "/echo/", origin=server.http) as websocket:
        websocket.send("hello")
        assert websocket.recv() == "hello"
    with pytest.raises(websockets.exceptions.InvalidStatus) as caught:
        connect(server, "/echo/", origin="http://elsewhere.example")
    assert caught.value.response.status_code == 403


def test_all_configurations_are_shown() -> None:
    page = (ROOT / "docs" / "nginx.rst").read_text()
    for path in (ROOT / "docs" / "proxies").iterdir():
        assert f".. literalinclude:: proxies/{path.name}\n" in page
