"""WebSockets over TLS that the server itself speaks: its greenlet stays."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from .clients import connect, hammer
from .servers import Server, command, free_port


@pytest.fixture(scope="module", params=["gunicorn", "gunicorn-gevent", "pywsgi-tls"])
def server(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    database: None,
) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    certificate = directory / "server.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
        certificate
    )
    port = free_port()
    arguments = command(request.param, port)
    if request.param.startswith("gunicorn"):
        arguments += ["--certfile", str(certificate), "--keyfile", str(certificate)]
        # Without it gunicorn now and then overlooks the first request, plain HTTP
        # included, until its keep-alive timeout (gunicorn 27.0, gevent 26.9).
        arguments.append("--do-handshake-on-connect")
    else:
        arguments.append(str(certificate))
    server = Server(arguments, port, Path(directory))
    server.tls = ssl.create_default_context()
    authority.configure_trust(server.tls)
    with contextlib.ExitStack() as stack:
        stack.callback(server.stop)
        server.wait_until_ready()
        yield server


def test_echo(server: Server) -> None:
    hammer(server, "/echo/", connections=20, messages=20)


def test_messages_longer_than_all_buffers(server: Server) -> None:
    message = "é" * 4_000_000
    with connect(server, "/echo-big/") as websocket:
        for _ in range(3):
            websocket.send(message)
        for _ in range(3):
            assert websocket.recv() == message
    assert websocket.close_code == 1000


def test_closing_leaves_no_trace_in_the_log(server: Server) -> None:
    start = len(server.log)
    for path in ("/close/", "/nothing/", "/echo/"):
        with connect(server, path):
            pass
    with connect(server, "/echo/") as websocket:
        websocket.socket.close()
    assert server.get("/page/")[2] == "a page"
    assert "Traceback" not in server.log[start:]
