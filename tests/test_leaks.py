"""Connections that end in every way leave nothing behind in the server.

``TEST_LEAK_CONNECTIONS`` is how many; the default is what is quick.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import struct
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from .clients import MIB, frame, read_until
from .servers import TIMEOUT, Farm, Server, wait_for

CONNECTIONS = int(os.environ.get("TEST_LEAK_CONNECTIONS", "1000"))

CLOSE = frame(8, b"\x03\xe8")
REQUEST = (
    "GET {path} HTTP/1.1\r\nHost: testserver\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Sec-WebSocket-Version: 13\r\n\r\n"
)

#: How many connections end in a way at a time.
BATCH = 8

Sockets = list[socket.socket]


@contextlib.contextmanager
def connected(server: Server) -> Iterator[Sockets]:
    with contextlib.ExitStack() as stack:
        sockets = []
        for _ in range(BATCH):
            sock = stack.enter_context(socket.socket())
            # For little to be on its way.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.settimeout(TIMEOUT)
            sock.connect(("127.0.0.1", server.port))
            sockets.append(sock)
        yield sockets


def send(sockets: Sockets, data: bytes) -> None:
    for sock in sockets:
        sock.sendall(data)


def request(sockets: Sockets, path: str) -> None:
    send(sockets, REQUEST.format(path=path).encode())


def expect(sockets: Sockets, status: int) -> None:
    """Read the head of the response, a byte at a time."""
    for sock in sockets:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += sock.recv(1)
        assert head.startswith(b"HTTP/1.1 %d " % status), head


def expect_end(sockets: Sockets, end: bytes = b"") -> None:
    """Read to the end, which the server makes."""
    for sock in sockets:
        received = b""
        while data := sock.recv(65536):
            received += data
        assert received.endswith(end), received


def expect_close(sockets: Sockets, code: int) -> None:
    """Read up to the close frame, answer, and read to the end."""
    for sock in sockets:
        received = b""
        while struct.pack("!H", code) not in received:
            data = sock.recv(65536)
            assert data, received
            received += data
    send(sockets, CLOSE)
    expect_end(sockets)


def reset(sockets: Sockets) -> None:
    for sock in sockets:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()


def open_websockets(sockets: Sockets, path: str) -> None:
    request(sockets, path)
    expect(sockets, 101)


def closed_by_client(server: Server, sockets: Sockets, path: str = "/echo/") -> None:
    open_websockets(sockets, path)
    send(sockets, frame(1, b"Hello"))
    for sock in sockets:
        assert sock.recv(100) == b"\x81\x05Hello"
    send(sockets, CLOSE)
    expect_end(sockets, b"\x88\x02\x03\xe8")


def closed_by_view(server: Server, sockets: Sockets) -> None:
    open_websockets(sockets, "/close/")
    expect_close(sockets, 4321)


def view_returns(server: Server, sockets: Sockets) -> None:
    open_websockets(sockets, "/nothing/")
    expect_close(sockets, 1000)


def view_fails(server: Server, sockets: Sockets, path: str = "/fail/") -> None:
    open_websockets(sockets, path)
    send(sockets, frame(2, b"\0" * 1000))
    expect_close(sockets, 1011)


def handler_closed_by_client(server: Server, sockets: Sockets) -> None:
    closed_by_client(server, sockets, "/handlers/echo/")


def handler_fails(server: Server, sockets: Sockets) -> None:
    view_fails(server, sockets, "/handlers/fail/")


def handler_reset_while_idle(server: Server, sockets: Sockets) -> None:
    reset_while_idle(server, sockets, "/handlers/echo/")


def view_fails_before_accepting(server: Server, sockets: Sockets) -> None:
    request(sockets, "/refuse/error/")
    expect(sockets, 500)


def view_refuses(server: Server, sockets: Sockets) -> None:
    request(sockets, "/refuse/403/")
    expect(sockets, 403)


def no_such_page(server: Server, sockets: Sockets) -> None:
    request(sockets, "/there-is-no-such-page/")
    expect(sockets, 404)


def malformed_handshake(server: Server, sockets: Sockets) -> None:
    send(sockets, REQUEST.format(path="/echo/").replace("ZQ==", "").encode())
    expect(sockets, 400)


def end_of_stream(server: Server, sockets: Sockets) -> None:
    open_websockets(sockets, "/echo/")


def half_closed(server: Server, sockets: Sockets) -> None:
    open_websockets(sockets, "/echo/")
    send(sockets, frame(1, b"Hello"))
    for sock in sockets:
        sock.shutdown(socket.SHUT_WR)
    expect_end(sockets)


def half_closed_in_handshake(server: Server, sockets: Sockets) -> None:
    request(sockets, "/echo/")
    for sock in sockets:
        sock.shutdown(socket.SHUT_WR)
    expect(sockets, 101)
    expect_end(sockets)


def reset_while_idle(server: Server, sockets: Sockets, path: str = "/echo/") -> None:
    open_websockets(sockets, path)
    reset(sockets)


_numbers = itertools.count()


def open_members(sockets: Sockets) -> str:
    """Open connections, in a group of all and in one of their own; return its name."""
    open_websockets(sockets, "/groups/member/?group=leaks")
    # Not in the path: caches would hold each.
    group = f"leaks {next(_numbers)}"
    join = json.dumps(["join", [group], {"announce": True, "data": "x"}])
    send(sockets, frame(1, join.encode()))
    for sock in sockets:
        read_until(sock, b"", b'{"result":null}')
    return group


def members_closed_by_client(server: Server, sockets: Sockets) -> None:
    open_members(sockets)
    send(sockets, CLOSE)
    expect_end(sockets, b"\x88\x02\x03\xe8")


def members_closed_by_group(server: Server, sockets: Sockets) -> None:
    group = open_members(sockets)
    server.post_json("/groups/call/", ["close", [group, 4000], {}])
    expect_close(sockets, 4000)


def members_listed_and_reset(server: Server, sockets: Sockets) -> None:
    group = open_members(sockets)
    call = ["connections", [], {"group": group}]
    assert server.post_json("/groups/call/", call)["result"]["total"] == BATCH
    server.post_json("/groups/call/", ["send", [group, "to all"], {}])
    reset(sockets)


def reset_in_message(server: Server, sockets: Sockets) -> None:
    open_websockets(sockets, "/echo/")
    send(sockets, frame(1, b"Hello") + frame(1, b"x" * 3000)[:2000])
    reset(sockets)


def reset_in_handshake(server: Server, sockets: Sockets) -> None:
    send(sockets, REQUEST.format(path="/echo/").encode()[:100])
    reset(sockets)


def reset_after_request(server: Server, sockets: Sockets) -> None:
    request(sockets, "/echo/")
    reset(sockets)


def end_after_request_and_message(server: Server, sockets: Sockets) -> None:
    send(sockets, REQUEST.format(path="/echo/").encode() + frame(1, b"Hello"))


def reset_with_full_outbox(server: Server, sockets: Sockets) -> None:
    sockets = sockets[:2]
    open_websockets(sockets, "/flood/")
    for sock in sockets:
        sock.recv(1000)
    stats = json.loads(server.get("/status/")[2])["stats"]
    assert stats["outbox_bytes"] > 0
    reset(sockets)


def protocol_error(server: Server, sockets: Sockets) -> None:
    open_websockets(sockets, "/echo/")
    send(sockets, b"\x81\x01x")
    expect_close(sockets, 1002)


def message_too_big(server: Server, sockets: Sockets) -> None:
    open_websockets(sockets, "/echo-small/")
    send(sockets, frame(1, b"x" * 11))
    expect_close(sockets, 1009)


def close_is_not_answered(server: Server, sockets: Sockets) -> None:
    open_websockets(sockets, "/impatient/")
    expect_end(sockets, b"\x88\x02\x03\xe8")


def killed_by_heartbeat(server: Server, sockets: Sockets) -> None:
    open_websockets(sockets, "/heartbeat/")
    expect_end(sockets, b"\x89\x00")


WAYS = [
    closed_by_client,
    closed_by_view,
    view_returns,
    view_fails,
    handler_closed_by_client,
    handler_fails,
    handler_reset_while_idle,
    view_fails_before_accepting,
    view_refuses,
    no_such_page,
    malformed_handshake,
    end_of_stream,
    half_closed,
    half_closed_in_handshake,
    reset_while_idle,
    reset_in_message,
    reset_in_handshake,
    reset_after_request,
    end_after_request_and_message,
    reset_with_full_outbox,
    protocol_error,
    message_too_big,
    close_is_not_answered,
    killed_by_heartbeat,
    members_closed_by_client,
    members_closed_by_group,
    members_listed_and_reset,
]


def end_in_all_ways(server: Server, connections: int) -> None:
    """Open and end so many connections, several at a time."""

    def end(way: Callable[[Server, Sockets], None]) -> None:
        with connected(server) as sockets:
            way(server, sockets)

    ways = WAYS * (connections // (BATCH * len(WAYS)) + 1)
    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(end, way) for way in ways]:
            future.result()


def take_census(server: Server, start: dict[str, Any]) -> dict[str, Any]:
    """Return what the server holds when it is at rest, as it was at the start."""

    def is_at_rest() -> bool:
        nonlocal census
        census = json.loads(server.get("/census/")[2])
        return all(census[name] <= count for name, count in start.items())

    census: dict[str, Any] = {}
    try:
        wait_for(is_at_rest, f"no more than {start}")
    finally:
        # Shown when it was in vain, or with -s.
        print({name: count for name, count in census.items() if name != "objects"})
    return census


@pytest.mark.parametrize("kind", ["gunicorn", "pywsgi-websocket"])
def test_nothing_is_left(farm: Farm, kind: str) -> None:
    server = farm.start(kind)
    # The first greenlet that handles a message is kept.
    with connected(server) as sockets:
        handler_closed_by_client(server, sockets)
    census = json.loads(server.get("/census/")[2])
    names = ("connections", "greenlets", "watchers", "files")
    start = {name: census[name] for name in names}
    end_in_all_ways(server, min(CONNECTIONS // 3, 3000))
    before = take_census(server, start)
    end_in_all_ways(server, CONNECTIONS)
    after = take_census(server, start)
    growth = Counter(after["objects"])
    growth.subtract(before["objects"])
    # A way of ending that leaves one object behind leaves as many as its share.
    assert {name: more for name, more in growth.items() if more > 10} == {}
    # What the garbage collector doesn't know: bytes, str.  Python 3.10 keeps more for
    # each function from its 1,024th call on.
    if sys.version_info >= (3, 11):
        assert after["blocks"] - before["blocks"] < CONNECTIONS // 4
    assert after["memory"] - before["memory"] < 12 * MIB
