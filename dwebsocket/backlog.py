"""Messages of groups that wait behind the outbox of a slow connection.

They wait unencoded, so that they can still be dropped or replaced: with context
takeover a compressed message refers to the one sent before it.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import count
from typing import Any, NamedTuple

from .encoder import Broadcast

__all__ = [
    "COALESCE",
    "DISCONNECT",
    "DROP_NEWEST",
    "DROP_OLDEST",
    "SLOW_CONSUMER_POLICIES",
    "Backlog",
]

#: What happens to a message of a group that a connection has no room for.
DISCONNECT = "disconnect"
DROP_OLDEST = "drop_oldest"
DROP_NEWEST = "drop_newest"
COALESCE = "coalesce"

SLOW_CONSUMER_POLICIES = (DISCONNECT, DROP_OLDEST, DROP_NEWEST, COALESCE)

_numbers = count()


class _Entry(NamedTuple):
    broadcast: Broadcast
    can_be_dropped: bool


class Backlog:
    """Messages in the order in which they will be sent; ``size`` is in bytes."""

    #: What a message takes beside its payload.
    ENTRY_SIZE = 200

    def __init__(self) -> None:
        self.size = 0
        # By (group, key) those that a newer one replaces, the others by a number.
        self._entries: OrderedDict[Any, _Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def append(self, broadcast: Broadcast, policy: str, key: Any = None) -> None:
        """Put a message last.  With ``key``, ``replace`` finds it."""
        can_be_dropped = policy == DROP_OLDEST or policy == COALESCE
        if key is None:
            key = next(_numbers)
        self._entries[key] = _Entry(broadcast, can_be_dropped)
        self.size += len(broadcast.payload) + self.ENTRY_SIZE

    def replace(self, broadcast: Broadcast, key: Any) -> bool:
        """Put a message in the place of the one with this key, if there is one."""
        entry = self._entries.get(key)
        if entry is None:
            return False
        # In its place, so that each key has its turn however often it changes.
        self._entries[key] = entry._replace(broadcast=broadcast)
        self.size += len(broadcast.payload) - len(entry.broadcast.payload)
        return True

    def make_room(self, size: int) -> int:
        """Drop the oldest until ``size`` bytes are free of them; return how many."""
        dropped = []
        for key, entry in self._entries.items():
            if size <= 0:
                break
            if entry.can_be_dropped:
                dropped.append(key)
                size -= len(entry.broadcast.payload) + self.ENTRY_SIZE
        for key in dropped:
            entry = self._entries.pop(key)
            self.size -= len(entry.broadcast.payload) + self.ENTRY_SIZE
        return len(dropped)

    def pop(self) -> Broadcast:
        """Take the first message.  Raises KeyError when there is none."""
        _, entry = self._entries.popitem(last=False)
        self.size -= len(entry.broadcast.payload) + self.ENTRY_SIZE
        return entry.broadcast
