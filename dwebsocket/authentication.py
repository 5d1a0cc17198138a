"""Bearer tokens (RFC 6750), from a header or, for browsers, the subprotocols.

JavaScript can't set headers of a WebSocket request.  There a token is one of the
subprotocols, "bearer." and the token in base64url, beside "bearer", which is what the
server answers with::

    new WebSocket(url, ["bearer", "bearer." + base64url(token)])

That it appears in no log is seen to here: what is offered as a subprotocol is hidden
before any middleware runs, the header when the view's decorator has read it.
"""

from __future__ import annotations

import base64
import traceback
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from django.core.signing import BadSignature
from django.http import HttpRequest, HttpResponse, HttpResponseBase

from .handshake import BEARER, is_websocket_request
from .login_signals import recheck_user
from .registry import registry

__all__ = ["bearer_token_required", "hide_token", "recheck_user"]

_View = TypeVar("_View", bound=Callable[..., Any])

_PREFIX = f"{BEARER}."
#: environ key of a token that was among the subprotocols.
_TOKEN = "dwebsocket.token"


def bearer_token_required(
    get_user: Callable[[str], Any], *, realm: str = "websocket"
) -> Callable[[_View], _View]:
    """Let only those requests through to a view that carry the token of a user.

    ``get_user(token)`` returns a user, who becomes ``request.user``, or None for a
    token that isn't valid; ``django.core.signing.BadSignature`` means the same.  Others
    get 401 with ``WWW-Authenticate``, as do users who aren't active.  It works on any
    view, and goes above ``require_websocket``.

    The token is taken out of the request, so that nothing can log it.  Live
    authentication asks ``get_user`` again: a token that has expired by then closes the
    connection, with 3000.
    """

    def decorate(view: _View) -> _View:
        @wraps(view)
        def wrapper(
            request: HttpRequest, *args: Any, **kwargs: Any
        ) -> HttpResponseBase:
            token = _take_token(request)
            load = None if token is None else _Loader(get_user, token)
            user = None if load is None else load()
            if user is None:
                if is_websocket_request(request.META):
                    registry.refused[401] += 1
                return _refuse(realm, has_token=token is not None)
            request.user = user
            request._cached_user = user  # type: ignore[attr-defined]
            request._load_user = load  # type: ignore[attr-defined]
            return view(request, *args, **kwargs)  # type: ignore[no-any-return]

        # For Django's LoginRequiredMiddleware, which knows of sessions only.
        wrapper.login_required = False  # type: ignore[attr-defined]
        return wrapper  # type: ignore[return-value]

    return decorate


def hide_token(environ: dict[str, Any] | None = None, **kwargs: Any) -> None:
    """Receive ``request_started``: hide a token that is among the subprotocols."""
    header = "" if environ is None else environ.get("HTTP_SEC_WEBSOCKET_PROTOCOL", "")
    if environ is None or _PREFIX not in header:
        return
    left = []
    for name in header.split(","):
        name = name.strip(" \t")
        if name.startswith(_PREFIX):
            environ[_TOKEN] = _Token(_decode(name.removeprefix(_PREFIX)))
        else:
            left.append(name)
    if left:
        environ["HTTP_SEC_WEBSOCKET_PROTOCOL"] = ", ".join(left)
    else:
        del environ["HTTP_SEC_WEBSOCKET_PROTOCOL"]


class _Token:
    """A token that nothing shows."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class _Loader:
    """Finds the user of a token, whenever it is called."""

    __slots__ = ("_get_user", "_token")

    def __init__(self, get_user: Callable[[str], Any], token: _Token) -> None:
        self._get_user = get_user
        self._token = token

    def __call__(self) -> Any:
        if not self._token.text:
            return None
        try:
            user = self._get_user(self._token.text)
        except BadSignature:
            return None
        except Exception as exc:
            _clear_locals(exc)
            raise
        return user if getattr(user, "is_active", False) else None


def _take_token(request: HttpRequest) -> _Token | None:
    """Remove the token from the request and return it, or None."""
    environ = request.META
    # It is hidden already, but where nothing has sent ``request_started``.
    hide_token(environ)
    token: _Token | None = environ.pop(_TOKEN, None)
    scheme, _, credentials = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    # RFC 9110 section 11.1: the scheme is case-insensitive.
    if scheme.lower() == BEARER:
        del environ["HTTP_AUTHORIZATION"]
        token = _Token(credentials.strip(" "))
    # Made of META when it was asked for.
    vars(request).pop("headers", None)
    return token


def _decode(text: str) -> str:
    """Return the token; "", which is nobody's, if it is malformed."""
    padding = "=" * (-len(text) % 4)
    try:
        return base64.b64decode(text + padding, b"-_", validate=True).decode()
    except ValueError:
        return ""


def _clear_locals(exc: BaseException | None) -> None:
    """Keep error pages, which show the variables of each frame, from showing it."""
    while exc is not None:
        traceback.clear_frames(exc.__traceback__)
        exc = exc.__cause__ or exc.__context__


def _refuse(realm: str, *, has_token: bool) -> HttpResponse:
    # Section 3: "If the request lacks any authentication information (...), the
    # resource server SHOULD NOT include an error code".
    challenge = f'Bearer realm="{realm}"'
    if has_token:
        challenge += ', error="invalid_token"'
    return HttpResponse(
        "A valid bearer token is needed.\n",
        status=401,
        content_type="text/plain; charset=utf-8",
        headers={"WWW-Authenticate": challenge},
    )
