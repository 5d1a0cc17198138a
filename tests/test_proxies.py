"""Proxies in front of gunicorn, configured as docs/nginx.rst tells."""

from __future__ import annotations

import email
import json
import socket
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from .clients import connect, hammer, handshake
from .proxies import make_command
from .servers import PROXIES, ROOT, TIMEOUT, Farm, Server, free_port


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
    with pytest.raises(InvalidStatus) as caught:
        connect(server, "/echo/", origin="http://elsewhere.example")
    assert caught.value.response.status_code == 403


@pytest.mark.parametrize("kind", ["nginx", "caddy", "apache", "haproxy"])
def test_the_server_is_told_what_the_client_cannot_forge(
    kind: str, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        upstream = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        upstream.settimeout(TIMEOUT)
        port = free_port()
        address = f"127.0.0.1:{upstream.getsockname()[1]}"
        proxy = Server(make_command(kind, tmp_path, port, address), port, tmp_path)
        stack.callback(proxy.stop)
        proxy.wait_until_listening()
        client = stack.enter_context(
            socket.create_connection(("127.0.0.1", port), TIMEOUT)
        )
        client.sendall(
            f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            "X-Forwarded-Proto: https\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n".encode()
        )
        connection, _ = upstream.accept()
        stack.enter_context(connection)
        connection.settimeout(TIMEOUT)
        head = b""
        while b"\r\n\r\n" not in head:
            data = connection.recv(1000)
            assert data, head
            head += data
    headers = email.message_from_bytes(head.partition(b"\r\n")[2])
    assert headers.get_all("Upgrade") == ["websocket"]
    assert [value.lower() for value in headers.get_all("Connection", [])] == ["upgrade"]
    assert headers.get_all("Host") == [f"127.0.0.1:{port}"]
    assert headers.get_all("X-Forwarded-Proto") == ["http"]
    addresses = ",".join(headers.get_all("X-Forwarded-For", []))
    assert addresses.rpartition(",")[2].strip() == "127.0.0.1"


def test_no_handshake_fails_while_a_machine_is_taken_out(
    farm: Farm, tmp_path: Path
) -> None:
    """As docs/workers.rst tells."""
    machines = farm.start("gunicorn"), farm.start("gunicorn")
    port = free_port()
    addresses = [f"127.0.0.1:{machine.port}" for machine in machines]
    command = make_command("nginx", tmp_path, port, *addresses)
    with ExitStack() as stack:
        proxy = Server(command, port, tmp_path)
        stack.callback(proxy.stop)
        proxy.wait_until_ready()
        websockets = [stack.enter_context(connect(proxy, "/echo/")) for _ in range(4)]
        for machine in machines:
            assert json.loads(machine.get("/status/")[2])["connections"] == 2
        machines[0].process.terminate()
        handshakes = 0
        while machines[0].process.poll() is None or handshakes == 0:
            # Whether it is the one that ends or the other that has accepted.
            with connect(proxy, "/echo/"):
                handshakes += 1
        alive = []
        for websocket in websockets:
            with suppress(ConnectionClosed):
                websocket.send("there?")
                assert websocket.recv() == "there?"
                alive.append(websocket)
        assert len(alive) == 2


def test_all_configurations_are_shown() -> None:
    pages = "".join(
        (ROOT / "docs" / name).read_text() for name in ("nginx.rst", "workers.rst")
    )
    for path in (ROOT / "docs" / "proxies").iterdir():
        assert f".. literalinclude:: proxies/{path.name}\n" in pages
