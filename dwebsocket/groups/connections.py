"""The open connections, for who wants to know: nothing is kept for it.

A question goes to all processes that have connections; each answers with its part of
the page that is asked for.  Both travel as JSON, of which a process of another version
takes what it knows.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from heapq import nsmallest
from ipaddress import ip_address, ip_network
from typing import Any, NamedTuple

import gevent

from ..registry import registry
from .envelope import GROUP, USER
from .local import LocalMembers

__all__ = ["MAX_LIMIT", "Connection", "Connections", "Query", "answer", "merge"]

#: Connections in one answer.
MAX_LIMIT = 1000

#: Connections that are looked at before the hub does something else.
_SLICE = 500


class Connection(NamedTuple):
    """An open connection.

    ``id`` is that of its websocket; ``user`` the primary key of who was logged in, as a
    str, or None; ``address`` the client's, "" if the server doesn't tell.  Bytes are
    those of frames, ``outbox_size`` those that wait for the client.  ``silence`` is how
    many seconds ago it gave a sign of life, ``latency`` how many the last answered ping
    took, or None.
    """

    id: str
    user: str | None
    path: str
    address: str
    opened_at: datetime
    subprotocol: str | None
    groups: list[str]
    messages_in: int
    messages_out: int
    bytes_in: int
    bytes_out: int
    outbox_size: int
    silence: float
    latency: float | None


class Connections(list[Connection]):
    """A page of connections, those first that have been open for longest.

    ``total`` is how many there are that match, on all pages together; ``missing`` how
    many processes didn't answer in time, and whose connections aren't counted.
    """

    total = 0
    missing = 0


class Query(NamedTuple):
    """Which connections, and which of them; None and "" stand for all."""

    user: str | None = None
    path: str = ""
    address: str | None = None
    group: str | None = None
    #: What the page begins behind: ``opened_at`` as a timestamp, and id.
    after: tuple[float, str] | None = None
    limit: int = 100

    def encode(self) -> bytes:
        """Return the question."""
        return json.dumps(self._asdict()).encode()

    @classmethod
    def decode(cls, question: bytes) -> Query:
        known = json.loads(question)
        return cls(**{name: known[name] for name in cls._fields if name in known})


def answer(local: LocalMembers, question: bytes) -> bytes:
    """Return the answer of this process, letting others run meanwhile."""
    query = Query.decode(question)
    count = 0

    def find_rest() -> Iterator[_Match]:
        nonlocal count
        offset = _find_offset()
        for transport in _find_matches(local, query):
            count += 1
            match = _Match(transport, offset)
            if query.after is None or match.is_after(*query.after):
                yield match

    # Of none it would look at none.
    page = nsmallest(max(query.limit, 1), find_rest())
    rows = [match.describe() for match in page[: query.limit]]
    return json.dumps({"count": count, "rows": rows}).encode()


def merge(answers: Iterable[bytes], limit: int) -> Connections:
    """Return the page that the answers of all processes make."""
    connections = Connections()
    for text in answers:
        part = json.loads(text)
        connections.total += part["count"]
        for row in part["rows"]:
            opened_at = datetime.fromtimestamp(row.pop("opened_at"), timezone.utc)
            connections.append(Connection(opened_at=opened_at, **row))
    connections.sort(key=lambda connection: (connection.opened_at, connection.id))
    del connections[limit:]
    return connections


class _Match:
    """A connection in the order of pages: by when it was opened, and then by id."""

    __slots__ = ("_conversation", "_opened_at", "_transport")

    def __init__(self, transport: Any, offset: float) -> None:
        self._transport = transport
        self._conversation = transport.owner
        # In microseconds, as in a datetime.
        self._opened_at: float = round(self._conversation.started_at + offset, 6)

    def __lt__(self, other: _Match) -> bool:
        # An id is made when it is asked for, which this hardly ever does.
        if self._opened_at != other._opened_at:
            return self._opened_at < other._opened_at
        return self._id < other._id

    def is_after(self, opened_at: float, id: str) -> bool:
        """Tell whether this comes behind a place in the order."""
        if self._opened_at != opened_at:
            return self._opened_at > opened_at
        return self._id > id

    @property
    def _id(self) -> str:
        return str(self._conversation.websocket.id)

    def describe(self) -> dict[str, Any]:
        """Return the fields of a Connection."""
        transport, conversation = self._transport, self._conversation
        websocket = conversation.websocket
        channels = {channel for _, channel in websocket.memberships}
        groups = [name[len(GROUP) :] for name in channels if name.startswith(GROUP)]
        return {
            "id": self._id,
            "user": websocket.user_id,
            "path": conversation.find_client()[0],
            "address": conversation.find_address(),
            "opened_at": self._opened_at,
            "subprotocol": websocket.subprotocol,
            "groups": sorted(groups),
            "messages_in": transport.messages_in,
            "messages_out": transport.messages_out,
            "bytes_in": transport.bytes_in,
            "bytes_out": transport.bytes_out,
            "outbox_size": transport.outbox_size,
            "silence": transport.silence,
            "latency": transport.latency,
        }


def _find_matches(local: LocalMembers, query: Query) -> Iterator[Any]:
    network = None if query.address is None else ip_network(query.address, False)
    for number, transport in enumerate(_find_candidates(local, query), 1):
        if not number % _SLICE:
            # Not 0: the hub wouldn't look at sockets.
            gevent.sleep(0.000001)
        # The conversation; None when it has ended meanwhile.
        conversation = transport.owner
        if conversation is None or not transport.is_open:
            continue
        websocket = conversation.websocket
        if query.user is not None and websocket.user_id != query.user:
            continue
        if query.path and not conversation.find_client()[0].startswith(query.path):
            continue
        if network is not None and not _is_in(conversation.find_address(), network):
            continue
        yield transport


def _find_candidates(local: LocalMembers, query: Query) -> list[Any]:
    if query.group is not None:
        memberships = local.get(GROUP + query.group)
    elif query.user is not None:
        memberships = local.get(USER + query.user)
    else:
        return list(registry)
    transports = [membership.transport for membership in list(memberships)]
    return [transport for transport in transports if transport is not None]


def _is_in(address: str, network: Any) -> bool:
    try:
        return ip_address(address) in network
    except ValueError:
        return False  # it isn't known


_offset = 0.0


def _find_offset() -> float:
    """Return what makes a time of ``time.monotonic()`` a timestamp.

    It stays the same as long as the clocks agree: the next page continues where the
    last one has ended.
    """
    global _offset
    offset = time.time() - time.monotonic()
    if abs(offset - _offset) > 1:
        _offset = offset
    return _offset
