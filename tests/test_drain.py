"""Workers that end: no client is cut off."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlencode

import pytest
import websockets.asyncio.client
from websockets.exceptions import ConnectionClosed

from .clients import connect, read_until, wait_until_closed
from .servers import TIMEOUT, Farm, Server, free_port, wait_for


async def hold(
    server: Server, path: str, count: int, number: signal.Signals
) -> list[int]:
    """Open connections, send a signal to the server, return the close codes."""

    async def open_one() -> websockets.asyncio.client.ClientConnection:
        return await websockets.asyncio.client.connect(
            server.ws + path, compression=None, proxy=None, open_timeout=TIMEOUT
        )

    async def close_code(websocket: websockets.asyncio.client.ClientConnection) -> int:
        try:
            while True:
                await asyncio.wait_for(websocket.recv(), TIMEOUT * 3)
        except ConnectionClosed as exc:
            return exc.rcvd.code if exc.rcvd else 1006

    opened = []
    while len(opened) < count:
        opened += await asyncio.gather(*(open_one() for _ in range(100)))
    server.process.send_signal(number)
    return await asyncio.gather(*map(close_code, opened))


@pytest.mark.parametrize(
    "number, code", [(signal.SIGTERM, 1001), (signal.SIGHUP, 1012)]
)
def test_2000_connections(farm: Farm, number: signal.Signals, code: int) -> None:
    server = farm.start("gunicorn", options=["--graceful-timeout", "20"])
    (worker,) = server.children
    codes = asyncio.run(hold(server, "/wait/", 2000, number))
    assert set(codes) == {code}
    wait_for(lambda: worker not in server.children, "the worker's end")
    # Each view has seen it as the end of its iteration and ended.
    assert f"Closed 2000 WebSockets with {code}" in server.log
    assert "Traceback" not in server.log
    if number == signal.SIGHUP:
        with connect(server, "/echo/") as websocket:
            websocket.send("to the new worker")
            assert websocket.recv() == "to the new worker"


def test_clients_come_back_at_once(farm: Farm) -> None:
    server = farm.start("gunicorn")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(server, "/echo/")) for _ in range(20)]
        server.process.send_signal(signal.SIGHUP)
        for client in clients:
            assert wait_until_closed(client) == 1012
            # It doesn't get to the worker that is ending.
            again = stack.enter_context(connect(server, "/echo/"))
            again.send("back")
            assert again.recv(TIMEOUT) == "back"


def test_max_requests(farm: Farm) -> None:
    options = ["--max-requests", "5", "--graceful-timeout", "10"]
    server = farm.start("gunicorn", options=options)
    with connect(server, "/wait/") as websocket:
        while True:
            try:
                server.get("/page/")
                websocket.recv(timeout=0.01)
            except TimeoutError:
                continue
            except (ConnectionClosed, OSError):
                break
        with pytest.raises(ConnectionClosed) as caught:
            while True:
                websocket.recv()
    assert caught.value.rcvd.code == 1012


def test_views_end_in_time(farm: Farm) -> None:
    server = farm.start("gunicorn", options=["--graceful-timeout", "10"])
    with connect(server, "/sleep/"):
        wait_for(lambda: has_happened(server, "sleeping"), "the view")
        server.process.terminate()
    server.process.wait(TIMEOUT)
    # The view slept for 2 s and ended by itself.
    assert "/sleep/ closed by " in server.log
    assert "did not end in time" not in server.log


def has_happened(server: Server, event: str) -> bool:
    return event in json.loads(server.get("/status/")[2])["events"]


@pytest.mark.parametrize("kind", ["gunicorn", "pywsgi-websocket"])
def test_requests_in_flight_finish(farm: Farm, kind: str, tmp_path: Path) -> None:
    until = tmp_path / "all closed"
    config = tmp_path / "gunicorn.conf.py"
    config.write_text(
        "from dwebsocket.workers import WebSocketWorker\n"
        "WebSocketWorker.head_timeout = None\n"
    )
    options = ["--config", str(config), "--graceful-timeout", "1000"]
    server = farm.start(kind, options=options if kind == "gunicorn" else [])
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(server, "/linger/")) for _ in range(20)]
        # One that stays open without a request keeps nobody waiting.
        stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        executor = stack.enter_context(ThreadPoolExecutor())
        answer = executor.submit(
            server.get, f"/slow-page/?{urlencode({'until': until})}"
        )
        wait_for(lambda: has_happened(server, "slow page"), "the request")
        server.process.terminate()
        assert {wait_until_closed(client) for client in clients} == {1001}
        until.touch()
        status, headers, text = answer.result(TIMEOUT)
        assert (status, text) == (200, "a slow page")
        # gunicorn has said at the start of the request that it keeps it alive.
        assert kind == "gunicorn" or headers["Connection"] == "close"
        server.process.wait(TIMEOUT)
    assert server.log.count("lingered after 1001") == 20
    assert "Traceback" not in server.log


@pytest.mark.parametrize("kind", ["gunicorn", "pywsgi-websocket"])
def test_a_stopping_server_refuses_upgrades(farm: Farm, kind: str) -> None:
    options = ["--graceful-timeout", "10", "--keep-alive", "60"]
    server = farm.start(kind, options=options if kind == "gunicorn" else [])
    request, _, rest = (
        b"GET /echo/ HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ).partition(b" HTTP")
    with connect(server, "/linger/") as websocket:
        with socket.create_connection(("127.0.0.1", server.port), TIMEOUT) as sock:
            # Once the first is answered, the second has begun.
            sock.sendall(b"GET /page/ HTTP/1.1\r\nHost: localhost\r\n\r\n" + request)
            read_until(sock, b"", b"a page")
            server.process.terminate()
            assert wait_until_closed(websocket) == 1001
            sock.sendall(b" HTTP" + rest)
            received = read_until(sock, b"", b"\r\n\r\n")
            assert received.startswith(b"HTTP/1.1 503 ")
            assert b"\r\nRetry-After: " in received
            assert b"\r\nconnection: close\r\n" in received.lower()
    server.process.wait(TIMEOUT)
    assert "lingered after 1001" in server.log


def test_a_server_stops_in_time(farm: Farm) -> None:
    server = farm.start("pywsgi-websocket", stop_timeout="0.5")
    with connect(server, "/sleep/") as websocket:
        server.process.terminate()
        assert wait_until_closed(websocket) == 1001
    server.process.wait(TIMEOUT)
    # The view slept on.
    assert "/sleep/ closed by " not in server.log


def start_two(farm: Farm) -> tuple[Server, Server]:
    """Start two servers in a process; SIGUSR1 stops and starts the second."""
    port = free_port()
    server = farm.start("pywsgi-two", options=[str(port)])
    second = copy.copy(server)
    second.port = port
    return server, second


def test_one_of_two_servers_stops_and_starts(farm: Farm) -> None:
    server, second = start_two(farm)
    with connect(server, "/echo/") as stays, connect(second, "/linger/") as ends:
        server.process.send_signal(signal.SIGUSR1)
        assert wait_until_closed(ends) == 1001
        wait_for(lambda: "lingered" in server.log, "the view's end")
        stays.send("still here")
        assert stays.recv() == "still here"
        with connect(server, "/echo/"), pytest.raises(ConnectionRefusedError):
            connect(second, "/echo/")
        server.process.send_signal(signal.SIGUSR1)
        second.wait_until_ready()
        with connect(second, "/echo/") as again:
            again.send("back again")
            assert again.recv() == "back again"
    server.process.terminate()
    server.process.wait(TIMEOUT)
    assert "Traceback" not in server.log


def test_a_server_started_while_it_stops(farm: Farm) -> None:
    server, second = start_two(farm)
    with connect(second, "/sleep/") as ends:
        wait_for(lambda: has_happened(server, "sleeping"), "the view")
        server.process.send_signal(signal.SIGUSR1)
        assert wait_until_closed(ends) == 1001
    # The view sleeps on.
    server.process.send_signal(signal.SIGUSR1)
    second.wait_until_ready()
    with connect(second, "/echo/") as again:
        wait_for(lambda: "/sleep/ closed by " in server.log, "the view's end")
        again.send("not closed with the others")
        assert again.recv() == "not closed with the others"
