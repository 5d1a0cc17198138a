"""Clients that the tests talk with: independent implementations."""

from __future__ import annotations

import asyncio
import random
import socket
from typing import Any

import websockets.asyncio.client
import websockets.sync.client

from .servers import TIMEOUT, Server

MIB = 1024 * 1024


def connect(server: Server, path: str, **options: Any) -> Any:
    """Connect with the ``websockets`` package; without compression or proxy."""
    options.setdefault("compression", None)
    options.setdefault("open_timeout", TIMEOUT)
    options.setdefault("close_timeout", TIMEOUT)
    options.setdefault("max_size", None)
    return websockets.sync.client.connect(server.ws + path, proxy=None, **options)


def handshake(
    server: Server,
    path: str,
    *,
    method: str = "GET",
    version: str = "HTTP/1.1",
    extra: bytes = b"",
    **headers: str | None,
) -> tuple[socket.socket, bytes]:
    """Send a handshake by hand; return the socket and what was received.

    ``headers`` replace or, being None, remove those of a proper handshake;
    an underscore stands for a hyphen.  ``extra`` is sent along.
    """
    fields: dict[str, str | None] = {
        "Host": f"127.0.0.1:{server.port}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    request = "\r\n".join([f"{method} {path} {version}", *lines, "", ""])
    sock = socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT)
    sock.sendall(request.encode("latin-1") + extra)
    received = b""
    while b"\r\n\r\n" not in received:
        data = sock.recv(65536)
        if not data:
            break
        received += data
    return sock, received


def hammer(server: Server, path: str, *, connections: int, messages: int) -> None:
    """Echo messages of 0 B to 1 MiB, text and binary, over many connections."""
    asyncio.run(_hammer(server.ws + path, connections, messages))


async def _hammer(url: str, connections: int, messages: int) -> None:
    await asyncio.gather(
        *(_converse(url, seed, messages) for seed in range(connections))
    )


async def _converse(url: str, seed: int, messages: int) -> None:
    rng = random.Random(seed)
    sizes = [0, 1, 125, 126, 127, 65535, 65536, MIB]
    sizes += (rng.randrange(4096) for _ in range(messages - len(sizes)))
    rng.shuffle(sizes)
    async with websockets.asyncio.client.connect(
        url, compression=None, max_size=None, open_timeout=TIMEOUT, proxy=None
    ) as websocket:
        for size in sizes:
            message: str | bytes = rng.randbytes(size)
            if rng.random() < 0.5:
                message = message.hex()[:size]
            await websocket.send(message)
            assert await asyncio.wait_for(websocket.recv(), TIMEOUT * 3) == message
    assert websocket.close_code == 1000
