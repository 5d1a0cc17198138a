"""Members of groups that don't read, with each policy: what they get, and others."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import random
import socket
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from django.http import HttpRequest
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Close

from dwebsocket import groups, require_websocket, testing
from dwebsocket.backlog import (
    COALESCE,
    DISCONNECT,
    DROP_NEWEST,
    DROP_OLDEST,
    SLOW_CONSUMER_POLICIES,
)
from dwebsocket.encoder import Broadcast
from dwebsocket.registry import registry

from .clients import connect as connect_to
from .clients import read_until
from .servers import TIMEOUT, Farm, Server, wait_for
from .test_transport import (
    KIB,
    MIB,
    SMALL_BUFFER,
    Connect,
    Connection,
    agree,
    connect,
    settle,
    time_limit,
    tls_contexts,
    wait_until,
)

__all__ = ["connect", "time_limit", "tls_contexts"]

LIMIT = 64 * KIB

every_policy = pytest.mark.parametrize("policy", SLOW_CONSUMER_POLICIES)


def text_of(number: int) -> str:
    return f"{number:6}" + "x" * 1018


def post(connection: Connection, text: str, policy: str, key: Any = None) -> None:
    connection.transport.post(Broadcast(1, text.encode()), policy, ("g:a", key))


def post_many(connection: Connection, count: int, policy: str) -> list[str]:
    """Post so many messages, each of a KiB, at once; return them."""
    messages = [text_of(number) for number in range(count)]
    for number, message in enumerate(messages):
        post(connection, message, policy, str(number))
    return messages


def connect_slow(connect: Connect, **options: Any) -> Connection:
    """Connect to somebody who doesn't read: little is on its way."""
    return connect(send_buffer_size=LIMIT, buffer_size=SMALL_BUFFER, **options)


def block(connection: Connection) -> None:
    """Post a first message that fills what the system takes."""
    post(connection, "first" * 100_000, DISCONNECT)
    settle(lambda: connection.transport.outbox_size)


def read_in_greenlet(connection: Connection, count: int) -> gevent.Greenlet:
    return gevent.spawn(connection.peer.receive_many, count)


def counted(name: str) -> Callable[[], int]:
    """Return what counts from now on."""
    before = registry.stats()[name]
    return lambda: registry.stats()[name] - before


# Those who read


@every_policy
def test_who_reads_gets_everything(connect: Connect, policy: str) -> None:
    connection = connect_slow(connect)
    lost = [counted(name) for name in ("slow_consumers", "dropped", "coalesced")]
    reader = read_in_greenlet(connection, 500)
    messages = []
    for number in range(500):
        messages.append(text_of(number))
        post(connection, messages[-1], policy, str(number))
        wait_until(lambda: connection.transport.outbox_size < LIMIT // 2)
    assert reader.get() == messages
    assert [count() for count in lost] == [0, 0, 0]
    assert connection.transport.messages_out == 500


@every_policy
def test_a_message_may_be_longer_than_the_limit(connect: Connect, policy: str) -> None:
    connection = connect_slow(connect)
    messages = ["a" * LIMIT, "b" * MIB, "c"]
    # Little enough waits for it, however long it is itself.
    post(connection, messages[0], policy, "a")
    settle(lambda: connection.transport.outbox_size)
    assert connection.transport.outbox_size <= LIMIT
    post(connection, messages[1], policy, "b")
    reader = read_in_greenlet(connection, 3)
    wait_until(lambda: not connection.transport.outbox_size)
    post(connection, messages[2], policy, "c")
    assert reader.get() == messages


# Those who don't


def test_disconnect(connect: Connect) -> None:
    connection = connect_slow(connect)
    slow = counted("slow_consumers")
    messages = post_many(connection, 1000, DISCONNECT)
    assert slow() == 1
    assert not connection.transport.is_open
    *received, close = connection.peer.receive_all()
    assert received == messages[: len(received)]
    assert close == Close(1013, "too slow")
    connection.wait_for_end()
    post(connection, "too late", DISCONNECT)


def test_drop_newest(connect: Connect) -> None:
    connection = connect_slow(connect)
    dropped = counted("dropped")
    messages = post_many(connection, 1000, DROP_NEWEST)
    assert dropped() > 0
    assert connection.transport.outbox_size <= LIMIT + 2 * KIB
    received = connection.peer.receive_many(1000 - dropped())
    assert received == messages[: len(received)]
    post(connection, "there is room again", DROP_NEWEST)
    assert connection.peer.receive() == "there is room again"


def test_drop_oldest(connect: Connect) -> None:
    connection = connect_slow(connect)
    dropped = counted("dropped")
    messages = post_many(connection, 1000, DROP_OLDEST)
    assert dropped() > 0
    assert connection.transport.outbox_size <= LIMIT + 2 * KIB
    received = connection.peer.receive_many(1000 - dropped())
    # Some at first, then the newest, as many as there is room for.
    newest = LIMIT // KIB // 2
    assert received[-newest:] == messages[-newest:]
    start = next(i for i, text in enumerate(messages) if text != received[i])
    assert received[start:] == messages[len(messages) - len(received) + start :]


def test_coalesce(connect: Connect) -> None:
    connection = connect(buffer_size=SMALL_BUFFER)
    block(connection)
    coalesced, dropped = counted("coalesced"), counted("dropped")
    for number in range(100):
        for key in ("a", "b", "c", None):
            post(connection, f"{key} {number}", COALESCE, key)
        if not number:
            post(connection, "others", DROP_OLDEST, "a")
    # Each key keeps its place.
    wanted = ["a 99", "b 99", "c 99", "None 99", "others"]
    assert connection.peer.receive_many(6)[1:] == wanted
    assert (coalesced(), dropped()) == (4 * 99, 0)
    post(connection, "a 100", COALESCE, "a")
    assert connection.peer.receive() == "a 100"


def test_coalesce_drops_the_oldest_of_many_keys(connect: Connect) -> None:
    connection = connect_slow(connect)
    dropped, coalesced = counted("dropped"), counted("coalesced")
    messages = post_many(connection, 1000, COALESCE)
    assert dropped() > 0
    received = connection.peer.receive_many(1000 - dropped())
    assert received[-20:] == messages[-20:]
    assert coalesced() == 0


@require_websocket(slow_consumer=COALESCE)
def listen(request: HttpRequest) -> None:
    for _ in request.websocket:
        pass


@pytest.mark.parametrize("how", ["send_to", "send_to_user", "broadcast"])
def test_coalesce_outside_of_groups(how: str) -> None:
    user = SimpleNamespace(pk=7, is_authenticated=True, is_active=True)
    with testing.connect(listen, user=user) as websocket:
        ids = groups.connections()[0].id
        receivers = {"send_to": [ids], "send_to_user": [7], "broadcast": []}[how]
        send = partial(getattr(groups, how), *receivers)
        # Nobody reads before the test waits.
        send("x" * MIB)
        for number in range(3):
            for key in ("a", "b", None):
                send(f"{key} {number}", key=key)
        assert websocket.wait() == "x" * MIB
        assert [websocket.wait() for _ in range(3)] == ["a 2", "b 2", "None 2"]
        websocket.assert_no_message()


def test_only_messages_of_such_groups_are_dropped(connect: Connect) -> None:
    connection = connect_slow(connect)
    block(connection)
    # With much less than the limit in front of them.
    wait_until(lambda: connection.transport.outbox_size > LIMIT)
    reader = read_in_greenlet(connection, 1)
    reader.join()
    settle(lambda: connection.transport.outbox_size)
    kept = [f"kept {number}" for number in range(3)]
    for number, text in enumerate(kept):
        post(connection, text, (DISCONNECT, DROP_NEWEST)[number % 2])
    post_many(connection, 1000, DROP_OLDEST)
    connection.transport.close(1000)
    received = connection.peer.receive_all()
    assert [text for text in received if text in kept] == kept


# Order


def test_the_views_own_messages_keep_their_place(connect: Connect) -> None:
    connection = connect(buffer_size=SMALL_BUFFER)
    block(connection)
    texts = [text_of(number) for number in range(40)]
    sends = [connection.transport.send, connection.transport.send_nowait]
    for number, text in enumerate(texts):
        if number % 5:
            post(connection, text, SLOW_CONSUMER_POLICIES[number % 4], str(number))
        else:
            sends[number % 2](text)
    assert connection.peer.receive_many(41)[1:] == texts


def test_a_sender_that_waits(connect: Connect) -> None:
    connection = connect_slow(connect)
    block(connection)
    sender = gevent.spawn(connection.transport.send, "own")
    settle(lambda: sender.started)
    assert not sender.ready()
    for number in range(3):
        post(connection, f"{number}", DROP_NEWEST)
    connection.peer.receive()
    sender.get()
    # Above the limit nothing of a group is taken.
    assert connection.peer.receive() == "own"
    post(connection, "after", DROP_NEWEST)
    assert connection.peer.receive() == "after"


@pytest.mark.parametrize("policy", [DROP_OLDEST, DROP_NEWEST, COALESCE])
def test_close_comes_last(connect: Connect, policy: str) -> None:
    connection = connect(buffer_size=SMALL_BUFFER)
    messages = post_many(connection, 500, policy)
    connection.transport.close(4000, "bye")
    post(connection, "too late", policy)
    assert connection.peer.receive_all() == [*messages, Close(4000, "bye")]
    connection.wait_for_end()


def test_messages_in_context_can_be_dropped(connect: Connect) -> None:
    connection = connect_slow(
        connect, deflate=agree(server_context_takeover=True, threshold=0)
    )
    connection.peer.protocol.extensions = [PerMessageDeflate(False, True, 15, 15)]
    rng = random.Random(1)
    blob = rng.randbytes(4 * KIB).hex()
    dropped = counted("dropped")
    messages = []
    for number in range(1000):
        start = number * 1009 % len(blob)
        new = rng.randbytes(KIB).hex()
        messages.append(f"{number} {blob[start : start + KIB]} {new}")
        post(connection, messages[-1], DROP_OLDEST, str(number))
    assert dropped() > 0
    received = connection.peer.receive_many(1000 - dropped())
    assert received == sorted(set(received), key=messages.index)
    assert received[-1] == messages[-1]


# Ends


@every_policy
def test_the_connection_breaks(connect: Connect, policy: str) -> None:
    connection = connect_slow(connect)
    post_many(connection, 40, policy)
    connection.peer.reset()
    for number in range(1000):
        post(connection, "nobody is there", policy, str(number))
        gevent.sleep(0)
    connection.wait_for_end()
    assert connection.transport.outbox_size == 0


def test_outbox_size_is_that_of_all(connect: Connect) -> None:
    connection = connect_slow(connect)
    before = registry.stats()["outbox_bytes"]
    block(connection)
    size = connection.transport.outbox_size
    connection.transport.abort()
    assert size > 0 and connection.transport.outbox_size == 0
    connection = connect(buffer_size=SMALL_BUFFER)
    block(connection)
    size = connection.transport.outbox_size
    post(connection, "x" * 1000, DROP_OLDEST)
    assert connection.transport.outbox_size >= size + 1000
    assert registry.stats()["outbox_bytes"] - before >= size + 1000
    connection.transport.abort()
    assert registry.stats()["outbox_bytes"] == before


def test_the_log_is_limited(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(registry, "_slow_logged_at", -math.inf)
    caplog.set_level(logging.WARNING, "dwebsocket")
    for _ in range(2):
        post_many(connect_slow(connect), 1000, DROP_NEWEST)
    (record,) = caplog.records
    assert record.getMessage().startswith("slow consumers: ")


# In a server


def open_slow(server: Server, group: str, policy: str) -> socket.socket:
    """Return a member that has joined and reads nothing."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(TIMEOUT)
    sock.connect(("127.0.0.1", server.port))
    sock.sendall(
        f"GET /groups/slow/?group={group}&policy={policy} HTTP/1.1\r\n"
        "Host: testserver\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    read_until(sock, b"", b"joined")
    return sock


def get_stats(server: Server) -> dict[str, Any]:
    stats: dict[str, Any] = json.loads(server.get("/groups/state/")[2])
    return stats


@every_policy
def test_others_get_everything(farm: Farm, policy: str) -> None:
    server = farm("gunicorn")
    before = get_stats(server)
    count, size = 600, 20_000
    with contextlib.ExitStack() as stack:
        stack.enter_context(open_slow(server, f"{policy}0", policy))
        readers = [
            stack.enter_context(
                connect_to(server, f"/groups/slow/?group={policy}0&policy=disconnect")
            )
            for _ in range(3)
        ]
        assert [reader.recv(TIMEOUT) for reader in readers] == ["joined"] * 3
        for start in range(0, count, 20):
            arguments = ["x", start, start + 20, 1, policy, size]
            assert server.post_json("/groups/publish/", arguments) == {}
            for reader in readers:
                wanted = [f"x {number} 0" for number in range(start, start + 20)]
                received = [reader.recv(TIMEOUT).rstrip() for _ in wanted]
                assert received == wanted
        after = get_stats(server)
        news = {
            name: after[name] - before[name]
            for name in ("slow_consumers", "dropped", "coalesced")
        }
        if policy == DISCONNECT:
            assert news == {"slow_consumers": 1, "dropped": 0, "coalesced": 0}
        elif policy == COALESCE:
            # One waits, and each after it takes its place.
            assert news["coalesced"] > 300
            assert news["slow_consumers"] == news["dropped"] == 0
        else:
            assert news["dropped"] > 100
            assert news["slow_consumers"] == news["coalesced"] == 0
    wait_for(lambda: get_stats(server)["outbox_bytes"] == 0, "the slow one to be gone")
