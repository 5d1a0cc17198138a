"""Limits for what comes per second: messages of a connection, and handshakes.

Token buckets: each has room for ``burst`` tokens, gets ``rate`` of them a second, and
gives one for each message or handshake.  Messages are counted as they arrive, in the
hub, however busy their view is.  Standard library only.
"""

from __future__ import annotations

import json
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from .backlog import DROP_NEWEST
from .encoder import Broadcast
from .frames import CloseCode, Opcode

__all__ = [
    "Bucket",
    "Buckets",
    "MessageLimiter",
    "RateLimit",
    "buckets",
    "parse_rate_limits",
]

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_rate = re.compile(r"([1-9][0-9]*)/(s|m|h|d)")

_KEYS = {"rate", "burst", "per", "over"}
_PER = ("connection", "user", "address")
_OVER = ("close", "drop", "error")

#: Bytes of a refused message that is looked into for its id.
_MAX_PARSED = 4096
#: Buckets that are kept for users and addresses; the one not used for longest goes.
_MAX_BUCKETS = 100_000


class RateLimit(NamedTuple):
    """``rate`` is per second; ``per`` is "connection", "user" or "address".

    ``over`` says what happens to a message above it: "close" the connection with 1008,
    "drop" it, or drop it and send an "error" message.  ``scope`` names what the limit
    is for: others with the same numbers are counted apart.
    """

    rate: float
    burst: int
    per: str
    over: str
    scope: str


class Bucket:
    """The tokens of one connection, user or address."""

    __slots__ = ("_filled_at", "_tokens")

    def __init__(self, limit: RateLimit, now: float) -> None:
        self._tokens = float(limit.burst)
        self._filled_at = now

    def take(self, limit: RateLimit, now: float) -> float:
        """Take a token and return 0, or tell in how many seconds there is one."""
        tokens = self._tokens + (now - self._filled_at) * limit.rate
        self._tokens = min(tokens, float(limit.burst))
        self._filled_at = now
        if self._tokens < 1:
            return (1 - self._tokens) / limit.rate
        self._tokens -= 1
        return 0


class Buckets:
    """The buckets of this process by user or address, the last used being kept."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: OrderedDict[tuple[RateLimit, str], Bucket] = OrderedDict()

    def take(self, limit: RateLimit, name: str) -> float:
        """Do as ``Bucket.take`` does, with the bucket of this name."""
        key = (limit, name)
        now = self._clock()
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = Bucket(limit, now)
            if len(self._buckets) > _MAX_BUCKETS:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        return bucket.take(limit, now)


buckets = Buckets()


class MessageLimiter:
    """The limits for the messages of one connection.

    ``names`` are the user and the address that it shares limits with, by ``per``.
    """

    __slots__ = ("_limits",)

    def __init__(self, limits: Sequence[RateLimit], names: Mapping[str, str]) -> None:
        now = time.monotonic()
        self._limits: list[tuple[RateLimit, Bucket | str]] = [
            (limit, names[limit.per] if limit.per in names else Bucket(limit, now))
            for limit in limits
        ]

    def admit(
        self, connection: Any, messages: Sequence[str | bytes]
    ) -> list[str | bytes]:
        """Return those of the messages, in their order, that are within the limits.

        For each of the others, what the first limit that it is above says is done to
        the ``connection``, a Transport.
        """
        admitted = []
        for message in messages:
            over = self._find_excess()
            if over is None:
                admitted.append(message)
            elif over == "close":
                connection.close(CloseCode.POLICY_VIOLATION, "too many messages")
            elif over == "error":
                error = json.dumps(_make_error(message), separators=(",", ":"))
                broadcast = Broadcast(int(Opcode.TEXT), error.encode())
                # Not for clients that don't read.
                connection.post(broadcast, DROP_NEWEST)
        return admitted

    def _find_excess(self) -> str | None:
        now = time.monotonic()
        for limit, bucket in self._limits:
            if isinstance(bucket, str):
                wait = buckets.take(limit, bucket)
            else:
                wait = bucket.take(limit, now)
            if wait:
                return limit.over
        return None


def parse_rate_limits(
    value: Any, *, per: str = "connection", scope: str = ""
) -> list[RateLimit]:
    """Return the limits that an option stands for.

    That is None, a rate such as "10/s" (s, m, h, d), a dictionary with ``rate`` and any
    of ``burst`` (as many as the rate names, by default), ``per`` and ``over``, or a
    list of these.  Raises ValueError.
    """
    if value is None:
        return []
    if isinstance(value, (list, tuple)):
        return [
            limit
            for item in value
            for limit in parse_rate_limits(item, per=per, scope=scope)
        ]
    options: Mapping[str, Any] = {"rate": value} if isinstance(value, str) else value
    if not isinstance(options, Mapping) or not options.keys() <= _KEYS:
        raise ValueError(f"{value!r} isn't a rate or a dictionary of {sorted(_KEYS)}")
    match = _rate.fullmatch(str(options.get("rate", "")))
    if match is None:
        raise ValueError(
            f'{options.get("rate")!r} isn\'t a rate like "10/s" or "600/h"'
        )
    count = int(match[1])
    burst = options.get("burst", count)
    if isinstance(burst, bool) or not isinstance(burst, int) or burst < 1:
        raise ValueError("burst must be a positive integer")
    limit = RateLimit(
        count / _SECONDS[match[2]],
        burst,
        _one_of(_PER, "per", options.get("per", per)),
        _one_of(_OVER, "over", options.get("over", "close")),
        scope,
    )
    return [limit]


def _make_error(message: str | bytes) -> dict[str, Any]:
    """Return what answers a message above a limit, in the form of typed messages."""
    content = {"code": "rate_limited", "message": "Too many messages."}
    error: dict[str, Any] = {"type": "error", "content": content}
    if len(message) <= _MAX_PARSED:
        try:
            id_ = json.loads(message)["id"]
        except (ValueError, TypeError, KeyError, RecursionError):
            pass  # not of that form
        else:
            if isinstance(id_, (int, str)):
                error["id"] = id_
    return error


def _one_of(names: Sequence[str], option: str, value: Any) -> str:
    if value not in names:
        raise ValueError(f"{option} must be one of {', '.join(names)}")
    return str(value)
