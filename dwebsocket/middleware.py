"""``WebSocketMiddleware``, for what the decorators can't do view by view."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponseBase

from .conf import settings
from .exceptions import HandshakeError
from .upgrade import View, prepare_request, refuse, refuse_http, run_view

__all__ = ["WebSocketMiddleware"]


class WebSocketMiddleware:
    """Set the request attributes everywhere and guard views that don't accept.

    Every request gets ``is_websocket()`` and ``websocket``.  A WebSocket request
    is refused with 400 unless its view is decorated, has a true
    ``accept_websocket`` attribute or WEBSOCKET_ACCEPT_ALL is set; the view of the
    latter two is run here.  So this has to be the last middleware that has a
    ``process_view``: the check ``dwebsocket.E002`` sees to it.  Use a decorator
    where the ``process_exception`` of a middleware has to see what a view raises.
    """

    sync_capable = True
    async_capable = False

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        prepare_request(request)
        return self.get_response(request)

    def process_view(
        self,
        request: HttpRequest,
        view: View,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> HttpResponseBase | None:
        """Answer for the view, or return None to have it called."""
        if getattr(view, "is_websocket_view", False):
            return None
        if not prepare_request(request):
            if getattr(view, "require_websocket", False):
                return refuse_http(request)
            return None
        if getattr(view, "accept_websocket", False) or settings.accept_all:
            return run_view(request, view, args, kwargs, settings)
        return refuse(HandshakeError("This URL doesn't accept WebSocket connections."))
