"""The request of a WebSocket view: its type, and what it keeps of HTTP.

A view holds on to its request for hours, so what is in it counts as often as there
are connections.  Nothing is lost that a view could still use.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Hashable
from functools import cache, lru_cache
from typing import TYPE_CHECKING, TypeVar

from django.http import HttpRequest, QueryDict
from django.http.request import HttpHeaders

if TYPE_CHECKING:
    from .websocket import WebSocket

__all__ = ["WebSocketRequest", "share", "trim_request"]

_Value = TypeVar("_Value", bound=Hashable)

#: environ entries that belong to the HTTP request and hold on to the server.
_HTTP_ONLY = frozenset(
    (
        "dwebsocket.handover",
        "dwebsocket.scope",
        "dwebsocket.token",
        "gunicorn.sock",
        "gunicorn.socket",
        "wsgi.early_hints",
        "wsgi.errors",
        "wsgi.file_wrapper",
        "wsgi.input",
        "wsgi.websocket",
    )
)

#: Strings up to this long are shared with other requests.
_MAX_SHARED = 200


class WebSocketRequest(HttpRequest):
    """Annotates the request of a view: ``def echo(request: WebSocketRequest)``.

    That is an HttpRequest with what the decorators and the middleware have set; no
    request is an instance of it.
    """

    #: None at run time when ``is_websocket()`` is false.
    websocket: WebSocket

    is_websocket: Callable[[], bool]


class _NoBody(io.BytesIO):
    """Nothing to read; stays open, being shared, when a request closes it."""

    def close(self) -> None: ...


_NO_BODY = _NoBody()


@lru_cache(maxsize=2048)
def share(value: _Value) -> _Value:
    """Return the one value that stands for all that equal it."""
    return value


def trim_request(request: HttpRequest) -> None:
    """Let go of what only HTTP needed, and of what can be made again.

    Header names, and values that many clients send, are shared between requests.
    """
    environ = request.META
    kept = {}
    for name, value in environ.items():
        if name not in _HTTP_ONLY:
            if len(name) <= _MAX_SHARED:
                name = share(name)
            if type(value) is str and len(value) <= _MAX_SHARED:
                value = share(value)
            kept[name] = value
    # A dict shrinks only when it is filled anew.
    environ.clear()
    environ.update(kept)
    attributes = vars(request)
    attributes["_stream"] = _NO_BODY
    if isinstance(attributes.get("headers"), HttpHeaders):
        del attributes["headers"]  # cached: made of META again when asked for
    if _is_default(attributes.get("GET")):
        attributes["GET"] = _no_query()
    # Saved with the 101 response.  What a view would add would never be seen:
    # now Django says so.
    attributes.pop("_messages", None)


@cache
def _no_query() -> QueryDict:
    return QueryDict()


def _is_default(query: QueryDict | None) -> bool:
    default = _no_query()
    return (
        query == default and query.encoding == default.encoding and not query._mutable
    )
