"""How a message gets to the members of this process: ``dwebsocket.groups.local``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from gevent import get_hub

from dwebsocket.groups.envelope import Envelope, make_close, make_message
from dwebsocket.groups.local import LocalMembers, Membership

from .test_transport import (
    Connect,
    Connection,
    connect,
    time_limit,
    tls_contexts,
    turn_hub,
)

__all__ = ["connect", "time_limit", "tls_contexts"]

MEMBERS = 10_000

#: A sleep after which the hub has looked at timers and descriptors.
TURN = 0.000001

only_unix = pytest.mark.parametrize("connect", ["unix"], indirect=True)


def wait_until(condition: Callable[[], object]) -> None:
    while not condition():
        gevent.sleep(TURN)


def make_membership(transport: Any) -> Membership:
    websocket: Any = SimpleNamespace(transport=transport)
    return Membership(SimpleNamespace(), websocket, "disconnect")  # type: ignore[arg-type]


class Counter:
    """Takes the place of many connections: only counts, and keeps the order."""

    def __init__(self) -> None:
        self.posted: list[bytes] = []

    def post(self, broadcast: Any, policy: str, key: Any) -> None:
        self.posted.append(broadcast.payload)

    def close(self, code: int | None, reason: str) -> None:
        self.posted.append(f"{code} {reason}".encode())


def fill(local: LocalMembers, channel: str, count: int) -> list[Counter]:
    counters = [Counter() for _ in range(count)]
    for counter in counters:
        local.add(channel, make_membership(counter))
    return counters


def message(number: int) -> Envelope:
    return make_message(str(number))


@pytest.fixture
def turns() -> Iterator[Callable[[], int]]:
    """How often another greenlet has had its turn."""
    count = 0

    def run() -> None:
        nonlocal count
        while True:
            gevent.sleep(TURN)
            count += 1

    greenlet = gevent.spawn(run)
    gevent.sleep(0)
    yield lambda: count
    greenlet.kill()


def test_first_and_last() -> None:
    local = LocalMembers()
    memberships = [make_membership(Counter()) for _ in range(3)]
    assert [local.add("a", membership) for membership in memberships] == [
        True,
        False,
        False,
    ]
    assert local.add("b", memberships[0])
    assert set(local) == {"a", "b"}
    assert local.get("a") == set(memberships)
    assert [local.remove("a", membership) for membership in memberships] == [
        False,
        False,
        True,
    ]
    assert set(local) == {"b"}
    assert local.get("a") == set()
    local.deliver("a", message(1))


def test_many_are_served_in_slices(turns: Callable[[], int]) -> None:
    local = LocalMembers()
    counters = fill(local, "a", MEMBERS)
    few = fill(local, "b", 1)
    local.deliver("a", message(1))
    assert 0 < sum(len(counter.posted) for counter in counters) <= MEMBERS // 10
    # What comes later waits for its turn, whatever its group.
    local.deliver("b", message(2))
    assert few[0].posted == []
    before = turns()
    wait_until(lambda: few[0].posted)
    assert all(counter.posted == [b"1"] for counter in counters)
    assert turns() - before >= MEMBERS // 1000


@only_unix
def test_a_connection_is_served_in_between(connect: Connect) -> None:
    connection = connect()

    def echo() -> None:
        while (received := connection.transport.receive()) is not None:
            connection.transport.send(received)

    gevent.spawn(echo)
    local = LocalMembers()
    counters = fill(local, "a", MEMBERS)
    connection.peer.send("hello")
    for number in range(20):
        local.deliver("a", message(number))
    answer = gevent.spawn(connection.peer.receive)
    wait_until(answer.ready)
    assert answer.get() == "hello"
    assert counters[-1].posted == [] or len(counters[-1].posted) < 20
    wait_until(lambda: all(len(counter.posted) == 20 for counter in counters))


@only_unix
def test_ten_thousand_connections_get_the_same(connect: Connect) -> None:
    """A hundred connections, each a hundred times."""
    connections: list[Connection] = [connect() for _ in range(100)]
    local = LocalMembers()
    for number in range(MEMBERS):
        local.add("a", make_membership(connections[number % 100].transport))
    local.deliver("a", message(1))
    local.deliver("a", make_close(4000, "bye"))
    for connection in connections:
        received = connection.peer.receive_all()
        assert received[:-1] == ["1"] * 100
        assert (received[-1].code, received[-1].reason) == (4000, "bye")  # type: ignore[union-attr]


def test_order_and_limits(turns: Callable[[], int]) -> None:
    local = LocalMembers()
    counters = fill(local, "a", 300)
    others = fill(local, "b", 1)
    returned = []

    def publish() -> None:
        for number in range(3000):
            local.deliver("ab"[number % 2], message(number))
            returned.append(number)

    publisher = gevent.spawn(publish)
    gevent.sleep(0)
    # It has to wait: there is more than is delivered in its turn.
    assert not publisher.ready()
    behind = []
    while not publisher.ready():
        behind.append(len(returned) // 2 - len(counters[-1].posted))
        gevent.sleep(TURN)
    wait_until(lambda: others[0].posted[-1:] == [b"2999"])
    for number, group in enumerate((counters, others)):
        wanted = [b"%d" % i for i in range(number, 3000, 2)]
        assert all(counter.posted == wanted for counter in group)
    assert max(behind) <= 1000


def test_size_limit() -> None:
    local = LocalMembers()
    fill(local, "a", 300)
    mebibyte = make_message(bytes(1024 * 1024))
    delivered = []

    def publish() -> None:
        for number in range(40):
            local.deliver("a", mebibyte)
            delivered.append(number)

    publisher = gevent.spawn(publish)
    gevent.sleep(0)
    assert len(delivered) == 16
    publisher.join()
    assert len(delivered) == 40


def test_the_hub_never_waits() -> None:
    local = LocalMembers()
    counters = fill(local, "a", 300)
    finished = []

    def publish() -> None:
        for number in range(1500):
            local.deliver("a", message(number))
        finished.append(True)

    get_hub().loop.run_callback(publish)
    turn_hub(1)
    assert finished
    wait_until(lambda: len(counters[-1].posted) == 1500)
    assert counters[-1].posted == [b"%d" % number for number in range(1500)]


def test_other_threads() -> None:
    local = LocalMembers()
    counters = fill(local, "a", 300)
    threads = [
        threading.Thread(
            target=lambda start=start: [
                local.deliver("a", message(number))
                for number in range(start, start + 100)
            ]
        )
        for start in (0, 100, 200)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: all(len(counter.posted) == 300 for counter in counters))
    for counter in counters:
        for start in (0, 100, 200):
            ours = [n for n in map(int, counter.posted) if start <= n < start + 100]
            assert ours == list(range(start, start + 100))


def test_those_who_leave_get_no_more() -> None:
    local = LocalMembers()
    counters = [Counter() for _ in range(MEMBERS)]
    memberships = [make_membership(counter) for counter in counters]
    for membership in memberships:
        local.add("a", membership)
    local.deliver("a", message(1))
    late = make_membership(Counter())
    local.add("a", late)
    waiting = [m for m in memberships if not m.transport.posted]  # type: ignore[union-attr]
    gone = [membership.transport for membership in waiting[:100]]
    for membership in waiting[:100]:
        local.remove("a", membership)
    wait_until(lambda: sum(len(c.posted) for c in counters) == MEMBERS - 100)
    assert not any(transport.posted for transport in gone)  # type: ignore[union-attr]
    assert late.transport.posted == []  # type: ignore[union-attr]


def test_only_and_excluded() -> None:
    local = LocalMembers()
    memberships = [make_membership(Counter()) for _ in range(3)]
    for membership in memberships:
        local.add("a", membership)
    local.deliver("a", message(1), excluded=memberships[0])
    local.deliver("a", message(2), only=memberships[0])
    local.deliver("a", make_close(None, ""), only=memberships[1])
    posted = [membership.transport.posted for membership in memberships]  # type: ignore[union-attr]
    assert posted == [[b"2"], [b"1", b"None "], [b"1"]]


class Broken(Counter):
    def post(self, broadcast: Any, policy: str, key: Any) -> None:
        raise MemoryError


def test_an_error_stops_no_other_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handled: list[Any] = []
    monkeypatch.setattr(get_hub(), "handle_error", lambda *args: handled.append(args))
    local = LocalMembers()
    fill(local, "a", 2000)
    local.add("b", make_membership(Broken()))
    others = fill(local, "c", 1)
    for channel in "abc":
        local.deliver(channel, message(1))
    wait_until(lambda: others[0].posted)
    assert [kind for _, kind, _, _ in handled] == [MemoryError]
