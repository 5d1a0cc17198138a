"""WebSockets over TLS that the server itself speaks: its greenlet stays."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
import websockets.asyncio.client

from .clients import frame, hammer, handshake, read_until
from .servers import TIMEOUT, Server, command, free_port, wait_for


@pytest.fixture(scope="module", params=["gunicorn", "gunicorn-gevent", "pywsgi-tls"])
def server(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    database: None,
) -> Iterator[Server]:
    with running(request.param, tmp_path_factory.mktemp("tls")) as server:
        yield server


@contextlib.contextmanager
def running(kind: str, directory: Path) -> Iterator[Server]:
    authority = trustme.CA()
    certificate = directory / "server.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
        certificate
    )
    port = free_port()
    arguments = command(kind, port)
    if kind.startswith("gunicorn"):
        arguments += ["--certfile", str(certificate), "--keyfile", str(certificate)]
    else:
        arguments.append(str(certificate))
    server = Server(arguments, port, directory)
    server.tls = ssl.create_default_context()
    authority.configure_trust(server.tls)
    with contextlib.ExitStack() as stack:
        stack.callback(server.stop)
        server.wait_until_ready()
        yield server


def connect(server: Server, path: str) -> websockets.asyncio.client.connect:
    return websockets.asyncio.client.connect(
        server.ws + path,
        ssl=server.tls,
        compression=None,
        max_size=None,
        open_timeout=TIMEOUT,
        proxy=None,
    )


def test_echo(server: Server) -> None:
    hammer(server, "/echo/", connections=20, messages=20)


def test_messages_longer_than_all_buffers(server: Server) -> None:
    message = "é" * 4_000_000

    async def converse() -> None:
        async with connect(server, "/echo-big/") as websocket:
            for _ in range(3):
                await websocket.send(message)
            for _ in range(3):
                assert await websocket.recv() == message
        assert websocket.close_code == 1000

    asyncio.run(asyncio.wait_for(converse(), TIMEOUT * 3))


def test_closing_leaves_no_trace_in_the_log(server: Server) -> None:
    start = len(server.log)

    async def come_and_go() -> None:
        for path in ("/close/", "/nothing/", "/echo/"):
            async with connect(server, path):
                pass
        async with connect(server, "/echo/") as websocket:
            websocket.transport.abort()

    asyncio.run(come_and_go())
    assert server.get("/page/")[2] == "a page"
    assert "Traceback" not in server.log[start:]


def test_a_request_on_the_heels_of_the_tls_handshake(server: Server) -> None:
    for _ in range(50):
        sock, received = handshake(server, "/echo/", extra=frame(1, b"Hello"))
        with sock:
            assert received.startswith(b"HTTP/1.1 101 ")
            read_until(sock, received, b"\x81\x05Hello")


def test_a_handshake_under_way_when_the_worker_ends(
    tmp_path: Path, database: None
) -> None:
    with running("gunicorn", tmp_path) as server:
        assert server.tls is not None
        received, to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = server.tls.wrap_bio(received, to_send, server_hostname="127.0.0.1")
        with socket.create_connection(("127.0.0.1", server.port), TIMEOUT) as sock:
            with contextlib.suppress(ssl.SSLWantReadError):
                client.do_handshake()
            hello = to_send.read()
            sock.sendall(hello[:10])
            # Accepted later than it, so it is accepted too.
            assert server.get("/page/")[0] == 200
            server.process.terminate()
            wait_for(lambda: "Closed 0 WebSockets" in server.log, "the drain")
            sock.sendall(hello[10:])
            page = b""
            is_asked = False
            while b"a page" not in page:
                try:
                    if not is_asked:
                        client.do_handshake()
                        client.write(b"GET /page/ HTTP/1.0\r\nHost: localhost\r\n\r\n")
                        is_asked = True
                    page += client.read()
                except ssl.SSLWantReadError:
                    sock.sendall(to_send.read())
                    data = sock.recv(65536)
                    assert data, server.log
                    received.write(data)
        server.process.wait(TIMEOUT)
        assert "Traceback" not in server.log
