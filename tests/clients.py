"""Clients that the tests talk with: independent implementations."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
import time
from collections.abc import Iterable
from typing import Any

import websockets.asyncio.client
import websockets.sync.client
from websockets.exceptions import ConnectionClosed

from .servers import TIMEOUT, Server

MIB = 1024 * 1024


def connect(server: Server, path: str, **options: Any) -> Any:
    """Connect with the ``websockets`` package; without compression or proxy.

    Not over TLS: its thread reads while this one writes, which OpenSSL doesn't
    allow; with TLS 1.3 now and then the request is lost on the client's side.
    """
    assert server.tls is None
    options.setdefault("compression", None)
    options.setdefault("open_timeout", TIMEOUT)
    options.setdefault("close_timeout", TIMEOUT)
    options.setdefault("max_size", None)
    return websockets.sync.client.connect(server.ws + path, proxy=None, **options)


def log_in(name: str) -> dict[str, str]:
    """Return the headers of a request that ``name`` makes, having logged in."""
    from django.contrib.auth.models import User
    from django.db import connection
    from django.test import Client

    client = Client()
    client.force_login(User.objects.get(username=name))
    connection.close()
    return {"Cookie": f"sessionid={client.cookies['sessionid'].value}"}


def wait_until_closed(websocket: Any) -> int:
    """Return the code of the server's close frame; 1006 without one."""
    try:
        message = websocket.recv(TIMEOUT)
    except ConnectionClosed as exc:
        return exc.rcvd.code if exc.rcvd else 1006
    raise AssertionError(message)


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
    if server.tls is not None:
        sock = server.tls.wrap_socket(sock, server_hostname="127.0.0.1")
    sock.sendall(request.encode("latin-1") + extra)
    received = b""
    while b"\r\n\r\n" not in received:
        data = sock.recv(65536)
        if not data:
            break
        received += data
    return sock, received


def frame(
    opcode: int,
    payload: bytes,
    *,
    length: int | None = None,
    fin: bool = True,
    rsv: int = 0,
) -> bytes:
    """Return a masked frame, the masking key being zeros.

    ``length`` is what its header says, if not the truth.
    """
    size = len(payload) if length is None else length
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    if size < 126:
        head = struct.pack("!BB", first, 0x80 | size)
    elif size < 65536:
        head = struct.pack("!BBH", first, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, size)
    return head + bytes(4) + payload


def fragments(opcode: int, payloads: Iterable[bytes], *, fin: bool = True) -> bytes:
    """Return a message in fragments; without ``fin`` another one is to follow."""
    first, *others = payloads
    frames = [frame(opcode, first, fin=False)]
    frames += (frame(0, payload, fin=False) for payload in others)
    if fin:
        frames.append(frame(0, b""))
    return b"".join(frames)


def read_until(sock: socket.socket, received: bytes, end: bytes) -> bytes:
    """Return ``received`` with what follows, up to ``end`` at the earliest."""
    while end not in received:
        data = sock.recv(65536)
        assert data, received
        received += data
    return received


def read_to_end(sock: socket.socket, received: bytes = b"") -> bytes:
    """Return ``received`` with what follows until the server ends the stream."""
    try:
        while data := sock.recv(65536):
            received += data
    except (ConnectionResetError, BrokenPipeError):
        pass  # it had no use for all that was sent
    return received


class Bystander:
    """Somebody else, who uses plain HTTP and a WebSocket during an attack.

    A context manager; at its end each request and message must have been answered
    in good time.  Attributes: ``growth``, by how many bytes the worker's memory was
    above its beginning at most.
    """

    #: Seconds that nobody should have to wait for an answer, however slow the machine.
    PATIENCE = TIMEOUT / 4

    def __init__(self, server: Server) -> None:
        self._server = server
        self._stack = contextlib.ExitStack()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._waits: list[float] = []
        self._errors: list[Exception] = []
        self.growth = 0

    def __enter__(self) -> Bystander:
        websocket = connect(self._server, "/echo/", ping_interval=None)
        self._websocket = self._stack.enter_context(websocket)
        self._use()
        self._memory = self._server.memory
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        with self._stack:
            if kind is None:
                assert self._errors == []
                self._use()
                assert max(self._waits) < self.PATIENCE

    def _run(self) -> None:
        try:
            while not self._stopped.wait(0.02):
                self._use()
                self.growth = max(self.growth, self._server.memory - self._memory)
        except Exception as exc:
            self._errors.append(exc)

    def _use(self) -> None:
        started_at = time.monotonic()
        assert self._server.get("/page/")[::2] == (200, "a page")
        self._waits.append(time.monotonic() - started_at)
        message = f"message {len(self._waits)}"
        started_at = time.monotonic()
        self._websocket.send(message)
        assert self._websocket.recv(timeout=TIMEOUT) == message
        self._waits.append(time.monotonic() - started_at)


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
