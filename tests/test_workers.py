"""``WebSocketWorker`` under a real gunicorn."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
from pathlib import Path
from types import SimpleNamespace

import gevent.socket
import pytest
from gevent.event import Event
from gevent.pool import Pool
from websockets.sync.client import unix_connect

from dwebsocket.gateway import HANDOVER
from dwebsocket.registry import registry
from dwebsocket.workers import WebSocketWorker, _offer_handover, _Server

from .clients import connect, read_until
from .servers import TIMEOUT, Farm, Server, wait_for


def status(server: Server) -> dict[str, int]:
    return json.loads(server.get("/status/")[2])


@pytest.fixture(scope="module")
def server(farm: Farm) -> Server:
    return farm.start("gunicorn", GUNICORN_CMD_ARGS="--worker-connections 4")


def test_worker_connections_counts_http_only(server: Server) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(server, "/echo/")) for _ in range(20)]
        assert server.get("/page/")[0] == 200
        assert status(server)["connections"] == 20
        for number, client in enumerate(clients):
            client.send(str(number))
        for number, client in enumerate(clients):
            assert client.recv() == str(number)
    wait_for(lambda: status(server)["connections"] == 0, "the ends")


def test_a_conversation_is_one_greenlet(server: Server) -> None:
    before = status(server)["greenlets"]
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(connect(server, "/echo/"))
        wait_for(lambda: status(server)["greenlets"] <= before + 10, "greenlets' ends")
    wait_for(lambda: status(server)["greenlets"] <= before, "all greenlets' ends")


def test_the_application_is_spared_by_the_collector(server: Server) -> None:
    # Django alone has some fifty thousand objects.
    assert status(server)["frozen"] > 10_000


def test_keepalive_is_not_for_the_first_request(farm: Farm) -> None:
    server = farm.start("gunicorn", options=["--keep-alive", "1"])
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.settimeout(2)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        sock.settimeout(TIMEOUT)
        sock.sendall(b"GET /page/ HTTP/1.1\r\nHost: testserver\r\n\r\n")
        read_until(sock, b"", b"a page")
        assert sock.recv(1) == b""


def test_unix_socket(farm: Farm, tmp_path: Path) -> None:
    path = tmp_path / "gunicorn.sock"
    server = farm.start("gunicorn", options=["-b", f"unix:{path}"])
    with unix_connect(str(path), "ws://127.0.0.1/echo/", proxy=None) as websocket:
        websocket.send("Hello")
        assert websocket.recv() == "Hello"
    assert websocket.close_code == 1000
    assert "Traceback" not in server.log


def test_preload_is_refused_with_an_explanation(farm: Farm) -> None:
    server = farm.start("gunicorn", ready_path="", GUNICORN_CMD_ARGS="--preload")
    wait_for(lambda: server.process.poll() is not None, "gunicorn's end")
    assert server.process.returncode != 0
    assert "Django was imported before gevent could patch" in server.log
    assert "Don't use --preload with this worker" in server.log


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_worker_that_is_still_starting_ends(
    farm: Farm, tmp_path: Path, name: str
) -> None:
    config = tmp_path / "gunicorn.conf.py"
    config.write_text(
        "import os, signal\n"
        "from dwebsocket.workers import WebSocketWorker\n"
        "go_on = WebSocketWorker.patch\n"
        "def patch(self):\n"
        f"    os.kill(os.getppid(), signal.{name})\n"
        "    signal.pause()\n"
        "    go_on(self)\n"
        "WebSocketWorker.patch = patch\n"
    )
    options = ["--config", str(config), "--graceful-timeout", "1000"]
    server = farm.start("gunicorn", ready_path="", options=options)
    server.process.wait(TIMEOUT)


def test_patching_too_late_is_refused() -> None:
    # Django is imported here, and nothing patched.
    worker = object.__new__(WebSocketWorker)
    with pytest.raises(RuntimeError, match="Don't use --preload"):
        worker.patch()


def test_an_ending_worker_stays_closed_when_its_pool_has_room_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry, "drain", lambda *args: True)
    is_over = Event()
    worker = object.__new__(WebSocketWorker)
    worker.handle = lambda *args: is_over.wait()  # type: ignore[method-assign]
    worker.cfg = SimpleNamespace(graceful_timeout=1)
    worker.log = logging.getLogger("gunicorn")
    worker._is_told, worker._load = True, 0
    listener = gevent.socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    pool = Pool(1)
    worker._servers = [_Server(listener, worker, spawn=pool)]
    worker._servers[0].start()
    with gevent.Timeout(TIMEOUT), gevent.socket.create_connection(address):
        while not pool.full():
            gevent.sleep()
        worker._close_connections()
        is_over.set()
        pool.join()
        with pytest.raises(ConnectionRefusedError):
            gevent.socket.create_connection(address)


def test_the_application_is_offered_the_hand_over() -> None:
    def application(environ: dict, start_response: object) -> list[object]:
        return [environ, start_response]

    environ = {"a": "b"}
    result = _offer_handover(application)(environ, start_response := object())
    assert result == [{"a": "b", HANDOVER: True}, start_response]
