"""The members of groups in this process, and how a message gets to them.

A message for many is delivered in slices, and the hub does other things in between:
a group of 10,000 keeps nobody waiting.  All messages have one queue, so that what one
sender sends arrives in its order, whichever groups it goes to.

No Django here, and no backend: those hand over what they receive.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Set
from functools import partial
from typing import TYPE_CHECKING, Any

from gevent import get_hub, getcurrent
from gevent.event import Event

from ..encoder import Broadcast
from ..frames import Opcode
from ..registry import registry
from .envelope import EVERYONE, Envelope

if TYPE_CHECKING:
    from ..logins import Login
    from ..transport import Transport
    from ..websocket import WebSocket
    from .base import GroupBackend

__all__ = ["LocalMembers", "Membership"]

#: Members that are served before the hub does something else.
_SLICE = 250
#: Messages, and bytes of them, that wait for it; then whoever brings more waits.
_MAX_WAITING = 1000
_MAX_WAITING_SIZE = 16 * 1024 * 1024


class Membership:
    """A websocket in a channel of a backend; the rest is what ``join`` was told."""

    __slots__ = (
        "announce",
        "backend",
        "data",
        "login",
        "policy",
        "transport",
        "websocket",
    )

    def __init__(
        self,
        backend: GroupBackend,
        websocket: WebSocket,
        policy: str,
        data: str | None = None,
        *,
        announce: bool = False,
        login: Login | None = None,
    ) -> None:
        self.backend = backend
        self.websocket = websocket
        #: None when it has left.
        self.transport: Transport | None = websocket.transport
        self.policy = policy
        #: As JSON.
        self.data = data
        self.announce = announce
        #: In the channel of a user, who was logged in.
        self.login = login


class _Delivery:
    """A message, or a close, on its way to those who are members now."""

    __slots__ = ("_members", "_position", "size")

    def __init__(self, members: list[Any], size: int) -> None:
        self._members = members
        self._position = 0
        self.size = size

    def run(self, count: int) -> int:
        """Serve the next ``count`` members; return by how many there were fewer."""
        members = self._members[self._position : self._position + count]
        self._position += len(members)
        self._serve(members)
        return count - len(members)

    @property
    def is_done(self) -> bool:
        """Whether all members have been served."""
        return self._position == len(self._members)

    def _serve(self, members: list[Any]) -> None:
        raise NotImplementedError


class _MessageDelivery(_Delivery):
    __slots__ = ("_broadcast", "_excluded", "_key")

    def __init__(
        self,
        members: list[Any],
        channel: str,
        envelope: Envelope,
        excluded: Any,
    ) -> None:
        super().__init__(members, len(envelope.payload))
        self._broadcast = Broadcast(envelope.opcode, envelope.payload)
        self._excluded = excluded
        self._key = (channel, envelope.key)

    def _serve(self, members: list[Any]) -> None:
        broadcast, excluded, key = self._broadcast, self._excluded, self._key
        for membership in members:
            transport = membership.transport
            if transport is not None and membership is not excluded:
                transport.post(broadcast, membership.policy, key)


class _DeliveryToAll(_MessageDelivery):
    """To connections, which need no memberships for it."""

    __slots__ = ()

    def _serve(self, members: list[Any]) -> None:
        broadcast, excluded, key = self._broadcast, self._excluded, self._key
        for transport in members:
            if transport is not excluded:
                transport.post(broadcast, transport.slow_consumer, key)


class _CloseDelivery(_Delivery):
    __slots__ = ("_code", "_reason")

    def __init__(self, members: list[Membership], envelope: Envelope) -> None:
        super().__init__(members, len(envelope.payload))
        self._code, self._reason = envelope.parse_close()

    def _serve(self, members: list[Membership]) -> None:
        for membership in members:
            if membership.transport is not None:
                membership.transport.close(self._code, self._reason)


class LocalMembers:
    """Memberships by channel; a channel is what a backend sends to."""

    def __init__(self) -> None:
        # Served as they joined, which is mostly how they and their sockets lie in
        # memory: with thousands of members that tells.
        self._channels: dict[str, dict[Membership, None]] = {}
        self._waiting: deque[_Delivery] = deque()
        self._waiting_size = 0
        # Runs while there are; None otherwise.
        self._timer: Any = None
        self._has_room: Event | None = None
        self._hub: Any = None

    def __iter__(self) -> Iterator[str]:
        return iter(self._channels)

    def attach(self) -> None:
        """The connections of this thread are those that are delivered to."""
        self._hub = get_hub()

    def call(self, function: Callable[..., object], *args: Any) -> None:
        """Call a function in the thread of the connections, if there are any."""
        if self._hub is None:
            return
        if get_hub() is self._hub:
            function(*args)
        else:
            self._hub.loop.run_callback_threadsafe(function, *args)

    def get(self, channel: str) -> Set[Membership]:
        """Return the members of a channel."""
        members = self._channels.get(channel)
        return _NOBODY if members is None else members.keys()

    def add(self, channel: str, membership: Membership) -> bool:
        """Add a member; return whether it is the first of the channel."""
        self.attach()
        members = self._channels.get(channel)
        if members is None:
            self._channels[channel] = {membership: None}
            return True
        members[membership] = None
        return False

    def remove(self, channel: str, membership: Membership) -> bool:
        """Remove a member; return whether it was the last of the channel."""
        membership.transport = None
        members = self._channels[channel]
        del members[membership]
        if members:
            return False
        del self._channels[channel]
        return True

    def deliver(
        self,
        channel: str,
        envelope: Envelope,
        *,
        only: Membership | None = None,
        excluded: Membership | Transport | None = None,
    ) -> None:
        """Send a message to a channel, or ``only`` to one member; from any thread.

        EVERYONE has connections for members, of which one may be ``excluded``.

        Waits while there is more to deliver than this process can, except in the hub;
        never for a receiver.
        """
        hub = get_hub()
        if hub is not self._hub:
            if self._hub is not None:
                # The connections are another thread's.
                deliver = partial(self.deliver, only=only, excluded=excluded)
                self._hub.loop.run_callback_threadsafe(deliver, channel, envelope)
            return
        while self._is_full() and getcurrent() is not hub:
            self._wait_for_room()
        members: list[Any]
        if channel == EVERYONE:
            members = list(registry)
        else:
            members = list(self.get(channel)) if only is None else [only]
        if not members:
            return
        delivery: _Delivery
        if channel == EVERYONE:
            delivery = _DeliveryToAll(members, channel, envelope, excluded)
        elif envelope.opcode == Opcode.CLOSE:
            delivery = _CloseDelivery(members, envelope)
        else:
            delivery = _MessageDelivery(members, channel, envelope, excluded)
        if not self._waiting:
            delivery.run(_SLICE)
            if delivery.is_done:
                return
        self._waiting.append(delivery)
        self._waiting_size += delivery.size
        if self._timer is None:
            # Callbacks of the loop would run in a row, before sockets are looked at.
            self._timer = hub.loop.timer(0)
            self._timer.start(self._run)

    def _run(self) -> None:
        try:
            self._serve_slice()
        finally:
            if self._waiting:
                self._timer.start(self._run)
            else:
                self._timer.close()
                self._timer = None

    def _serve_slice(self) -> None:
        """Serve as many members as are one slice, of several deliveries if small."""
        left = _SLICE
        while left and self._waiting:
            delivery = self._waiting[0]
            left = delivery.run(left)
            if delivery.is_done:
                self._waiting.popleft()
                self._waiting_size -= delivery.size
        if self._has_room is not None and not self._is_full(2):
            self._has_room.set()
            self._has_room = None

    def _is_full(self, part: int = 1) -> bool:
        return (
            len(self._waiting) >= _MAX_WAITING // part
            or self._waiting_size >= _MAX_WAITING_SIZE // part
        )

    def _wait_for_room(self) -> None:
        if self._has_room is None:
            self._has_room = Event()
        self._has_room.wait()


_NOBODY: frozenset[Membership] = frozenset()
