"""The wheel of heartbeats and draining, with connections that only note calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import gevent
import pytest

from dwebsocket.registry import Heartbeat, Registry

from .servers import TIMEOUT

MakeHeartbeat = Callable[[float | None, float | None], Heartbeat]


class Connection:
    """What the registry needs of one; ``pings`` are times on the wheel's clock."""

    slice_ = 0
    heard_at = pinged_at = 0.0
    messages_in = messages_out = bytes_in = bytes_out = outbox_size = 0

    def __init__(self, heartbeat: Heartbeat) -> None:
        self._heartbeat = heartbeat
        self.pings: list[float] = []
        self.is_silent = self.is_aborted = False
        self.closed_with: tuple[int, str] | None = None

    def send_heartbeat(self) -> None:
        self.pings.append(self._heartbeat.clock)

    def on_silence(self) -> None:
        self.is_silent = True
        self._heartbeat.discard(self)

    def close(self, code: int, reason: str = "") -> None:
        self.closed_with = code, reason

    def abort(self) -> None:
        self.is_aborted = True
        self._heartbeat.discard(self)


def count_watchers() -> int:
    return int(gevent.get_hub().loop.activecnt)


def fill(heartbeat: Heartbeat, count: int) -> list[Connection]:
    connections = [Connection(heartbeat) for _ in range(count)]
    for connection in connections:
        heartbeat.add(connection)
    return connections


def empty(heartbeat: Heartbeat) -> None:
    for connection in list(heartbeat):
        heartbeat.discard(connection)


@pytest.fixture
def make_heartbeat() -> Iterator[MakeHeartbeat]:
    """Heartbeat; at the end those made are emptied, and their timers have to end."""
    made: list[Heartbeat] = []

    def make(interval: float | None, timeout: float | None) -> Heartbeat:
        made.append(Heartbeat(interval, timeout))
        return made[-1]

    with gevent.Timeout(TIMEOUT):
        before = count_watchers()
        yield make
        for heartbeat in made:
            empty(heartbeat)
        while count_watchers() > before:
            gevent.sleep(0.001)


def test_one_timer_for_all_connections(make_heartbeat: MakeHeartbeat) -> None:
    heartbeat = make_heartbeat(0.02, None)
    before = count_watchers()
    fill(heartbeat, 1000)
    assert count_watchers() == before + 1
    fill(heartbeat, 1000)
    assert count_watchers() == before + 1


def test_the_timer_ends_and_starts_again(make_heartbeat: MakeHeartbeat) -> None:
    heartbeat = make_heartbeat(0.02, None)
    for _ in range(2):
        (connection,) = fill(heartbeat, 1)
        while not connection.pings:
            gevent.sleep(0.001)
        empty(heartbeat)
        gevent.sleep(0.02)


def test_heartbeats_are_spread_over_time(make_heartbeat: MakeHeartbeat) -> None:
    connections = fill(make_heartbeat(0.02, None), 80)
    while not all(connection.pings for connection in connections):
        gevent.sleep(0.001)
    # One ping until something is heard.
    assert {len(connection.pings) for connection in connections} == {1}
    times = [connection.pings[0] for connection in connections]
    assert max(map(times.count, times)) == 10


def test_silence(make_heartbeat: MakeHeartbeat) -> None:
    heartbeat = make_heartbeat(0.02, 0.02)
    silent, talking = fill(heartbeat, 2)
    while not silent.is_silent:
        talking.heard_at = heartbeat.clock
        gevent.sleep(0.001)
    assert len(silent.pings) == 1
    assert not talking.is_silent and len(heartbeat) == 1


def test_without_an_interval_there_is_no_timer(make_heartbeat: MakeHeartbeat) -> None:
    before = count_watchers()
    heartbeat = make_heartbeat(None, None)
    connections = fill(heartbeat, 3)
    assert {*heartbeat} == {*connections}
    assert count_watchers() == before


def test_draining_is_in_random_order_and_batches() -> None:
    registry = Registry()
    connections = fill(registry.heartbeat(None, None), 400)
    registry.open = len(connections)
    order: list[int] = []
    times: list[float] = []

    def close(number: int) -> None:
        order.append(number)
        # The loop's clock stands still until the drain pauses.
        times.append(gevent.get_hub().loop.now())
        connections[number].abort()
        registry.leave()

    for number, connection in enumerate(connections):
        connection.close = lambda *args, number=number: close(number)  # type: ignore[method-assign]

    assert registry.drain(1012, "", 1000)
    assert sorted(order) == list(range(400)) != order
    # 1,000 in a second.
    assert [*map(times.count, sorted({*times}))] == [50] * 8
    assert registry.is_draining


def test_draining_aborts_what_does_not_end() -> None:
    registry = Registry()
    (connection,) = fill(registry.heartbeat(None, None), 1)
    registry.enter()
    assert not registry.drain(1001, "bye", 0.01)
    assert connection.closed_with == (1001, "bye")
    assert connection.is_aborted
