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

    def count_messages(self) -> int:
        """Return how many messages wait for ``receive``."""
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
            or self.count_messages() >= self._max_queue
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

    def next_listener(self) -> Any:
        """Return whose ``on_message`` the hub would call now, and won't any more.

        None: it is nobody's turn, or that of a greenlet that waits.
        """
        return self._shared.next_listener()

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
                    self.next_listener().on_message()
            except BaseException:
                # It has ended with this; not ours.
                get_hub().handle_error(self._running, *sys.exc_info())
        self._running = None

    def next_receiver(self) -> greenlet | None:
        """Return the greenlet that is to go on now, if it is a greenlet's turn.

        A greenlet that waits switches to it past the hub, which saves every other
        switch.
        """
        inbox = self._find_next()
        if inbox is None or inbox._receiver is None:
            return None
        receiver = inbox._receiver
        if inbox._receivers is None:
            inbox._receiver = None
        else:
            inbox._discard_receiver(receiver)
        if inbox._receiver is None and inbox._listener is None:
            self._turn.pop()
            inbox._is_due = False
        self._running = receiver
        return receiver

    def next_listener(self) -> Any:
        """Return the listener that is to be called now, if it is a listener's turn."""
        inbox = self._find_next()
        if inbox is None or inbox._receiver is not None:
            return None
        self._turn.pop()
        inbox._is_due = False
        self._running, inbox._listener = inbox._listener, None
        return self._running

    def _find_next(self) -> Inbox | None:
        """Return whose turn it is; who has waited for it may have had it meanwhile."""
        turn = self._turn
        while turn:
            inbox = turn[-1]
            if (inbox._receiver is not None or inbox._listener is not None) and (
                inbox._first is not None or inbox.protocol.state is not _OPEN
            ):
                return inbox
            turn.pop()
            inbox._is_due = False
        return None


_shared: WeakKeyDictionary[Any, _Shared] = WeakKeyDictionary()


def _share(hub: Any) -> _Shared:
    shared = _shared.get(hub)
    if shared is None:
        shared = _shared[hub] = _Shared()
    return shared
