"""The greenlets in which handlers get their messages.

A connection with a handler has none of its own: one greenlet handles what many have
received, one after the other, and others step in while it waits.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from gevent import get_hub, getcurrent
from greenlet import greenlet

from . import databases
from .context import Setter, call_setters
from .conversation import ViewGreenlet
from .failures import find_close_code
from .frames import CloseCode
from .protocol import State
from .transport import Transport
from .websocket import WebSocket

if TYPE_CHECKING:
    from .handlers import Handler, HandlerConversation

__all__ = ["Listener", "Pool", "pool"]

_OPEN = State.OPEN


class Listener:
    """Has a handler called for each message of a connection, and for its end."""

    __slots__ = ("_conversation", "_handler", "_setters", "_transport", "_websocket")

    def __init__(
        self,
        conversation: HandlerConversation,
        handler: Handler,
        setters: tuple[Setter, ...],
        transport: Transport,
        websocket: WebSocket,
    ) -> None:
        self._conversation = conversation
        self._handler = handler
        self._setters = setters
        self._transport = transport
        self._websocket = websocket

    # In the hub

    def on_message(self) -> None:
        """For ``Transport.listen``."""
        pool.start(self)

    # In a greenlet of the pool

    def handle(self) -> None:
        """Handle a message or, if there is none, the end of the connection."""
        transport = self._transport
        if databases.shared:
            databases.adopt()
        if self._setters:
            call_setters(self._setters)
        message = transport.receive() if transport.count_messages() else None
        was_open = transport.protocol.state is _OPEN
        try:
            if message is not None:
                if self._websocket._on_message is not None:
                    self._websocket._on_message(message)
                self._handler.receive(message)
        except BaseException as exc:
            transport.close(find_close_code(exc))
            self._conversation.on_error(exc)
        finally:
            self.go_on(was_open)

    def go_on(self, was_open: bool) -> None:
        """Be idle again, or end when nothing more will come.

        ``was_open`` tells whether the connection was, when the handler was called.
        """
        transport = self._transport
        protocol = transport.protocol
        is_open = protocol.state is _OPEN
        if was_open and not is_open and protocol.closed_by == "server":
            # The handler is done with the client.
            transport.drop_inbox()
        if is_open or transport.count_messages():
            # Asked here as well: the call takes longer.
            if getattr(getcurrent(), "before_wait", None) is not None:
                databases.close()
            transport.listen(self)
            return
        code = protocol.close_code or int(CloseCode.ABNORMAL_CLOSURE)
        try:
            self._handler.disconnect(code)
        except BaseException as exc:
            self._conversation.on_error(exc)
        finally:
            self._conversation.end()


class Pool:
    """Runs what connections have to handle in at most ``size`` greenlets.

    What comes when all are busy waits, in this order; ``size`` None is no limit.
    """

    __slots__ = ("_running", "_spare", "_waiting", "size")

    def __init__(self) -> None:
        self.size: int | None = None
        self._running = 0
        self._waiting: deque[Listener] = deque()
        # Kept for the next message: a new one takes longer than most of them.
        self._spare: greenlet | None = None

    def start(self, listener: Listener) -> None:
        """Call ``listener.handle()``; not at once, if too many do so."""
        if self._waiting or not self._has_room():
            self._waiting.append(listener)
        else:
            self._start(listener)

    def _has_room(self) -> bool:
        return self.size is None or self._running < self.size

    def _start(self, listener: Listener) -> None:
        self._running += 1
        hub = get_hub()
        spare, self._spare = self._spare, None
        if spare is None or spare.dead or spare.parent is not hub:
            spare = ViewGreenlet(self._run, hub)
        spare.switch(listener)

    def _run(self, listener: Listener | None) -> None:
        current: Any = getcurrent()
        while True:
            try:
                while listener is not None:
                    # What one sets for its context must not be there for the next.
                    if current.gr_context is not None:
                        current.gr_context = None
                    listener.handle()
                    # Not by way of the hub, unless others have waited for longer.
                    transport = listener._transport
                    listener = None if self._waiting else transport.next_listener()
            finally:
                self._running -= 1
                if self._waiting:
                    get_hub().loop.run_callback(self._start_waiting)
            if self._spare is not None:
                return
            self._spare = current
            listener = get_hub().switch()

    def _start_waiting(self) -> None:
        while self._waiting and self._has_room():
            self._start(self._waiting.popleft())


#: That of this process.
pool = Pool()
