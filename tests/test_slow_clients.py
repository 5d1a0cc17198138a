"""Clients that are slow with their requests: they are cut off, others served."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from .clients import frame, handshake, read_to_end, read_until
from .servers import TIMEOUT, Farm, Server

REQUEST_LINE = b"GET /page/ HTTP/1.1\r\n"
HEADERS = b"Host: localhost\r\nX-Slow: " + b"x" * 1000


@contextlib.contextmanager
def dial(server: Server) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), TIMEOUT) as sock:
        yield sock


def trickle(server: Server) -> bytes:
    """Send headers byte by byte until the server has had enough of it."""
    with dial(server) as sock:
        sock.sendall(REQUEST_LINE)
        sock.setblocking(False)
        deadline = time.monotonic() + TIMEOUT
        for byte in HEADERS:
            assert time.monotonic() < deadline
            try:
                sock.send(bytes([byte]))
                return sock.recv(65536) + read_to_end(sock)
            except BlockingIOError:
                time.sleep(0.05)
            except ConnectionError:
                return b""
    raise AssertionError("the server took it all")


@pytest.fixture(scope="module")
def pywsgi(farm: Farm) -> Server:
    return farm.start("pywsgi-websocket", head_timeout="1", keepalive_timeout="1")


def test_pywsgi_limits_heads_but_not_bodies(pywsgi: Server) -> None:
    with dial(pywsgi) as sock:
        sock.sendall(
            b"POST /page/ HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/x-www-form-urlencoded\r\n"
            b"Content-Length: 3\r\n\r\na"
        )
        received = trickle(pywsgi)
        assert received.startswith(b"HTTP/1.1 408 ")
        assert b"\r\nConnection: close\r\n" in received
        sock.sendall(b"=b")
        # Django read it all in vain of its CSRF token.
        read_until(sock, b"", b"HTTP/1.1 403 ")
    assert '"GET /page/ HTTP/1.1" 408 ' in pywsgi.log
    assert "Traceback" not in pywsgi.log


@pytest.mark.parametrize("requests", [0, 1, 2])
def test_pywsgi_closes_idle_connections_in_silence(
    pywsgi: Server, requests: int
) -> None:
    with dial(pywsgi) as sock:
        for _ in range(requests):
            sock.sendall(b"GET /page/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
            read_until(sock, b"", b"a page")
        assert pywsgi.get("/page/")[0] == 200
        assert read_to_end(sock) == b""


@pytest.fixture(params=["gunicorn", "pywsgi-tls"])
def tls_server(
    request: pytest.FixtureRequest, farm: Farm, tmp_path: Path, gunicorn_config: str
) -> Server:
    authority = trustme.CA()
    certificate = str(tmp_path / "server.pem")
    chain = authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem
    chain.write_to_path(certificate)
    options = [certificate]
    if request.param == "gunicorn":
        options = ["--config", gunicorn_config, "--graceful-timeout", "1000"]
        options += ["--certfile", certificate, "--keyfile", certificate]
    server = farm.start(request.param, ready_path="", options=options, head_timeout="1")
    server.tls = ssl.create_default_context()
    authority.configure_trust(server.tls)
    server.wait_until_ready()
    return server


def test_tls_handshakes(tls_server: Server) -> None:
    server = tls_server
    websocket, _ = handshake(server, "/linger/")
    with dial(server) as sock, websocket:
        assert server.get("/page/")[0] == 200
        assert read_to_end(sock) == b""
        with socket.create_connection(("127.0.0.1", server.port)) as raw:
            with server.tls.wrap_socket(raw, server_hostname="127.0.0.1"):
                server.process.terminate()
                read_until(websocket, b"", b"\x88\x02\x03\xe9")
                websocket.sendall(frame(8, b"\x03\xe9"))
                server.process.wait(TIMEOUT)
    assert "lingered after 1001" in server.log
    assert "Traceback" not in server.log


@pytest.fixture
def gunicorn_config(tmp_path: Path) -> str:
    config = tmp_path / "gunicorn.conf.py"
    config.write_text(
        "from dwebsocket.workers import WebSocketWorker\n"
        "WebSocketWorker.head_timeout = 1\n"
    )
    return str(config)


@pytest.mark.parametrize("keepalive", [0, 60])
def test_gunicorn(farm: Farm, gunicorn_config: str, keepalive: int) -> None:
    options = ["--config", gunicorn_config, "--keep-alive", str(keepalive)]
    server = farm.start("gunicorn", options=options)
    with dial(server) as idle:
        assert trickle(server) == b""
        assert read_to_end(idle) == b""
    # A request that takes as long isn't cut off.
    assert server.get("/slow-page/")[2] == "a slow page"
    assert "Traceback" not in server.log
