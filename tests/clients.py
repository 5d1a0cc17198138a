"""Clients that the tests talk with: independent implementations."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
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
    options.setdefault("ssl", server.tls)
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


def frame(opcode: int, payload: bytes, *, length: int | None = None) -> bytes:
    """Return a masked frame, the masking key being zeros.

    ``length`` is what its header says, if not the truth.
    """
    size = len(payload) if length is None else length
    if size < 126:
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | size)
    elif size < 65536:
        head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, size)
    return head + bytes(4) + payload


def read_until(sock: socket.socket, received: bytes, end: bytes) -> bytes:
    """Return ``received`` with what follows, up to ``end`` at the earliest."""
    while end not in received:
        data = sock.recv(65536)
        assert data, received
        received += data
    return received


def hammer(server: Server, path: str, *, connections: int, messages: int) -> None:
    """Echo messages of 0 B to 1 MiB, text and binary, over many connections."""
    options = {"compression": None, "max_size": None, "proxy": None}
    options |= {"open_timeout": TIMEOUT, "ssl": server.tls}

    async def run() -> None:
        await asyncio.gather(
            *(
                _converse(server.ws + path, seed, messages, options)
                for seed in range(connections)
            )
        )

    asyncio.run(run())


async def _converse(
    url: str, seed: int, messages: int, options: dict[str, Any]
) -> None:
    rng = random.Random(seed)
    sizes = [0, 1, 125, 126, 127, 65535, 65536, MIB]
    sizes += (rng.randrange(4096) for _ in range(messages - len(sizes)))
    rng.shuffle(sizes)
    async with websockets.asyncio.client.connect(url, **options) as websocket:
        for size in sizes:
            message: str | bytes = rng.randbytes(size)
            if rng.random() < 0.5:
                message = message.hex()[:size]
            await websocket.send(message)
            assert await asyncio.wait_for(websocket.recv(), TIMEOUT * 3) == message
    assert websocket.close_code == 1000
