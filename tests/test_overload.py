"""More clients than the server has means for: it serves on, and catches up."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import socket
import time
from pathlib import Path

import pytest

from .clients import frame, handshake, read_until
from .servers import TIMEOUT, Farm, Server, wait_for

TICK = os.sysconf("SC_CLK_TCK")
REQUEST = (
    b"GET /echo/ HTTP/1.1\r\nHost: testserver\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\n\r\n"
)


class Process:
    """The process of a server that has the connections."""

    def __init__(self, server: Server) -> None:
        (self.pid,) = server.children or [server.process.pid]

    @property
    def files(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    @property
    def cpu_seconds(self) -> float:
        stat = Path(f"/proc/{self.pid}/stat").read_text()
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def limit_files(self, more: int) -> None:
        """Set the limit to so many ``more`` than there are."""
        limit = self.files + more
        resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (limit, limit))


def count_connections(server: Server) -> int:
    return int(json.loads(server.get("/status/")[2])["connections"])


def echo(sock: socket.socket) -> None:
    sock.sendall(frame(1, b"Hello"))
    # On a slow machine there may be a ping before it.
    read_until(sock, b"", b"\x81\x05Hello")


def start_handshakes(
    server: Server, count: int, stack: contextlib.ExitStack
) -> list[socket.socket]:
    """Connect all at once, and send requests as soon as they have."""
    sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
    for sock in sockets:
        sock.setblocking(False)
        sock.connect_ex(("127.0.0.1", server.port))
    for sock in sockets:
        sock.settimeout(TIMEOUT * 3)
        sock.sendall(REQUEST)
    return sockets


def is_readable(sock: socket.socket) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def finish_handshake(sock: socket.socket) -> None:
    head = read_until(sock, b"", b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 "), head


def admit(waiting: list[socket.socket]) -> list[socket.socket]:
    """Take those out of ``waiting`` that have been served."""
    served = [*filter(is_readable, waiting)]
    for sock in served:
        finish_handshake(sock)
        waiting.remove(sock)
    return served


@pytest.mark.parametrize("kind", ["gunicorn", "pywsgi-websocket"])
def test_file_limit(farm: Farm, kind: str) -> None:
    server = farm.start(kind)
    process = Process(server)
    with contextlib.ExitStack() as stack:
        # The first request imports modules, which are files.
        database, _ = handshake(server, "/database/")
        stack.callback(database.close)
        files = process.files
        process.limit_files(10)
        waiting = start_handshakes(server, 20, stack)
        wait_for(lambda: "Too many open files" in server.log, "the limit")
        count = process.files - files
        assert 5 < count < 15
        wait_for(lambda: sum(map(is_readable, waiting)) >= count, "the handshakes")
        served = admit(waiting)

        started_at, cpu_seconds = time.monotonic(), process.cpu_seconds
        failures = server.log.count("Too many open files")
        while time.monotonic() < started_at + 1.5:
            time.sleep(0.1)
            for sock in served:
                echo(sock)
        elapsed = time.monotonic() - started_at
        # This is about spinning, which would take it all.
        assert process.cpu_seconds - cpu_seconds < elapsed / 2
        assert server.log.count("Too many open files") - failures < 100

        # The view that needs a file has an error, and nobody else.
        database.sendall(frame(1, b"late"))
        assert database.recv(100)[:4] == b"\x88\x02\x03\xf3"
        wait_for(lambda: "unable to open database file" in server.log, "the log")
        for sock in served:
            echo(sock)

        # Whoever leaves makes room for one who waits.
        database.close()
        while waiting:
            served.pop().close()
            wait_for(lambda: any(map(is_readable, waiting)), "the next")
            served += admit(waiting)


def test_connect_storm(farm: Farm) -> None:
    """1,500 clients at once; ``benchmarks/scale.py --storm`` is for 10,000."""
    server = farm("gunicorn")
    before = count_connections(server)
    with contextlib.ExitStack() as stack:
        sockets = start_handshakes(server, 1500, stack)
        for sock in sockets:
            finish_handshake(sock)
        for sock in sockets:
            echo(sock)
    # For the tests that follow.
    wait_for(lambda: count_connections(server) <= before, "the ends")
