"""A connection with a handler: there is no greenlet while it is idle.

Its view is the handler's ``connect``, which returns early.  From then on a greenlet of
the pool handles each message, and the end of the connection.
"""

from __future__ import annotations

from contextvars import copy_context
from typing import Any, Protocol

from django.http import HttpRequest

from .context import find_setters
from .conversation import Conversation
from .frames import CloseCode
from .pool import Listener
from .protocol import Message
from .request import share
from .websocket import WebSocket

__all__ = ["Handler", "HandlerConversation"]


class Handler(Protocol):
    """What a conversation needs of a handler."""

    keep_request: bool

    def receive(self, message: Message) -> object: ...
    def disconnect(self, code: int) -> object: ...
    def forget_request(self) -> None: ...


class HandlerConversation(Conversation):
    """A conversation whose view is the ``connect`` of ``handler``."""

    __slots__ = ("_address", "_client", "_handler")

    def __init__(
        self, handler: Handler, request: HttpRequest, websocket: WebSocket, *args: Any
    ) -> None:
        super().__init__(request, websocket, *args)
        #: None when its listener has it.
        self._handler: Any = handler
        self._client: tuple[str, Any] | None = None
        # None where the socket tells it.
        self._address: str | None = super().find_address()

    # In the greenlet of connect()

    def _end_view(self, code: CloseCode | None) -> None:
        transport = self._transport
        if transport is None:
            super()._end_view(code)
            return
        handler, self._handler = self._handler, None
        # With the language and the like that connect() may have set.
        setters = share(find_setters(copy_context()))
        if self._address == transport.peer_address:
            self._address = None
        if not handler.keep_request:
            self._client = share(self.find_client())
            handler.forget_request()
            self._request = None
        if code is not None:
            transport.close(code)
        Listener(self, handler, setters, transport, self._websocket).go_on(True)

    # For the listener

    def end(self) -> None:
        """The handler is done with its connection."""
        super()._end_view(None)

    def find_client(self) -> tuple[str, Any]:
        return self._client or super().find_client()

    def find_address(self) -> str:
        if self._address is not None:
            return self._address
        assert self._transport is not None
        return self._transport.peer_address
