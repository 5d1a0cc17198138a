"""One connection on gevent's hub: messages and the greenlets that wait for them.

The hub receives from all connections that have something before it lets greenlets go
on: what they send then leaves in one run, and a client on the same machine, a proxy
say, isn't woken for each message.
"""

from __future__ import annotations

import sys
from collections import deque
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from gevent import get_hub
from greenlet import greenlet

from .deflate import Deflate
from .limits import Limits
from .protocol import Message, State
from .writer import Writer, unlimited

if TYPE_CHECKING:
    from . import uncompiled as cython
    from .ratelimit import MessageLimiter
else:
    try:
        import cython
    except ImportError:
        from . import uncompiled as cython

__all__ = ["Inbox", "switch_to"]

_OPEN = State.OPEN
_BUFFER_SIZE = 65536


def switch_to(target: greenlet) -> None:
    """Let a greenlet go on; return when this one is let go on."""
    if cython.compiled:
        _switch_in_c(target)  # noqa: F821


if not cython.compiled:
    # Past what the hub's own switch() does for others than the hub.
    switch_to = greenlet.switch  # type: ignore[assignment]


class Inbox(Writer):
    """Holds messages until greenlets ask for them, and greenlets until some come."""

    __slots__ = (
        "_first",
        "_inbox_size",
        "_is_due",
        "_limiter",
        "_listener",
        "_max_inbox_size",
        "_max_queue",
        "_receiver",
        "_receivers",
        "_rest",
        "_shared",
        "messages_in",
    )

    def __init__(
        self,
        sock: Any,
        limits: Limits,
        deflate: Deflate | None,
        limiter: MessageLimiter | None,
    ) -> None:
        super().__init__(sock, limits, deflate)
        self._limiter = limiter
        self._max_queue = unlimited(limits.max_queue)
        # In bytes, the longest message is allowed to fill the inbox alone.
        self._max_inbox_size = unlimited(limits.max_message_size)
        # Mostly there is one message or none; the others are behind it.
        self._first: Message | None = None
        self._rest: deque[Message] | None = None
        self._inbox_size = 0
        # The same for greenlets that wait for a message.
        self._receiver: greenlet | None = None
        self._receivers: list[greenlet] | None = None
        # What wants to be called when there is something for it.
        self._listener: Any = None
        #: Messages received.
        self.messages_in = 0
        self._shared = _share(self._hub)
        self._is_due = False

    @property
    def inbox_count(self) -> int:
        """How many messages wait for ``receive``."""
        return self._count_messages()

    def _count_messages(self) -> int:
        if self._first is None:
            return 0
        return 1 if self._rest is None else 1 + len(self._rest)

    def _store(self, received: Message | list[Message]) -> bool:
        """Take one message or several; return whether there are enough."""
        if (
            self._first is None
            and self._limiter is None
            and not isinstance(received, list)
        ):
            self.messages_in += 1
            self._first = received
            self._inbox_size = size = len(received)
            return size >= self._max_inbox_size or self._max_queue == 1
        messages = received if isinstance(received, list) else [received]
        self.messages_in += len(messages)
        if self._limiter is not None:
            messages = self._limiter.admit(self, messages)
        for message in messages:
            self._put(message)
        return (
            self._inbox_size >= self._max_inbox_size
            or self._count_messages() >= self._max_queue
        )

    def _put(self, message: Message) -> None:
        if self._first is None:
            self._first = message
        elif self._rest is None:
            self._rest = deque((message,))
        else:
            self._rest.append(message)
        self._inbox_size += len(message)

    def listen(self, listener: Any) -> None:
        """Have ``listener.on_message()`` called once, in the hub.

        That is when there is a message, or nothing will come any more.
        """
        self._listener = listener
        if self._first is not None or self.protocol.state is not _OPEN:
            self._wake_later()

    def _add_receiver(self, receiver: greenlet) -> None:
        """Have it wait behind the first."""
        if self._receivers is None:
            self._receivers = [receiver]
        else:
            self._receivers.append(receiver)

    def _discard_receiver(self, receiver: greenlet | None) -> bool:
        """Return whether it was waiting."""
        if receiver is self._receiver:
            self._receiver = None
            if self._receivers is not None:
                self._receiver = self._receivers.pop(0)
                if not self._receivers:
                    self._receivers = None
        elif self._receivers is not None and receiver in self._receivers:
            self._receivers.remove(receiver)
            if not self._receivers:
                self._receivers = None
        else:
            return False
        return True

    def _call_listener(self) -> None:
        self._is_due = False
        listener, self._listener = self._listener, None
        listener.on_message()

    def _wake_later(self) -> None:
        """Wake those who wait, when all connections have been read from."""
        if not self._is_due and (
            self._receiver is not None or self._listener is not None
        ):
            self._is_due = True
            due = self._shared.due
            if not due:
                self._hub.loop.run_callback(self._shared.wake)
            due.append(self)


class _Shared:
    """What the connections of a hub share."""

    def __init__(self) -> None:
        #: Received into: an idle connection owns none.
        self.buffer = bytearray(_BUFFER_SIZE)
        #: Those with something for who waits.
        self.due: list[Inbox] = []
        # Those of them that haven't been served yet, the next one last.
        self._turn: list[Inbox] = []
        # Who has gone on last, a greenlet or a listener.
        self._running: Any = None

    def wake(self) -> None:
        """Wake those who wait, before the hub waits itself."""
        turn = self._turn = self.due[::-1]
        self.due = []
        while turn:
            receiver = self.next_receiver()
            try:
                if receiver is not None:
                    switch_to(receiver)
                elif turn:
                    inbox = turn.pop()
                    inbox._call_listener()
            except BaseException:
                # It has ended with this; not ours.
                get_hub().handle_error(self._running, *sys.exc_info())
        self._running = None

    def next_receiver(self) -> greenlet | None:
        """Return the greenlet that is to go on now.

        A greenlet that waits switches to it past the hub, which saves every other
        switch.  None: it is the hub's turn, for a listener or since nobody is left.
        """
        turn = self._turn
        while turn:
            inbox = turn.pop()
            inbox._is_due = False
            if inbox._first is None and inbox.protocol.state is _OPEN:
                continue  # taken meanwhile
            receiver, listener = inbox._receiver, inbox._listener
            if inbox._receivers is not None or listener is not None:
                # Looked at again, for those behind the first.
                turn.append(inbox)
                inbox._is_due = True
            if receiver is not None:
                if inbox._receivers is None:
                    inbox._receiver = None
                else:
                    inbox._discard_receiver(receiver)
                self._running = receiver
                return receiver
            if listener is not None:
                self._running = listener
                return None
        return None


_shared: WeakKeyDictionary[Any, _Shared] = WeakKeyDictionary()


def _share(hub: Any) -> _Shared:
    shared = _shared.get(hub)
    if shared is None:
        shared = _shared[hub] = _Shared()
    return shared
