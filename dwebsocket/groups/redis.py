"""The backend on Redis, for any number of processes and machines.

::

    WEBSOCKET_GROUPS = {
        "default": {
            "BACKEND": "dwebsocket.groups.redis.RedisBackend",
            "LOCATION": "redis://127.0.0.1:6379",
        }
    }

LOCATION is a URL of redis-py: ``redis://``, ``rediss://`` (TLS) or ``unix://``.
OPTIONS:

* ``prefix``: what channels and keys begin with, "dwebsocket" by default
* ``timeout``: seconds that sending may take before it is a GroupError, 2 by default
* ``max_connections``: of the publishers' pool, 16 by default
* ``connection``: more keywords for connections, such as ``ssl_ca_certs``
* ``cluster``: True for Redis Cluster, of which LOCATION names a node (Redis 7)
* ``sentinels``: ``[(host, port), ...]`` and ``service``, its name, instead of LOCATION;
  ``sentinel_connection``: keywords for connections to Sentinel itself
"""

from __future__ import annotations

import contextlib
import json
import logging
import random
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import gevent
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from gevent import monkey
from gevent.event import Event

from ..exceptions import GroupError
from ..registry import registry
from ..signals import group_gap
from .base import EVERYONE, GROUP, GroupBackend, Member, make_announcement
from .engines import ERRORS, make_engine
from .envelope import CONTROL, Envelope
from .identity import get_process_id
from .local import Membership
from .presence import Presence, PresenceStore
from .subscriber import Subscriber

__all__ = ["RedisBackend"]

logger = logging.getLogger("dwebsocket")

_OPTIONS = {
    "cluster",
    "connection",
    "max_connections",
    "prefix",
    "sentinel_connection",
    "sentinels",
    "service",
    "timeout",
}

#: Seconds for which an answer waits in Redis for who has asked.
_ANSWER_LIFETIME = 60

_Result = TypeVar("_Result")


class RedisBackend(GroupBackend):
    """Groups of all processes that use the same Redis and prefix."""

    def __init__(self, alias: str, location: Any, options: Mapping[str, Any]) -> None:
        super().__init__(alias, location, options)
        unknown = set(options) - _OPTIONS
        if unknown:
            raise ImproperlyConfigured(
                f"WEBSOCKET_GROUPS: {alias!r} has the unknown option {min(unknown)!r}; "
                f"there are {', '.join(sorted(_OPTIONS))}."
            )
        self._location, self._options = location, options
        self._prefix = options.get("prefix", "dwebsocket")
        self._timeout = options.get("timeout", 2)
        self._found_engine: Any = None
        self._subscribers: dict[str, Subscriber] = {}
        # Channels of a Cluster of which isn't known where they are published, and the
        # greenlet that finds out.
        self._homeless: set[bytes] = set()
        self._home_finder: gevent.Greenlet[..., Any] | None = None
        self._have_homes = Event()
        self._presence: Presence | None = None

    # Contract

    def publish(self, channel: str, envelope: Envelope) -> None:
        data = envelope.encode()
        self._ask(lambda: self._engine.publish(self._name(channel), data))

    def members(self, name: str) -> list[Member]:
        return self._ask(lambda: self._store.members(name))

    def count(self, name: str) -> int:
        return self._ask(lambda: self._store.count(name))

    def ask(self, question: bytes) -> tuple[list[bytes], int]:
        key = f"{self._prefix}:answers:{secrets.token_urlsafe(9)}"
        payload = json.dumps([key, question.decode()]).encode()
        data = Envelope(CONTROL, payload).encode()
        deadline = time.monotonic() + self._timeout
        missing = self._ask(lambda: self._engine.publish(self._name(EVERYONE), data))
        answers: list[bytes] = []
        while missing and (left := deadline - time.monotonic()) > 0:
            # Less than a connection waits for anything.
            seconds = max(min(left, self._timeout / 2), 0.01)
            found = self._ask(lambda: self._engine.client.blpop([key], seconds))  # noqa: B023
            if found is not None:
                answers.append(found[1])
                missing -= 1
        return answers, missing

    @property
    def can_hear(self) -> bool:
        return monkey.is_module_patched("socket")

    def subscribe(self, channel: str) -> None:
        if not self.can_hear:
            raise GroupError(
                "RedisBackend can't hear anything where gevent hasn't patched the "
                "standard library. Use MemoryBackend in tests."
            )
        name = self._name(channel)
        try:
            if self._engine.is_ready:
                self._find_subscriber(name).subscribe(name)
                return
        except ERRORS as exc:
            logger.warning("groups: the cluster can't be asked: %s", exc)
        self._homeless.add(name)
        self._have_homes.clear()
        if not self._home_finder:
            self._home_finder = gevent.spawn(self._find_homes)

    def unsubscribe(self, channel: str) -> None:
        name = self._name(channel)
        self._homeless.discard(name)
        for subscriber in self._subscribers.values():
            if name in subscriber.channels:
                subscriber.unsubscribe(name)

    def wait_until_heard(self, channel: str) -> bool:
        deadline = time.monotonic() + self._timeout
        name = self._name(channel)
        if name in self._homeless:
            self._have_homes.wait(self._timeout)
        is_heard = name not in self._homeless
        for subscriber in list(self._subscribers.values()):
            if not subscriber.wait(name, max(deadline - time.monotonic(), 0)):
                is_heard = False
        if self._presence is not None:
            self._presence.wait(max(deadline - time.monotonic(), 0))
        return is_heard

    def note_join(self, name: str, membership: Membership) -> None:
        if self._presence is None:
            self._presence = Presence(
                self._engine,
                self._prefix,
                self._announce,
                self._find_memberships,
                lambda name: bool(self.local.get(GROUP + name)),
            )
        self._presence.note("join", name, membership)

    def note_leave(self, name: str, membership: Membership) -> None:
        if self._presence is not None:
            self._presence.note("leave", name, membership)

    def close(self) -> None:
        super().close()
        for subscriber in self._subscribers.values():
            subscriber.close()
        if self._home_finder is not None:
            self._home_finder.kill(block=False)
        if self._presence is not None:
            self._presence.close()
        if self._found_engine is not None:
            self._found_engine.close()

    # The engine

    @property
    def _engine(self) -> Any:
        # Made when it is needed: a Cluster is asked for its nodes.
        if self._found_engine is None:
            self._found_engine = make_engine(
                self._location,
                self._options,
                self._timeout,
                self._options.get("max_connections", 16),
            )
        return self._found_engine

    @property
    def _store(self) -> PresenceStore:
        if self._presence is not None:
            return self._presence
        return PresenceStore(self._engine, self._prefix, self._announce)

    def _ask(self, question: Callable[[], _Result]) -> _Result:
        """Ask Redis something, with a limit for all of it where gevent can set one."""
        limit: Any = contextlib.nullcontext()
        if self.can_hear:
            error = GroupError(f"Redis didn't answer within {self._timeout} s")
            limit = gevent.Timeout(self._timeout, error)
        try:
            with limit:
                return question()
        except ERRORS as exc:
            raise GroupError(f"Redis: {exc}") from exc

    # Receiving

    def _name(self, channel: str) -> bytes:
        return f"{self._prefix}:{channel}".encode()

    def _find_homes(self) -> None:
        """Subscribe where channels are published, as soon as it can be found out."""
        since = time.monotonic()
        found = []
        is_gap = self._engine.is_ready
        while self._homeless:
            try:
                self._engine.refresh()
                for name in list(self._homeless):
                    found.append((self._find_subscriber(name), name))
                    found[-1][0].subscribe(name)
                    self._homeless.discard(name)
            except ERRORS as exc:
                if not is_gap:
                    logger.warning("groups: the cluster can't be asked: %s", exc)
                is_gap = True
                gevent.sleep(random.uniform(0.5, 1.5))
        self._have_homes.set()
        if is_gap:
            self._report_move(since, found)

    def _report_move(self, since: float, moved: list[tuple[Subscriber, bytes]]) -> None:
        """Report the gap of channels that another place has now."""
        for subscriber, name in moved:
            while name in subscriber.channels and not subscriber.is_heard(name):
                subscriber.wait(name, 1)
        self._on_gap(time.monotonic() - since)

    def _find_subscriber(self, name: bytes) -> Subscriber:
        place = self._engine.find_place(name)
        subscriber = self._subscribers.get(place)
        if subscriber is None:
            subscriber = self._subscribers[place] = Subscriber(
                self._engine,
                place,
                self._name(f"probe:{get_process_id()}"),
                receive=self._receive,
                on_gap=self._on_gap,
                on_failure=self._on_failure,
            )
        return subscriber

    def _receive(self, name: bytes, data: bytes) -> None:
        try:
            envelope = Envelope.decode(data)
        except ValueError:
            logger.exception("groups: what was published to %r is no message", name)
            return
        channel = name[len(self._prefix) + 1 :].decode()
        if channel == EVERYONE and envelope.opcode == CONTROL:
            # Messages go on being delivered.
            gevent.spawn(self._answer, *json.loads(envelope.payload))
        else:
            self.receive(channel, envelope)

    def _answer(self, key: str, question: str) -> None:
        text = self.answer(question.encode())
        try:
            with self._engine.client.pipeline(transaction=False) as pipeline:
                pipeline.rpush(key, text)
                # Who has asked may have gone.
                pipeline.expire(key, _ANSWER_LIFETIME)
                pipeline.execute()
        except ERRORS as exc:
            logger.warning("groups: a question couldn't be answered: %s", exc)

    def _on_gap(self, seconds: float) -> None:
        registry.group_gaps += 1
        logger.warning(
            "groups: Redis is heard again; messages of the last %.1f s may be lost",
            seconds,
        )
        if self._presence is not None:
            self._presence.rewrite()
        # Receivers may wait, and what has to be heard goes on.
        gevent.spawn(self._send_gap, seconds)

    def _send_gap(self, seconds: float) -> None:
        try:
            for receiver, result in group_gap.send_robust(
                sender=type(self), alias=self.alias, duration=seconds
            ):
                if isinstance(result, Exception):
                    logger.error("%r failed", receiver, exc_info=result)
        finally:
            connections.close_all()

    def _on_failure(self) -> None:
        """A connection was lost; in a Cluster, channels may have moved."""
        try:
            self._engine.refresh()
            places = self._engine.find_places()
            for place, subscriber in list(self._subscribers.items()):
                self._move(place, subscriber)
                if place not in places and not subscriber.channels:
                    del self._subscribers[place]
                    subscriber.close()
        except ERRORS as exc:
            logger.debug("groups: the cluster can't be asked: %s", exc)

    def _move(self, place: str, subscriber: Subscriber) -> None:
        """Have channels heard elsewhere that are published there now."""
        moved = []
        try:
            for name in list(subscriber.channels):
                if self._engine.find_place(name) != place:
                    other = self._find_subscriber(name)
                    subscriber.unsubscribe(name)
                    other.subscribe(name)
                    moved.append((other, name))
        finally:
            if moved:
                since = subscriber.deaf_since or time.monotonic()
                gevent.spawn(self._report_move, since, moved)

    # Presence

    def _find_memberships(self) -> Iterator[tuple[str, Membership]]:
        for channel in list(self.local):
            if channel.startswith(GROUP):
                for membership in list(self.local.get(channel)):
                    yield channel[len(GROUP) :], membership

    def _announce(self, event: str, name: str, member: Member) -> None:
        try:
            self.publish(GROUP + name, make_announcement(event, name, member))
        except GroupError as exc:
            logger.warning("groups: a %s couldn't be announced: %s", event, exc)
