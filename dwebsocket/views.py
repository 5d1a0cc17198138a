"""``WebSocketView``: a class-based view whose connections cost little while idle."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import classonlymethod
from django.views import View

from .conf import VIEW_OPTIONS, make_settings, settings
from .decorators import make_websocket_view
from .handlers import HandlerConversation
from .pool import pool
from .protocol import Message
from .upgrade import prepare_request, refuse_http, run_view
from .websocket import WebSocket

__all__ = ["WebSocketView"]


class WebSocketView(View):
    """Handles a connection: ``connect``, ``receive`` for each message, ``disconnect``.

    Each of them runs in a greenlet and may block; between them there is none.
    Attributes that one sets are there for the next.  The options of
    ``require_websocket`` may be attributes of the class, or keywords of ``as_view``.

    The upgrade request is a GET: mixins and decorators of ``dispatch`` see it, and
    ``http_method_names`` has to allow it.  Plain HTTP goes to ``get`` and the like.
    """

    #: Whether ``self.request`` is still there after ``connect`` has returned.
    keep_request = False

    #: The connection, as function views have it in ``request.websocket``.
    websocket: WebSocket

    _settings = settings

    @classonlymethod
    def as_view(cls, **initkwargs: Any) -> Callable[..., HttpResponseBase]:
        for name in "connect", "receive", "disconnect":
            if inspect.iscoroutinefunction(getattr(cls, name)):
                raise TypeError(f"{cls.__name__}.{name} is async; it has to be plain")
        options = {
            name: initkwargs.pop(name) if name in initkwargs else getattr(cls, name)
            for name in VIEW_OPTIONS
            if name in initkwargs or hasattr(cls, name)
        }
        if options:
            initkwargs["_settings"] = make_settings(options)
        view = super().as_view(**initkwargs)
        return make_websocket_view(view, view, is_required=False)

    def dispatch(
        self, request: HttpRequest, *args: Any, **kwargs: Any
    ) -> HttpResponseBase:
        if not prepare_request(request):
            return super().dispatch(request, *args, **kwargs)
        if "get" not in self.http_method_names:
            return self.http_method_not_allowed(request, *args, **kwargs)
        self.websocket = request.websocket  # type: ignore[attr-defined]
        pool.size = settings.handler_pool_size
        conversation = partial(HandlerConversation, self)
        return run_view(
            request, self.connect, args, kwargs, self._settings, conversation
        )

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Answer plain HTTP: with 400."""
        return refuse_http(request)

    def head(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        # Else setup() would make an attribute of it, one for each connection.
        return self.get(request, *args, **kwargs)

    def connect(
        self, request: HttpRequest, *args: Any, **kwargs: Any
    ) -> HttpResponseBase | None:
        """Decide about the connection: return a response, or None to accept it.

        ``self.websocket`` is used as in a function view: what touches the
        conversation accepts it.
        """
        return None

    def receive(self, message: Message) -> object:
        """Handle a message, ``str`` or ``bytes``, after the one before it.

        An exception closes the connection with 1011.
        """

    def disconnect(self, code: int) -> object:
        """The connection is closing or has closed with ``code``, 1006 if it was lost.

        Called once for each connection that was accepted, also when ``connect`` or
        ``receive`` failed.
        """

    def forget_request(self) -> None:
        """Let go of the request: ``connect`` has returned, and it isn't to be kept."""
        if hasattr(self, "request"):
            del self.request
