"""``accept_websocket`` and ``require_websocket``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypedDict, overload

from django.db import connections, transaction
from django.http import HttpRequest, HttpResponseBase

from .conf import make_settings
from .upgrade import View, prepare_request, refuse_http, run_view

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = [
    "ViewOptions",
    "accept_websocket",
    "make_websocket_view",
    "require_websocket",
]

_P = ParamSpec("_P")
_Names = list[str] | tuple[str, ...]
_Rate = str | Mapping[str, Any]


class ViewOptions(TypedDict, total=False):
    """Types of the options; ``conf`` has what values they may have."""

    allowed_origins: _Names | set[str] | frozenset[str] | Literal["*"] | None
    close_timeout: float | None
    compression: bool | Mapping[str, int]
    handshake_rate_limit: _Rate | list[_Rate] | tuple[_Rate, ...] | None
    max_message_size: int | None
    max_queue: int | None
    ping_interval: float | None
    ping_timeout: float | None
    rate_limit: _Rate | list[_Rate] | tuple[_Rate, ...] | None
    send_buffer_size: int | None
    slow_consumer: str
    subprotocols: _Names


@overload
def accept_websocket(
    view: Callable[_P, HttpResponseBase | None],
) -> Callable[_P, HttpResponseBase]: ...
@overload
def accept_websocket(
    **options: Unpack[ViewOptions],
) -> Callable[
    [Callable[_P, HttpResponseBase | None]], Callable[_P, HttpResponseBase]
]: ...
def accept_websocket(view: Any = None, **options: Any) -> Any:
    """Let a view talk WebSocket, and answer plain HTTP requests as well.

    ``request.is_websocket()`` tells which.  Options, each overriding the setting
    ``WEBSOCKET_<OPTION>`` for this view: ``allowed_origins``, ``close_timeout``,
    ``compression``, ``handshake_rate_limit``, ``max_message_size``, ``max_queue``,
    ``ping_interval``, ``ping_timeout``, ``rate_limit``, ``send_buffer_size``,
    ``slow_consumer``, ``subprotocols``.
    """
    return _decorate(view, options, is_required=False)


@overload
def require_websocket(
    view: Callable[_P, HttpResponseBase | None],
) -> Callable[_P, HttpResponseBase]: ...
@overload
def require_websocket(
    **options: Unpack[ViewOptions],
) -> Callable[
    [Callable[_P, HttpResponseBase | None]], Callable[_P, HttpResponseBase]
]: ...
def require_websocket(view: Any = None, **options: Any) -> Any:
    """Let a view talk WebSocket only; plain HTTP gets 400.

    Takes the same options as ``accept_websocket``.
    """
    return _decorate(view, options, is_required=True)


class _EveryAlias(set[str]):
    """Says to ``BaseHandler.make_view_atomic`` that no database is meant.

    Its elements are those that ``transaction.non_atomic_requests`` names, inside
    of the decorator or around it.
    """

    def __contains__(self, alias: object) -> bool:
        return True


def _decorate(view: View | None, options: dict[str, Any], *, is_required: bool) -> Any:
    settings = make_settings(options)

    def decorate(view: View) -> View:
        if inspect.iscoroutinefunction(view):
            raise TypeError("a WebSocket view is a plain function, not async")

        def serve(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            return run_view(request, view, args, kwargs, settings)

        return make_websocket_view(view, serve, is_required=is_required)

    return decorate if view is None else decorate(view)


def make_websocket_view(
    view: View, serve: Callable[..., HttpResponseBase], *, is_required: bool
) -> View:
    """Return a view that gives WebSocket requests to ``serve`` and others to ``view``.

    The others are refused when ``is_required``.
    """
    non_atomic = getattr(view, "_non_atomic_requests", ())
    if not isinstance(non_atomic, _EveryAlias):
        non_atomic = _EveryAlias(non_atomic)

    @wraps(view)
    def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if prepare_request(request):
            return serve(request, *args, **kwargs)
        if is_required:
            return refuse_http(request)
        atomic_view = _make_atomic(view, non_atomic)
        return atomic_view(request, *args, **kwargs)  # type: ignore[no-any-return]

    wrapper.accept_websocket = True  # type: ignore[attr-defined]
    wrapper.require_websocket = is_required  # type: ignore[attr-defined]
    wrapper.is_websocket_view = True  # type: ignore[attr-defined]
    # ATOMIC_REQUESTS must not hold a transaction through a conversation.
    wrapper._non_atomic_requests = non_atomic  # type: ignore[attr-defined]
    return wrapper


def _make_atomic(view: View, non_atomic: _EveryAlias) -> View:
    """Apply ATOMIC_REQUESTS to a plain request, as Django would have."""
    if getattr(view, "is_websocket_view", False):
        return view  # decorated twice: the inner decorator does it
    aliases = frozenset(non_atomic)
    for alias, database in connections.settings.items():
        if database["ATOMIC_REQUESTS"] and alias not in aliases:
            view = transaction.atomic(using=alias)(view)
    return view
