"""The unit of systemd in docs/deployment.rst."""

from __future__ import annotations

import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from .clients import connect, wait_until_closed
from .guides import Block, read_page
from .servers import (
    NO_CONTROL_SOCKET,
    TIMEOUT,
    Server,
    find_program,
    free_port,
    wait_for,
)


@pytest.fixture
def unit() -> str:
    (text,) = (
        block.text
        for block in read_page("deployment.rst")
        if isinstance(block, Block) and block.language == "ini"
    )
    return text.replace("/srv/mysite/venv/bin", str(Path(sys.executable).parent))


def find_command(unit: str, name: str) -> str:
    found = re.search(rf"^{name}=((?:.*\\\n)*.*)", unit, re.MULTILINE)
    assert found
    return found[1].replace("\\\n", " ")


def test_systemd_accepts_it(unit: str, tmp_path: Path) -> None:
    analyze = find_program("systemd-analyze", "systemd")
    path = tmp_path / "mysite.service"
    path.write_text(unit)
    result = subprocess.run(
        [analyze, "verify", "--man=no", "--recursive-errors=no", str(path)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_it_is_started_reloaded_and_stopped(
    unit: str, database: None, tmp_path: Path
) -> None:
    port = free_port()
    command = find_command(unit, "ExecStart")
    for documented, ours in ("8000", str(port)), ("mysite.wsgi", "tests.wsgi"):
        assert documented in command
        command = command.replace(documented, ours)
    assert "Type=notify" in unit
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifications:
        notifications.bind(str(tmp_path / "notify"))
        notifications.settimeout(TIMEOUT)
        server = Server(
            [*shlex.split(command), *NO_CONTROL_SOCKET],
            port,
            tmp_path,
            NOTIFY_SOCKET=str(tmp_path / "notify"),
        )
        try:
            assert b"READY=1" in notifications.recv(1000)
            server.wait_until_ready()
            workers = int(re.findall(r" -w (\d+) ", command)[0])
            wait_for(lambda: len(server.children) == workers, "all workers")
            old = set(server.children)
            with connect(server, "/echo/") as websocket:
                reload = find_command(unit, "ExecReload")
                reload = reload.replace("$MAINPID", str(server.process.pid))
                subprocess.run(shlex.split(reload), check=True)
                assert wait_until_closed(websocket) == 1012
            # Until then they may refuse whom they had accepted.
            wait_for(lambda: old.isdisjoint(server.children), "the old workers' end")
            with connect(server, "/echo/") as websocket:
                server.process.send_signal(signal.SIGTERM)
                assert wait_until_closed(websocket) == 1001
            # No failure, on which it would be started again.
            assert server.process.wait(TIMEOUT) == 0
        finally:
            server.stop()
