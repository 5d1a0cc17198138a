"""What a backend for groups has to be; ``docs/contract.rst`` is the contract.

The memberships of this process are kept here.  A backend carries messages to the
processes that have subscribed to a channel, and knows who is in a group.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import gevent
from gevent.event import Event

from ..rechecks import (
    ALL_LOGINS,
    Change,
    can_wait,
    forget,
    obey,
    recheck_all,
    watch,
)
from .connections import answer
from .envelope import (
    CONTROL,
    EVERYONE,
    GROUP,
    PROCESS,
    USER,
    Envelope,
    make_message,
)
from .identity import find_websocket, get_process_id
from .local import LocalMembers, Membership

__all__ = [
    "EVERYONE",
    "GROUP",
    "PROCESS",
    "USER",
    "GroupBackend",
    "Member",
    "make_announcement",
    "to_member",
]


class Member(NamedTuple):
    """Who is in a group.

    ``id`` is that of the websocket; ``user`` the primary key of its user as a str, or
    None; ``data`` what ``join`` was given.
    """

    id: str
    user: str | None
    data: Any


class GroupBackend:
    """Base of all backends; ``options`` are those of WEBSOCKET_GROUPS.

    A subclass defines ``publish``, ``members`` and ``count``, and of the other hooks
    what it needs.  Only these three, ``ask`` and ``wait_until_heard`` may wait;
    GroupError is what they raise when the engine doesn't answer.
    """

    def __init__(self, alias: str, location: Any, options: Mapping[str, Any]) -> None:
        self.alias = alias
        self.local = LocalMembers()
        self._is_reachable = False
        # Set when connections can be opened: the channels are heard, or can't be.
        self._can_open = Event()
        self._opener: gevent.Greenlet[..., None] | None = None

    # Hooks

    def publish(self, channel: str, envelope: Envelope) -> None:
        """Have ``receive`` called in each process that hears the channel."""
        raise NotImplementedError

    def members(self, name: str) -> list[Member]:
        """Return who is in a group, in all processes."""
        raise NotImplementedError

    def count(self, name: str) -> int:
        """Return how many are in a group, in all processes."""
        raise NotImplementedError

    def subscribe(self, channel: str) -> None:
        """This process wants to hear a channel, and does soon."""

    def unsubscribe(self, channel: str) -> None:
        """This process wants to hear a channel no longer."""

    def wait_until_heard(self, channel: str) -> bool:
        """Wait until the channel is heard and its members are known elsewhere.

        Not longer than the engine's timeout.  Returns whether it is heard.
        """
        return True

    def note_join(self, name: str, membership: Membership) -> None:
        """A websocket of this process has joined: let others know."""

    def note_leave(self, name: str, membership: Membership) -> None:
        """A websocket of this process has left: let others know."""

    def ask(self, question: bytes) -> tuple[list[bytes], int]:
        """Have ``answer`` called in each process that has connections.

        Returns the answers, and how many haven't come in time.
        """
        return [self.answer(question)], 0

    @property
    def can_hear(self) -> bool:
        """Whether ``subscribe`` can work in this process."""
        return True

    def close(self) -> None:
        """The setting has changed: this is used no longer."""
        if self._opener is not None:
            self._opener.kill(block=False)
        self._can_open.set()

    # For dwebsocket.groups

    def join(self, channel: str, membership: Membership) -> None:
        """Add a membership, without waiting."""
        membership.websocket.memberships[self.alias, channel] = membership
        if self.local.add(channel, membership):
            self.subscribe(channel)
        if channel.startswith(GROUP):
            self.note_join(channel[len(GROUP) :], membership)

    def leave(self, channel: str, membership: Membership) -> None:
        """Remove a membership, without waiting."""
        del membership.websocket.memberships[self.alias, channel]
        if self.local.remove(channel, membership):
            self.unsubscribe(channel)
        if membership.login is not None:
            forget(membership)
        if channel.startswith(GROUP):
            self.note_leave(channel[len(GROUP) :], membership)

    def prepare_connection(self) -> None:
        """Hear what is for all connections, and for single ones, if that can be.

        The first connections of a process wait for it, not longer than the engine's
        timeout.
        """
        if not self._can_open.is_set() and self.can_hear:
            self.make_reachable()
            self._can_open.wait()

    def make_reachable(self) -> None:
        """Hear what is for connections of this process, groups or no groups."""
        if not self._is_reachable:
            self._is_reachable = True
            self.local.attach()
            channels = [PROCESS + get_process_id(), EVERYONE, ALL_LOGINS]
            for channel in channels:
                self.subscribe(channel)
            if can_wait():
                self._opener = gevent.spawn(self._open, channels)
            else:
                self._can_open.set()

    def _open(self, channels: list[str]) -> None:
        try:
            is_heard = all(map(self.wait_until_heard, channels))
        finally:
            self._can_open.set()
        while not is_heard:
            is_heard = self.wait_until_heard(ALL_LOGINS)
        # Of what was published until it was heard nothing is known.
        recheck_all(self.local)

    def answer(self, question: bytes) -> bytes:
        """Return the answer of this process; others run meanwhile."""
        return answer(self.local, question)

    def join_user(self, membership: Membership, user_id: str) -> None:
        """Hear what is for a user, as long as the login holds."""
        self.join(USER + user_id, membership)
        watch(membership, USER + user_id)

    def receive(self, channel: str, envelope: Envelope) -> None:
        """Deliver what was published to a channel.  May wait, except in the hub."""
        if envelope.opcode == CONTROL:
            change = Change.decode(envelope.payload)
            self.local.call(obey, self.local, change)
            return
        if envelope.target is not None:
            websocket = find_websocket(envelope.target)
            if websocket is not None and not websocket.is_closed():
                only = Membership(self, websocket, websocket.transport.slow_consumer)
                self.local.deliver(channel, envelope, only=only)
            return
        excluded: Any = None
        if envelope.exclude is not None:
            websocket = find_websocket(envelope.exclude)
            if websocket is not None and channel == EVERYONE:
                excluded = websocket.transport
            elif websocket is not None:
                excluded = websocket.memberships.get((self.alias, channel))
        self.local.deliver(channel, envelope, excluded=excluded)


def to_member(membership: Membership) -> Member:
    """Return what others may know of a membership."""
    websocket, data = membership.websocket, membership.data
    return Member(
        websocket.id, websocket.user_id, None if data is None else json.loads(data)
    )


def make_announcement(event: str, name: str, member: Member) -> Envelope:
    """Return what tells a group of a ``join`` or ``leave``, all but the member."""
    content = {"group": name, **member._asdict()}
    text = json.dumps(
        {"type": f"group.{event}", "content": content}, separators=(",", ":")
    )
    # A newer one of the same member may replace it, nothing else.
    return make_message(text, exclude=member.id, key=member.id)
