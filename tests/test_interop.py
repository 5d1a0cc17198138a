"""Compressed messages between a real server and the clients that people use.

The site has ``WEBSOCKET_COMPRESSION = True``; one of its views keeps the context
from message to message.  What goes over the wire is counted by the server.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import random
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import websockets.asyncio.client

from .clients import connect
from .servers import TIMEOUT, Farm, Server, find_node

_rng = random.Random(1)
_hex = _rng.randbytes(200).hex()

#: Text and binary, long and short, what no compression makes shorter, and messages
#: of which each repeats the one before.
MESSAGES: list[str | bytes] = [
    "Grüße, 世界! " * 2000,
    "",
    "short",
    b"",
    bytes(range(100)) * 7000,
    _rng.randbytes(5000),
    *(f"{i} {_hex}" for i in range(100)),
]
SIZE = sum(
    len(message.encode() if isinstance(message, str) else message)
    for message in MESSAGES
)

#: Parts of a header that say that messages stand alone.
ALONE = {"server_no_context_takeover", "client_no_context_takeover"}

PATHS = {
    "no context": "/echo/",
    "context": "/in-context/echo/",
}
every_path = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)


@pytest.fixture(scope="module")
def server(farm: Farm) -> Server:
    return farm.start("gunicorn", COMPRESSION="1")


@contextlib.contextmanager
def counted(server: Server, path: str, *, is_compressed: bool = True) -> Iterator[None]:
    """Check that as much goes over the wire as is to be expected."""

    def count() -> tuple[int, int]:
        stats = json.loads(server.get("/status/")[2])["stats"]
        return stats["bytes_in"], stats["bytes_out"]

    before = count()
    yield
    for was, now in zip(before, count(), strict=True):
        if not is_compressed:
            assert SIZE <= now - was < 1.1 * SIZE
        elif path == PATHS["context"]:
            assert 5000 < now - was < 5000 + 100 * 100
        else:
            assert 5000 + 100 * 200 < now - was < 5000 + 100 * 400


def check_extension(extension: str, path: str) -> None:
    name, *parameters = extension.split("; ")
    assert name == "permessage-deflate"
    assert ALONE & set(parameters) == (set() if path == PATHS["context"] else ALONE)


def in_fragments(message: Any) -> Iterable[Any]:
    size = len(message) // 3 + 1
    return [message[i : i + size] for i in range(0, len(message), size)] or [message]


@every_path
@pytest.mark.parametrize("are_fragmented", [False, True], ids=["", "fragments"])
def test_websockets(server: Server, path: str, are_fragmented: bool) -> None:
    with (
        counted(server, path),
        connect(server, path, compression="deflate") as websocket,
    ):
        agreed = websocket.response.headers["Sec-WebSocket-Extensions"]
        check_extension(agreed, path)
        for message in MESSAGES:
            websocket.send(in_fragments(message) if are_fragmented else message)
            assert websocket.recv(TIMEOUT) == message


@pytest.mark.parametrize("are_fragmented", [False, True], ids=["", "fragments"])
def test_websockets_without_compression(server: Server, are_fragmented: bool) -> None:
    with (
        counted(server, "/echo/", is_compressed=False),
        connect(server, "/echo/", compression=None) as websocket,
    ):
        assert "Sec-WebSocket-Extensions" not in websocket.response.headers
        for message in MESSAGES:
            websocket.send(in_fragments(message) if are_fragmented else message)
            assert websocket.recv(TIMEOUT) == message


@every_path
@pytest.mark.parametrize("are_fragmented", [False, True], ids=["", "fragments"])
def test_websockets_with_asyncio(
    server: Server, path: str, are_fragmented: bool
) -> None:
    async def converse() -> None:
        url = server.ws + path
        options: dict[str, Any] = {"max_size": None, "proxy": None}
        async with websockets.asyncio.client.connect(url, **options) as websocket:
            assert websocket.response is not None
            agreed = websocket.response.headers["Sec-WebSocket-Extensions"]
            check_extension(agreed, path)

            async def send() -> None:
                for message in MESSAGES:
                    whole: Any = message
                    await websocket.send(
                        in_fragments(message) if are_fragmented else whole
                    )

            # The server has many of them at once.
            sender = asyncio.create_task(send())
            for message in MESSAGES:
                assert await websocket.recv() == message
            await sender

    with counted(server, path):
        asyncio.run(asyncio.wait_for(converse(), TIMEOUT))


@pytest.mark.parametrize(
    ("path", "window_bits"),
    [
        (PATHS["no context"], 0),  # no compression
        (PATHS["no context"], 15),
        (PATHS["no context"], 9),
        (PATHS["context"], 15),
    ],
)
def test_aiohttp(server: Server, path: str, window_bits: int) -> None:
    async def converse() -> None:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(
                server.http + path, compress=window_bits, max_msg_size=0
            ) as websocket,
        ):
            assert bool(websocket.compress) == bool(window_bits)
            if window_bits:
                assert websocket.client_notakeover == (path != PATHS["context"])
            for message in MESSAGES:
                if isinstance(message, str):
                    await websocket.send_str(message)
                    assert await websocket.receive_str() == message
                else:
                    await websocket.send_bytes(message)
                    assert await websocket.receive_bytes() == message
            await websocket.close()
            assert websocket.close_code == 1000

    with counted(server, path, is_compressed=window_bits > 0):
        asyncio.run(asyncio.wait_for(converse(), TIMEOUT))


def run_ws(
    server: Server, path: str, compression: object, fragments: int
) -> dict[str, Any]:
    """Have the client ``ws`` echo all messages; return how it ended."""
    node, environment = find_node()
    messages = [
        {"text": message}
        if isinstance(message, str)
        else {"base64": base64.b64encode(message).decode()}
        for message in MESSAGES
    ]
    task = {
        "url": server.ws + path,
        "compression": compression,
        "messages": [{**message, "fragments": fragments} for message in messages],
    }
    process = subprocess.run(
        [node, str(Path(__file__).with_name("client.js"))],
        env=environment,
        input=json.dumps(task),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert process.returncode == 0, process.stderr
    outcome: dict[str, Any] = json.loads(process.stdout)
    assert outcome["code"] == 1000
    assert outcome["echoes"] == messages
    return outcome


@pytest.mark.parametrize(
    ("path", "fragments"), [(PATHS["no context"], 1), (PATHS["context"], 3)]
)
def test_ws(server: Server, path: str, fragments: int) -> None:
    with counted(server, path):
        outcome = run_ws(server, path, {"threshold": 0}, fragments)
    assert outcome["extensions"] == "permessage-deflate"


def test_ws_without_compression(server: Server) -> None:
    with counted(server, "/echo/", is_compressed=False):
        assert run_ws(server, "/echo/", False, 3)["extensions"] == ""


@every_path
def test_chromium(server: Server, driver: Any, path: str) -> None:
    driver.get(server.http + "/page/")
    script = """
        const [path, messages, done] = arguments;
        const socket = new WebSocket("ws://" + location.host + path);
        const echoes = [];
        socket.binaryType = "arraybuffer";
        socket.onopen = () => {
            for (const { text, base64 } of messages)
                socket.send(text ?? Uint8Array.from(atob(base64), c => c.charCodeAt()));
        };
        socket.onmessage = (event) => {
            echoes.push(event.data);
            if (echoes.length == messages.length) socket.close(1000);
        };
        socket.onclose = (event) => {
            const equal = echoes.every((echo, i) =>
                typeof echo == "string"
                    ? echo === messages[i].text
                    : btoa(Array.from(new Uint8Array(echo), c =>
                        String.fromCharCode(c)).join("")) === messages[i].base64);
            done([event.code, echoes.length, equal, socket.extensions]);
        };
    """
    messages = [
        {"text": message}
        if isinstance(message, str)
        else {"base64": base64.b64encode(message).decode()}
        for message in MESSAGES
    ]
    driver.set_script_timeout(TIMEOUT)
    with counted(server, path):
        result = driver.execute_async_script(script, path, messages)
    code, count, are_equal, extension = result
    assert (code, count, are_equal) == (1000, len(MESSAGES), True)
    check_extension(extension, path)
