"""The open connections of this process: counts, heartbeats, draining.

Heartbeats: connections with the same interval and timeout share one wheel of
``_SLICES`` sets and one timer, which looks at one set at a time.  A wheel has a
clock of its own that doesn't advance while the hub stalls, so a stall of ours
isn't taken for the silence of all peers.

Nothing here imports ``transport``: a connection adds itself when it starts.
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections import Counter
from collections.abc import Iterator
from itertools import count
from typing import Any, Protocol

from gevent import get_hub, sleep

__all__ = ["Connection", "Heartbeat", "Registry", "Scope", "ServerScope", "registry"]

logger = logging.getLogger("dwebsocket")

#: Seconds between two lines about slow connections.
_SLOW_LOG_INTERVAL = 10
#: A connection is looked at this often in its interval and in its timeout.
_LOOKS = 4
#: The connections of a wheel are looked at in so many portions.
_SLICES = 8
#: Connections closed per second of a drain, time permitting.
_DRAIN_RATE = 1000
_DRAIN_STEP = 0.05


class Connection(Protocol):
    """What the registry needs of a connection."""

    slice_: int
    #: Times on the wheel's clock: a byte was received, a ping was sent.
    heard_at: float
    pinged_at: float
    messages_in: int
    messages_out: int
    bytes_in: int
    bytes_out: int

    @property
    def outbox_size(self) -> int: ...
    def send_heartbeat(self) -> None: ...
    def on_silence(self) -> None: ...
    def close(self, code: int, reason: str = "") -> None: ...
    def abort(self) -> None: ...


class Heartbeat:
    """Connections with the same ``interval`` and ``timeout``, in seconds.

    An ``interval`` of None means that they are kept, but not pinged; a
    ``timeout`` of None that silence has no consequence.
    """

    def __init__(self, interval: float | None, timeout: float | None) -> None:
        self.clock = 0.0
        self._interval = interval
        self._timeout = timeout
        self._slices: list[set[Any]] = [set() for _ in range(_SLICES)]
        self._next_slice = count()
        self._timer: Any = None
        self._ticks = count()
        self._ticked_at = 0.0
        self._period = 0.0
        if interval is not None:
            self._period = min(interval, timeout or interval) / _LOOKS

    def __iter__(self) -> Iterator[Any]:
        for connections in self._slices:
            # They may come and go meanwhile.
            yield from list(connections)

    def __len__(self) -> int:
        return sum(map(len, self._slices))

    def add(self, connection: Connection) -> None:
        connection.slice_ = next(self._next_slice) % _SLICES
        connection.heard_at = self.clock
        self._slices[connection.slice_].add(connection)
        if self._interval is not None and self._timer is None:
            loop = get_hub().loop
            tick = self._period / _SLICES
            self._ticked_at = loop.now()
            self._timer = loop.timer(tick, tick)
            self._timer.start(self._tick)

    def discard(self, connection: Connection) -> None:
        self._slices[connection.slice_].discard(connection)

    def _tick(self) -> None:
        assert self._interval is not None
        if not len(self):
            self._timer.close()
            self._timer = None
            return
        now = self._timer.loop.now()
        # At most twice a tick: the rest was a stall of ours, in which nothing
        # could be received.
        elapsed = min(now - self._ticked_at, 2 * self._period / _SLICES)
        self._ticked_at = now
        self.clock += elapsed
        # Looked at once a period: what is due before the next look is done now.
        ping_before = self.clock - self._interval + self._period
        dead_before = None
        if self._timeout is not None:
            dead_before = ping_before - self._timeout
        for connection in list(self._slices[next(self._ticks) % _SLICES]):
            heard_at = connection.heard_at
            if heard_at > ping_before:
                continue
            if dead_before is not None and heard_at <= dead_before:
                connection.on_silence()
            elif connection.pinged_at <= heard_at:
                connection.pinged_at = self.clock
                connection.send_heartbeat()


class Scope:
    """Views and their connections that end together."""

    def __init__(self) -> None:
        #: Views and connections that haven't ended.
        self.open = 0
        self.is_draining = False

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError

    def add(self, connection: Connection) -> None:
        """A connection has been opened."""

    def discard(self, connection: Connection) -> None:
        """A connection has ended."""

    def enter(self) -> None:
        """A view for a connection starts."""
        self.open += 1

    def leave(self) -> None:
        """View and connection have ended."""
        self.open -= 1

    def drain(self, code: int, reason: str, timeout: float) -> bool:
        """Close all connections and wait until their views have ended.

        From now on there are no new ones.  They are closed in random order and
        batches, over half of ``timeout`` seconds at most; what is left after
        ``timeout`` is aborted.  Returns whether nothing was.
        """
        self.is_draining = True
        deadline = time.monotonic() + timeout
        connections = list(self)
        random.shuffle(connections)
        steps = math.ceil(
            min(timeout / 2, len(connections) / _DRAIN_RATE) / _DRAIN_STEP
        )
        for step in range(steps):
            for connection in connections[step::steps]:
                connection.close(code, reason)
            sleep(random.uniform(0.5, 1.5) * _DRAIN_STEP)
        # Requests that were on their way when this began come late.
        while self.open and time.monotonic() < deadline:
            for connection in list(self):
                connection.close(code, reason)
            sleep(_DRAIN_STEP)
        for connection in list(self):
            connection.abort()
        return not self.open


class Registry(Scope):
    """All connections of this process."""

    def __init__(self) -> None:
        super().__init__()
        self._heartbeats: dict[tuple[float | None, float | None], Heartbeat] = {}
        #: Since the process started.
        self.opened = 0
        #: Workers of the server that runs in this process; 0: none of ours does.
        self.workers = 0
        self.group_gaps = 0
        self._slow: Counter[str] = Counter()
        self._slow_logged: Counter[str] = Counter()
        self._slow_logged_at = -math.inf
        self.refused: Counter[int] = Counter()
        self.closed: Counter[int] = Counter()
        self._ended: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Any]:
        for heartbeat in list(self._heartbeats.values()):
            yield from heartbeat

    def heartbeat(self, interval: float | None, timeout: float | None) -> Heartbeat:
        """Return the wheel for these times, in seconds."""
        try:
            return self._heartbeats[interval, timeout]
        except KeyError:
            heartbeat = self._heartbeats[interval, timeout] = Heartbeat(
                interval, timeout
            )
            return heartbeat

    def stats(self) -> dict[str, Any]:
        """Return what ``dwebsocket.stats()`` does."""
        totals = Counter(self._ended)
        outbox_size = 0
        for connection in self:
            totals.update(_traffic(connection))
            outbox_size += connection.outbox_size
        return {
            "open": self.open,
            "opened": self.opened,
            "refused": dict(self.refused),
            "closed": dict(self.closed),
            "messages_in": totals["messages_in"],
            "messages_out": totals["messages_out"],
            "bytes_in": totals["bytes_in"],
            "bytes_out": totals["bytes_out"],
            "outbox_bytes": outbox_size,
            "slow_consumers": self._slow["slow_consumers"],
            "dropped": self._slow["dropped"],
            "coalesced": self._slow["coalesced"],
            "group_gaps": self.group_gaps,
        }

    def note_slow(self, kind: str, count: int = 1) -> None:
        """Count what slow connections cost: a key of ``stats``; log it now and then."""
        if not count:
            return
        self._slow[kind] += count
        now = time.monotonic()
        if now - self._slow_logged_at < _SLOW_LOG_INTERVAL:
            return
        news = self._slow - self._slow_logged
        logger.warning(
            "slow consumers: %d closed, %d messages dropped, %d replaced by newer ones",
            news["slow_consumers"],
            news["dropped"],
            news["coalesced"],
        )
        self._slow_logged_at = now
        self._slow_logged = Counter(self._slow)

    def note_end(self, connection: Connection, code: int) -> None:
        """Count a connection that has ended."""
        self.closed[code] += 1
        self._ended.update(_traffic(connection))


def _traffic(connection: Connection) -> dict[str, int]:
    return {
        "messages_in": connection.messages_in,
        "messages_out": connection.messages_out,
        "bytes_in": connection.bytes_in,
        "bytes_out": connection.bytes_out,
    }


registry = Registry()


class ServerScope(Scope):
    """Those of one server, of which a process may have several."""

    def __init__(self) -> None:
        super().__init__()
        self._connections: set[Connection] = set()

    def __iter__(self) -> Iterator[Connection]:
        return iter(self._connections)

    def add(self, connection: Connection) -> None:
        self._connections.add(connection)

    def discard(self, connection: Connection) -> None:
        self._connections.discard(connection)

    def enter(self) -> None:
        registry.enter()
        super().enter()

    def leave(self) -> None:
        super().leave()
        registry.leave()
