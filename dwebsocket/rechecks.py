"""Looks at logins again: when something of a user may have changed, in any process, and
for as long as a session may come to its end.  What is looked at is in ``logins``.

One greenlet does it for the whole process, with one database connection that it holds
no longer than it needs it.  Where the standard library isn't patched, in a test say, it
is done at once, by the connection that all have there.
"""

from __future__ import annotations

import json
import logging
import math
import random
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import gevent
from gevent import monkey
from gevent.event import Event

from . import databases
from .logins import UNAUTHORIZED, Login, find_session_ends, make_digest

if TYPE_CHECKING:
    from .groups.local import LocalMembers, Membership

__all__ = [
    "ALL_LOGINS",
    "Change",
    "can_wait",
    "forget",
    "obey",
    "recheck_all",
    "watch",
]

logger = logging.getLogger("dwebsocket")

#: The channel of all processes that have connections: what changes of any user.
ALL_LOGINS = "a:logins"

#: Seconds between two looks at what is due.
_INTERVAL = 0.5
#: Seconds after which a session is looked at again, though it should live longer: it
#: may have been deleted, or shortened.
_MAX_INTERVAL = 30
#: Seconds after which to try again what couldn't be looked at.
_RETRY_INTERVAL = 2
#: Seconds for which a change concerns connections that are being opened: their users
#: may have been looked up before it.
_OPENING = 10


class Change(NamedTuple):
    """What is published when logins may have ended.

    ``channel`` is that of a user, or ALL_LOGINS: all who have to pass tests; ``digest``
    that of the session that has ended, or "": look again.
    """

    channel: str
    digest: str = ""

    def encode(self) -> bytes:
        """Return the bytes from which ``decode`` makes it again."""
        return json.dumps(self).encode()

    @classmethod
    def decode(cls, data: bytes) -> Change:
        return cls(*json.loads(data))


def obey(local: LocalMembers, change: Change) -> None:
    """Do what was published: look again, or close those of the session that ended."""
    channel, digest = change
    _rechecker.note_change(channel)
    memberships = list(local.get(channel))
    if channel == ALL_LOGINS:
        memberships = [m for m in _find_all(local) if _login(m).tests]
    if not digest:
        _recheck(memberships)
        return
    for membership in memberships:
        key = _login(membership).session_key
        if key is not None and make_digest(key) == digest:
            _close(membership, UNAUTHORIZED)


def recheck_all(local: LocalMembers) -> None:
    """Look at all logins again: some change may have been missed."""
    _rechecker.note_change(ALL_LOGINS)
    _recheck(_find_all(local))


def watch(membership: Membership, channel: str) -> None:
    """Close it when its session has come to its end.

    Or now, if something has changed while it was opened; ``channel`` is its user's.
    """
    if not can_wait():
        return
    if _rechecker.has_changed(channel):
        _rechecker.recheck([membership])
    if _login(membership).session_key is not None:
        _rechecker.watch(membership)


def forget(membership: Membership) -> None:
    """Its connection has ended."""
    _rechecker.forget(membership)


def _recheck(memberships: list[Membership]) -> None:
    if not can_wait():
        _rechecker.look(memberships)
    elif memberships:
        _rechecker.recheck(memberships)


def can_wait() -> bool:
    """Tell whether logins are looked at by a greenlet of its own."""
    return monkey.is_module_patched("threading")


def _find_all(local: LocalMembers) -> list[Membership]:
    return [m for channel in local for m in local.get(channel) if m.login is not None]


def _login(membership: Membership) -> Login:
    assert membership.login is not None
    return membership.login


def _close(membership: Membership, code: int) -> None:
    if membership.transport is not None:
        reason = "not logged in" if code == UNAUTHORIZED else "not permitted"
        membership.transport.close(code, reason)


class _Rechecker:
    def __init__(self) -> None:
        # To be looked at as soon as possible, and those that couldn't be.
        self._pending: set[Membership] = set()
        self._failed: set[Membership] = set()
        # Channels by when they changed, by ``time.monotonic()``; the oldest first.
        self._changed: dict[str, float] = {}
        self._retry_at = math.inf
        # When to look at the session again, by ``time.time()``.
        self._due: dict[Membership, float] = {}
        self._next_due = math.inf
        # The sessions of different processes have different times.
        self._offset = random.uniform(0, _MAX_INTERVAL)
        self._has_pending = Event()
        self._greenlet: gevent.Greenlet[..., None] | None = None

    def note_change(self, channel: str) -> None:
        now = time.monotonic()
        self._changed.pop(channel, None)
        self._changed[channel] = now
        while self._changed[oldest := next(iter(self._changed))] <= now - _OPENING:
            del self._changed[oldest]

    def has_changed(self, channel: str) -> bool:
        """Tell whether a connection that is opened now may have missed a change."""
        since = time.monotonic() - _OPENING
        return any(
            self._changed.get(name, -math.inf) > since for name in (channel, ALL_LOGINS)
        )

    def recheck(self, memberships: Iterable[Membership]) -> None:
        self._pending.update(memberships)
        self._has_pending.set()
        self._start()

    def watch(self, membership: Membership) -> None:
        # Not at once: there may be many, which one query is enough for.
        self._schedule(membership, time.time() + _INTERVAL)
        self._start()

    def forget(self, membership: Membership) -> None:
        self._pending.discard(membership)
        self._failed.discard(membership)
        self._due.pop(membership, None)

    def look(self, memberships: Iterable[Membership]) -> None:
        """Close those that would not be let in any more."""
        error = None
        for membership in memberships:
            if membership.transport is None:
                continue  # it has ended meanwhile
            try:
                code = _login(membership).find_close_code()
            except Exception as exc:
                error = exc
                if membership.transport is not None:
                    self._failed.add(membership)
            else:
                if code is not None:
                    _close(membership, code)
        if error is not None:
            self._retry_at = time.time() + _RETRY_INTERVAL
            _report(error)

    def _schedule(self, membership: Membership, at: float) -> None:
        self._due[membership] = at
        self._next_due = min(self._next_due, at)

    def _start(self) -> None:
        if self._greenlet is None:
            self._greenlet = gevent.spawn(self._run)

    def _run(self) -> None:
        try:
            while self._pending or self._failed or self._due:
                self._has_pending.wait(_INTERVAL)
                self._has_pending.clear()
                self._look_at_due()
        finally:
            self._greenlet = None

    def _look_at_due(self) -> None:
        now = time.time()
        if self._failed and self._retry_at <= now:
            self._pending |= self._failed
            self._failed = set()
        databases.adopt()
        try:
            if self._pending:
                pending, self._pending = self._pending, set()
                self.look(pending)
            if self._next_due <= now:
                due = [m for m, at in self._due.items() if at <= now]
                self._look_at_sessions(due)
                self._next_due = min(self._due.values(), default=math.inf)
        finally:
            databases.close()

    def _look_at_sessions(self, memberships: list[Membership]) -> None:
        keys = {_login(membership).session_key for membership in memberships}
        try:
            ends = find_session_ends({key for key in keys if key is not None})
        except Exception as exc:
            _report(exc)
            retry_at = time.time() + _RETRY_INTERVAL
            ends = {key: retry_at for key in keys if key is not None}
        # All at the same times, so that they need few queries.
        rounds = math.floor((time.time() - self._offset) / _MAX_INTERVAL) + 1
        next_round = self._offset + rounds * _MAX_INTERVAL
        for membership in memberships:
            if membership not in self._due:
                continue  # it has ended meanwhile
            end = ends.get(_login(membership).session_key or "")
            if end is None:
                del self._due[membership]
                _close(membership, UNAUTHORIZED)
            else:
                self._due[membership] = min(end, next_round)


def _report(error: Exception) -> None:
    logger.error(
        "logins can't be looked at; trying again in %d s",
        _RETRY_INTERVAL,
        exc_info=error,
    )


_rechecker = _Rechecker()
