"""A connection with a handler: there is no greenlet while it is idle.

Its view is the handler's ``connect``, which returns early.  From then on the hub
starts a greenlet for each message, and for the end of the connection.
"""

from __future__ import annotations

from collections import deque
from contextvars import Context, copy_context
from typing import Any, Protocol

from django.http import HttpRequest
from gevent import get_hub, getcurrent
from greenlet import greenlet

from . import databases
from .context import Setter, call_setters, find_setters
from .conversation import Conversation, ViewGreenlet
from .failures import find_close_code
from .frames import CloseCode
from .protocol import Message
from .request import share
from .transport import Transport
from .websocket import WebSocket

__all__ = ["Handler", "HandlerConversation", "Pool", "pool"]


class Handler(Protocol):
    """What a conversation needs of a handler."""

    keep_request: bool

    def receive(self, message: Message) -> object: ...
    def disconnect(self, code: int) -> object: ...
    def forget_request(self) -> None: ...


class HandlerConversation(Conversation):
    """A conversation whose view is the ``connect`` of ``handler``."""

    __slots__ = ("_address", "_client", "_handler", "_setters")

    def __init__(
        self, handler: Handler, request: HttpRequest, websocket: WebSocket, *args: Any
    ) -> None:
        super().__init__(request, websocket, *args)
        self._handler = handler
        self._client: tuple[str, Any] | None = None
        # None where the socket tells it.
        self._address: str | None = super().find_address()
        self._setters: tuple[Setter, ...] = ()

    # In the greenlet of connect()

    def _end_view(self, code: CloseCode | None) -> None:
        transport = self._transport
        if transport is None:
            super()._end_view(code)
            return
        # With the language and the like that connect() may have set.
        self._setters = share(find_setters(copy_context()))
        if self._address == transport.peer_address:
            self._address = None
        if not self._handler.keep_request:
            self._client = share(self.find_client())
            self._handler.forget_request()
            self._request = None
        if code is not None:
            transport.close(code)
        self._go_on(transport, was_open=True)

    # In the hub

    def on_message(self) -> None:
        """For ``Transport.listen``."""
        pool.start(self)

    # In a greenlet of the pool

    def handle(self) -> None:
        """Handle a message or, if there is none, the end of the connection."""
        transport = self._transport
        assert transport is not None
        databases.adopt()
        call_setters(self._setters)
        message = transport.receive() if transport.inbox_count else None
        was_open = transport.is_open
        try:
            if message is not None:
                if self._websocket._on_message is not None:
                    self._websocket._on_message(message)
                self._handler.receive(message)
        except BaseException as exc:
            transport.close(find_close_code(exc))
            self._on_error(exc)
        finally:
            self._go_on(transport, was_open=was_open)

    def _go_on(self, transport: Transport, *, was_open: bool) -> None:
        """Be idle again, or end when nothing more will come."""
        protocol = transport.protocol
        if was_open and protocol.closed_by == "server":
            # The handler is done with the client.
            transport.drop_inbox()
        if transport.is_open or transport.inbox_count:
            databases.close()
            transport.listen(self)
            return
        code = protocol.close_code or int(CloseCode.ABNORMAL_CLOSURE)
        try:
            self._handler.disconnect(code)
        except BaseException as exc:
            self._on_error(exc)
        finally:
            super()._end_view(None)

    def find_client(self) -> tuple[str, Any]:
        return self._client or super().find_client()

    def find_address(self) -> str:
        if self._address is not None:
            return self._address
        assert self._transport is not None
        return self._transport.peer_address


class Pool:
    """Runs what connections have to handle in at most ``size`` greenlets.

    What comes when all are busy waits, in this order; ``size`` None is no limit.
    """

    def __init__(self) -> None:
        self.size: int | None = None
        self._running = 0
        self._waiting: deque[HandlerConversation] = deque()
        # Kept for the next message: a new one takes longer than most of them.
        self._spare: greenlet | None = None

    def start(self, conversation: HandlerConversation) -> None:
        """Call ``conversation.handle()``; not at once, if too many do so."""
        if self._waiting or not self._has_room():
            self._waiting.append(conversation)
        else:
            self._start(conversation)

    def _has_room(self) -> bool:
        return self.size is None or self._running < self.size

    def _start(self, conversation: HandlerConversation) -> None:
        self._running += 1
        hub = get_hub()
        spare, self._spare = self._spare, None
        if spare is None or spare.dead or spare.parent is not hub:
            spare = ViewGreenlet(self._run, hub)
        spare.switch(conversation)

    def _run(self, conversation: HandlerConversation | None) -> None:
        while True:
            assert conversation is not None
            try:
                # What one sets for its context must not be there for the next.
                Context().run(conversation.handle)
            finally:
                self._running -= 1
                if self._waiting:
                    get_hub().loop.run_callback(self._start_waiting)
            if self._spare is not None:
                return
            conversation = None
            self._spare = getcurrent()
            conversation = get_hub().switch()

    def _start_waiting(self) -> None:
        while self._waiting and self._has_room():
            self._start(self._waiting.popleft())


#: That of this process.
pool = Pool()
