"""Who is in which group, in Redis, and what is done about processes that were killed.

For a prefix ``P``:

* ``P:members:<group>``: a hash of ``websocket.id`` -> JSON
* ``P:process:<id>``: exists while the process lives, and ``_LIFETIME`` seconds longer
* ``P:processes``: a set of the processes that have members
* ``P:suspects``: a set of those that gave no sign of life and have a last chance to
* ``P:groups:<id>``: a set of the groups in which a process has members

What has changed is written by one greenlet, in batches; as long as Redis is away it is
kept.  Each process looks for dead ones and removes their members.  Signs of life also
expire while Redis is away: who is missed gets ``_LAST_CHANCE`` to give another.
"""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

import gevent
from gevent.event import Event

from .base import Member, to_member
from .engines import ERRORS, Engine
from .identity import get_process_id, split_id
from .local import Membership

__all__ = ["Presence", "PresenceStore"]

logger = logging.getLogger("dwebsocket")

#: Seconds that a process is believed to live after its last sign of life.
_LIFETIME = 10
#: Seconds that it then has: longer than one that lives needs when Redis is back.
_LAST_CHANCE = 6
#: Seconds between two signs of life, and between two looks for dead processes.  All
#: three keep the 30 s within which members of a killed process are gone.
_INTERVAL = 4
#: Entries that are written at once.
_BATCH = 500

#: ``announce(event, group, member)``
Announce = Callable[[str, str, Member], object]


class PresenceStore:
    """What any process may ask, with members of its own or not.

    Its methods raise the errors of the engine.
    """

    def __init__(self, engine: Engine, prefix: str, announce: Announce) -> None:
        self._engine = engine
        self._prefix = prefix
        self._announce = announce

    def key(self, kind: str, name: str = "") -> str:
        """Return a key of Redis."""
        return f"{self._prefix}:{kind}:{name}" if name else f"{self._prefix}:{kind}"

    def members(self, group: str) -> list[Member]:
        """Return the members of a group in all processes that live."""
        self.remove_dead()
        found = self._engine.client.hgetall(self.key("members", group))
        return [_parse(*entry)[0] for entry in found.items()]

    def count(self, group: str) -> int:
        """Return how many these are."""
        self.remove_dead()
        return int(self._engine.client.hlen(self.key("members", group)))

    def remove_dead(self) -> None:
        """Remove the members of processes that don't live any more."""
        processes = self._engine.client.smembers(self.key("processes"))
        if not processes:
            return
        processes = [process.decode() for process in processes]
        with self._engine.client.pipeline(transaction=False) as pipeline:
            for process in processes:
                pipeline.exists(self.key("process", process))
            alive = pipeline.execute()
        for process, is_alive in zip(processes, alive, strict=True):
            if not is_alive and self._is_dead(process):
                self._remove_process(process)

    def _is_dead(self, process: str) -> bool:
        """Tell whether a missed process has had its last chance; else give it one."""
        client = self._engine.client
        key = self.key("process", process)
        # Of those that look at the same time, one goes on.
        if not client.set(key, b"", nx=True, ex=_LAST_CHANCE):
            return False
        return not client.sadd(self.key("suspects"), process)

    def _remove_process(self, process: str) -> None:
        client = self._engine.client
        removed = 0
        for group in client.smembers(self.key("groups", process)):
            group = group.decode()
            key = self.key("members", group)
            for websocket_id, text in client.hgetall(key).items():
                if split_id(websocket_id.decode())[0] != process:
                    continue
                # Others may be at it too; who removes it announces it.
                if client.hdel(key, websocket_id):
                    removed += 1
                    member, is_announced = _parse(websocket_id, text)
                    if is_announced:
                        self._announce("leave", group, member)
        client.delete(self.key("groups", process))
        client.srem(self.key("processes"), process)
        client.srem(self.key("suspects"), process)
        client.delete(self.key("process", process))
        if removed:
            logger.warning(
                "groups: a process died; its %d memberships have ended", removed
            )


class Presence(PresenceStore):
    """The members of this process: kept up to date in Redis by a greenlet."""

    def __init__(
        self,
        engine: Engine,
        prefix: str,
        announce: Announce,
        find_memberships: Callable[[], Iterable[tuple[str, Membership]]],
        has_members: Callable[[str], bool],
    ) -> None:
        super().__init__(engine, prefix, announce)
        self._find_memberships = find_memberships
        self._has_members = has_members
        # What isn't written yet, by group and id: the entry, or None to remove it;
        # and what is to be announced then.
        self._changes: dict[tuple[str, str], tuple[Member, str | None, str | None]] = {}
        self._has_changes = Event()
        # Set when what has changed until then is written; the next has another.
        self._written = Event()
        self._greenlet = gevent.spawn(self._run)

    def note(self, event: str, group: str, membership: Membership) -> None:
        """Write soon that a websocket has joined or left."""
        member = to_member(membership)
        text = None
        if event == "join":
            text = _format(member, is_announced=membership.announce)
        self._change(group, member, text, event if membership.announce else None)

    def wait(self, timeout: float) -> None:
        """Wait until what has changed is written, ``timeout`` seconds at most."""
        self._written.wait(timeout)

    def rewrite(self) -> None:
        """Write all again: Redis may have lost it."""
        for group, membership in self._find_memberships():
            member = to_member(membership)
            text = _format(member, is_announced=membership.announce)
            if (group, member.id) not in self._changes:
                self._change(group, member, text, None)

    def close(self) -> None:
        """Write nothing any more."""
        self._greenlet.kill(block=False)

    def _change(
        self, group: str, member: Member, text: str | None, event: str | None
    ) -> None:
        if not self._changes:
            self._written = Event()
        self._changes[group, member.id] = (member, text, event)
        self._has_changes.set()

    def _run(self) -> None:
        due = 0.0
        while True:
            try:
                if time.monotonic() >= due:
                    self._live()
                    due = time.monotonic() + _INTERVAL * random.uniform(0.8, 1.2)
                self._write()
            except Exception as exc:
                if isinstance(exc, ERRORS):
                    logger.debug("groups: members can't be written: %s", exc)
                else:
                    logger.exception("groups: internal error; trying again")
                gevent.sleep(random.uniform(0.5, 1.5))
                continue
            self._has_changes.wait(max(due - time.monotonic(), 0.01))

    def _live(self) -> None:
        process = get_process_id()
        with self._engine.client.pipeline(transaction=False) as pipeline:
            pipeline.set(self.key("process", process), b"", ex=_LIFETIME)
            pipeline.srem(self.key("suspects"), process)
            pipeline.sadd(self.key("processes"), process)
            is_new = pipeline.execute()[2]
        if is_new:
            # The first time, or it was taken for dead, or Redis lost it.
            self.rewrite()
        self.remove_dead()

    def _write(self) -> None:
        while self._changes:
            changes, self._changes = self._changes, {}
            written = self._written
            try:
                while changes:
                    batch = dict(islice(changes.items(), _BATCH))
                    self._write_batch(batch)
                    for key, (member, _, event) in batch.items():
                        del changes[key]
                        if event is not None:
                            self._announce(event, key[0], member)
            except BaseException:
                # What has changed meanwhile is newer.
                self._changes = {**changes, **self._changes}
                raise
            written.set()
        self._has_changes.clear()

    def _write_batch(self, batch: dict[tuple[str, str], Any]) -> None:
        groups = self.key("groups", get_process_id())
        with self._engine.client.pipeline(transaction=False) as pipeline:
            for (group, websocket_id), (_, text, _) in batch.items():
                key = self.key("members", group)
                if text is None:
                    pipeline.hdel(key, websocket_id)
                    if not self._has_members(group):
                        pipeline.srem(groups, group)
                else:
                    pipeline.sadd(groups, group)
                    pipeline.hset(key, websocket_id, text)
            pipeline.execute()


def _format(member: Member, *, is_announced: bool) -> str:
    return json.dumps(
        [member.user, member.data, int(is_announced)], separators=(",", ":")
    )


def _parse(websocket_id: bytes, text: bytes) -> tuple[Member, bool]:
    user, data, is_announced = json.loads(text)
    return Member(websocket_id.decode(), user, data), bool(is_announced)
