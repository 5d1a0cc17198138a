"""``dwebsocket.groups.local``: how a message gets to the members in a process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import gevent
import pytest
from gevent import socket

from dwebsocket.groups import local
from dwebsocket.groups.envelope import make_message
from dwebsocket.groups.memory import MemoryBackend
from dwebsocket.limits import Limits
from dwebsocket.transport import Transport
from dwebsocket.websocket import WebSocket

from .servers import TIMEOUT


class Group:
    """30 members in "g:all", one in "g:one"; all are the same connection."""

    size = 30

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self._backend = MemoryBackend("default", None, {})
        self._websocket = WebSocket()
        self._websocket._transport = transport
        for channel in ["g:all"] * self.size + ["g:one"]:
            membership = local.Membership(self._backend, self._websocket, "disconnect")
            self._backend.local.add(channel, membership)

    def send(self, channel: str) -> None:
        self._backend.local.deliver(channel, make_message("x"))

    def wait(self, count: int) -> int:
        """Wait until so many messages are sent; return the turns of the loop."""
        turns = 0
        while self.transport.messages_out < count:
            # The least time is a turn.
            gevent.sleep(0.000001)
            turns += 1
        return turns


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> Iterator[Group]:
    """A group that is served in three slices."""
    monkeypatch.setattr(local, "_SLICE", 10)
    ours, theirs = socket.socketpair()
    limits = Limits(2**20, 1000, None, None)
    transport = Transport(ours, limits, owns_socket=True, on_end=int)
    with theirs, gevent.Timeout(TIMEOUT):
        yield Group(transport)
    transport.abort()


@pytest.mark.parametrize("messages", [1, 3])
def test_other_connections_are_served_between_slices(
    messages: int, group: Group
) -> None:
    other, client = socket.socketpair()

    def serve() -> int:
        other.recv(1)
        return group.transport.messages_out

    with contextlib.closing(other), contextlib.closing(client):
        serving = gevent.spawn(serve)
        gevent.sleep(0)
        client.send(b"x")
        for _ in range(messages):
            group.send("g:all")
        assert serving.get() < messages * group.size
    group.wait(messages * group.size)


def test_small_groups_behind_a_large_one_share_slices(group: Group) -> None:
    group.send("g:all")
    for _ in range(100):
        group.send("g:one")
    assert group.wait(group.size + 100) < 50
