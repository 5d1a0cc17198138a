"""``manage.py runserver`` on a small project that it reloads."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .clients import connect, wait_until_closed
from .servers import Server, free_port, wait_for

_FILES = {
    "manage.py": """
import os
import sys

from django.core.management import execute_from_command_line

os.environ["DJANGO_SETTINGS_MODULE"] = "project.settings"
if __name__ == "__main__":
    execute_from_command_line(sys.argv)
""",
    "project/__init__.py": "",
    "project/settings.py": """
from tests.settings import *

DEBUG = True
ROOT_URLCONF = "project.urls"
""",
    "project/urls.py": """
import time

from django.http import HttpResponse
from django.urls import path

from dwebsocket import require_websocket
from dwebsocket.management.commands.runserver import Command

VERSION = 1


def page(request):
    return HttpResponse(f"version {VERSION}")


@require_websocket
def echo(request):
    for message in request.websocket:
        request.websocket.send(f"{VERSION}: {message}")


@require_websocket
def busy(request):
    request.websocket.send("busy")
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        pass


@require_websocket
def linger(request):
    try:
        for _ in request.websocket:
            pass
    finally:
        time.sleep(0.2)
        print(f"{VERSION}: lingered after {request.websocket.close_code}")


@require_websocket
def hang(request):
    Command.server_cls.stop_timeout = 60
    try:
        request.websocket.wait()
    finally:
        time.sleep(60)


urlpatterns = [
    path("page/", page),
    path("echo/", echo),
    path("busy/", busy),
    path("linger/", linger),
    path("hang/", hang),
]
""",
}


@pytest.fixture(autouse=True)
def default_sigint() -> Iterator[None]:
    """Shells have processes in the background ignore it, and those inherit that."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@contextlib.contextmanager
def runserver(directory: Path, *options: str, port: int | None = None) -> Iterator:
    """Start ``manage.py runserver`` in a new project and stop it."""
    for name, text in _FILES.items():
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    port = port or free_port()
    command = [sys.executable, "manage.py", "runserver", f"127.0.0.1:{port}", *options]
    server = Server(command, port, directory)
    try:
        yield server
    finally:
        server.stop()


def ask(server: Server) -> str:
    with connect(server, "/echo/") as websocket:
        websocket.send("who")
        return websocket.recv()


def test_it_serves_and_reloads(tmp_path: Path, database: None) -> None:
    with runserver(tmp_path) as server:
        server.wait_until_ready()
        assert server.get("/page/")[2] == "version 1"
        assert ask(server) == "1: who"
        code, headers, _ = server.get("/static/admin/css/base.css")
        assert code == 200 and headers["Content-Type"].startswith("text/css")
        assert server.get("/static/none.css")[0] == 404
        assert "Django version " in server.log
        assert "Watching for file changes with StatReloader" in server.log
        for line in (
            '"GET /page/ HTTP/1.1" 200 ',
            '"GET /echo/ HTTP/1.1" 101 ',
            '"GET /static/none.css HTTP/1.1" 404 ',
        ):
            pattern = re.compile(rf"\[\d\d/\w+/\d{{4}} [\d:]+\] {line}")
            wait_for(lambda: pattern.search(server.log), line)  # noqa: B023

        path = tmp_path / "project/urls.py"
        path.write_text(path.read_text().replace("VERSION = 1", "VERSION = 2"))
        seconds = path.stat().st_mtime

        def is_reloaded() -> bool:
            # Again and again: the reloader may not have seen the file before.
            nonlocal seconds
            seconds += 1
            os.utime(path, (seconds, seconds))
            try:
                return server.get("/page/")[2] == "version 2"
            except (OSError, http.client.HTTPException):
                return False

        with connect(server, "/linger/") as websocket:
            wait_for(is_reloaded, "the new version")
            assert wait_until_closed(websocket) == 1012
        assert "1: lingered after 1012" in server.log
        server.wait_until_ready()
        assert ask(server) == "2: who"
        assert "urls.py changed, reloading." in server.log

        with connect(server, "/linger/") as websocket:
            interrupt(server)
            assert wait_until_closed(websocket) == 1001
        wait_for(lambda: server.process.poll() is not None, "the end")
        assert server.process.returncode == 0
        assert "2: lingered after 1001" in server.log
        assert "Traceback" not in server.log
        assert is_free(server.port)


def interrupt(server: Server) -> None:
    """Do what Ctrl-C does: every process of the group gets it."""
    os.killpg(server.process.pid, signal.SIGINT)


def test_the_reloader_ends_what_it_watches(tmp_path: Path, database: None) -> None:
    with runserver(tmp_path) as server:
        server.wait_until_ready()
        with connect(server, "/linger/") as websocket:
            server.process.terminate()
            assert wait_until_closed(websocket) == 1001
        wait_for(lambda: server.process.poll() is not None, "the end")
        assert server.process.returncode == 0
        assert is_free(server.port)
    assert "1: lingered after 1001" in server.log
    assert "Traceback" not in server.log


def test_a_second_interrupt_waits_for_nobody(tmp_path: Path, database: None) -> None:
    with runserver(tmp_path) as server:
        server.wait_until_ready()
        with connect(server, "/hang/") as websocket:
            interrupt(server)
            assert wait_until_closed(websocket) == 1001
            assert server.process.poll() is None
            interrupt(server)
            wait_for(lambda: server.process.poll() is not None, "the end")
        assert is_free(server.port)
    assert "Traceback" not in server.log


def is_free(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_without_the_reloader(
    tmp_path: Path, database: None, number: signal.Signals
) -> None:
    with runserver(tmp_path, "--noreload", "--nostatic") as server:
        server.wait_until_ready()
        assert ask(server) == "1: who"
        assert server.get("/static/admin/css/base.css")[0] == 404
        assert "Watching for file changes" not in server.log
        # While a view runs, and isn't to be interrupted itself.
        with (
            connect(server, "/linger/") as idle,
            connect(server, "/busy/") as websocket,
        ):
            assert websocket.recv() == "busy"
            server.process.send_signal(number)
            assert wait_until_closed(idle) == 1001
            wait_for(lambda: server.process.poll() is not None, "the end")
    assert server.process.returncode == 0
    assert "1: lingered after 1001" in server.log
    assert "Traceback" not in server.log
    assert is_free(server.port)


def test_a_port_in_use_is_said(tmp_path: Path, database: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        with runserver(tmp_path, "--noreload", port=port) as server:
            wait_for(lambda: server.process.poll() is not None, "the end")
    assert server.process.returncode == 1
    assert "Error: That port is already in use." in server.log
    assert "Traceback" not in server.log
