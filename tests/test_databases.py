"""Database connections of views, with PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django
import psycopg
import pytest
import websockets.asyncio.client

from .clients import connect, handshake, read_until
from .servers import ROOT, TIMEOUT, Farm, Server, find_program, free_port, wait_for

#: PostgreSQL doesn't run as root.
USER = {"user": "postgres", "group": "postgres"} if os.getuid() == 0 else {}


def find_postgres(name: str) -> str:
    """Return the path of a program; Debian keeps them apart by version."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(found[-1]) if found else find_program(name, "postgresql")


@pytest.fixture(scope="module")
def postgres() -> Iterator[int]:
    """A PostgreSQL of its own, migrated; the value is its port."""
    initdb, server = find_postgres("initdb"), find_postgres("postgres")
    directory = tempfile.mkdtemp(prefix="dwebsocket-postgres-")
    if USER:
        shutil.chown(directory, **USER)
    options: dict[str, Any] = {"cwd": directory, **USER}
    create = [initdb, "-D", directory, "-U", "postgres", "-A", "trust"]
    subprocess.run(create, check=True, stdout=subprocess.DEVNULL, **options)
    port = free_port()
    process = subprocess.Popen(
        [
            *(server, "-D", directory, "-p", str(port), "-k", directory),
            *("-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"),
        ],
        stderr=subprocess.DEVNULL,
        **options,
    )
    try:
        wait_for(lambda: can_connect(port), "PostgreSQL")
        subprocess.run(
            [sys.executable, "-m", "django", "migrate", "--verbosity", "0"],
            check=True,
            env={**os.environ, "POSTGRES_PORT": str(port), "PYTHONPATH": str(ROOT)},
        )
        yield port
    finally:
        # "Fast shutdown": SIGTERM would wait for the clients.
        process.send_signal(signal.SIGINT)
        process.wait(TIMEOUT)
        shutil.rmtree(directory)


def can_connect(port: int) -> bool:
    try:
        count_connections(port)
    except psycopg.OperationalError:
        return False
    return True


def count_connections(port: int) -> int:
    """Return how many connections PostgreSQL has to clients, besides this one."""
    with psycopg.connect(host="127.0.0.1", port=port, user="postgres") as connection:
        (count,) = connection.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid != pg_backend_pid()"
        ).fetchone() or (0,)
        return int(count)


@pytest.fixture(
    scope="module",
    params=["plain", "pool"] if django.VERSION >= (5, 1) else ["plain"],
)
def server(request: pytest.FixtureRequest, farm: Farm, postgres: int) -> Server:
    environ = {"POSTGRES_POOL": "1"} if request.param == "pool" else {}
    return farm.start("gunicorn", POSTGRES_PORT=str(postgres), **environ)


def test_500_views_that_asked_hold_a_handful_of_connections(
    server: Server, postgres: int
) -> None:
    async def ask(number: int) -> websockets.asyncio.client.ClientConnection:
        websocket = await websockets.asyncio.client.connect(
            server.ws + "/database/",
            compression=None,
            proxy=None,
            open_timeout=TIMEOUT * 3,
        )
        await websocket.send(f"{server.port}-{number}")
        assert await websocket.recv() == "1"
        return websocket

    async def run() -> None:
        websockets = []
        # As many at a time as PostgreSQL takes by default, and less.
        for start in range(0, 500, 50):
            numbers = range(start, start + 50)
            websockets += await asyncio.gather(*map(ask, numbers))
        # The last have been answered, and may not wait yet.
        wait_for(lambda: count_connections(postgres) <= 5, "the release")
        for websocket in websockets:
            await websocket.close()

    asyncio.run(run())


def test_views_that_ask_before_they_accept_leave_some_to_middleware(
    server: Server,
) -> None:
    async def ask() -> str | bytes:
        async with websockets.asyncio.client.connect(
            server.ws + "/ask-first/", proxy=None, open_timeout=TIMEOUT
        ) as websocket:
            return await websocket.recv()

    async def run() -> list[str | bytes]:
        return await asyncio.gather(*(ask() for _ in range(40)))

    assert set(asyncio.run(run())) <= {"True", "False"}


def test_handlers_hold_no_connection_between_messages(
    server: Server, postgres: int
) -> None:
    with contextlib.ExitStack() as stack:
        for number in range(20):
            websocket = stack.enter_context(connect(server, "/handlers/create/"))
            websocket.send(f"handler-{server.port}-{number}")
            assert websocket.recv(TIMEOUT) == "1"
        wait_for(lambda: count_connections(postgres) <= 5, "the release")


def test_views_blocked_in_send_hold_no_connection(
    server: Server, postgres: int
) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            sock, received = handshake(server, "/query-and-send/")
            stack.enter_context(sock)
            # The header of the message that is too long for all buffers.
            read_until(
                sock, received, b"\x82\x7f" + (16 * 1024 * 1024).to_bytes(8, "big")
            )
        wait_for(lambda: count_connections(postgres) <= 5, "the release")


def test_a_transaction_is_left_alone(server: Server, postgres: int) -> None:
    with connect(server, "/transaction/") as websocket:
        websocket.send(f"gone-{server.port}")
        assert websocket.recv() == "created"
        assert count_connections(postgres) >= 1
        websocket.send("")
        assert websocket.recv() == "rolled back"
    with connect(server, "/database/") as websocket:
        websocket.send(f"gone-{server.port}")
        # The one that this view has created.
        assert websocket.recv() == "1"
