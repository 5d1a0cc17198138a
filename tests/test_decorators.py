"""``accept_websocket`` and ``require_websocket`` as decorators."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import AnonymousUser, User
from django.core.handlers.base import BaseHandler
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from django.utils.decorators import method_decorator
from django.views import View

from dwebsocket.conf import VIEW_OPTIONS
from dwebsocket.decorators import ViewOptions, accept_websocket, require_websocket

both_decorators = pytest.mark.parametrize(
    "decorator", [accept_websocket, require_websocket]
)


def view(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
    """Answer what it was called with."""
    assert request.websocket is None and not request.is_websocket()
    return HttpResponse(f"{args} {kwargs}")


@pytest.fixture
def request_() -> HttpRequest:
    request = RequestFactory().get("/")
    request.user = AnonymousUser()
    return request


def test_every_option_has_a_type() -> None:
    assert ViewOptions.__annotations__.keys() == VIEW_OPTIONS


def test_accept_websocket_passes_plain_http_on(request_: HttpRequest) -> None:
    response = accept_websocket(view)(request_, 1, a=2)
    assert response.content == b"(1,) {'a': 2}"


def test_require_websocket_refuses_plain_http(request_: HttpRequest) -> None:
    response = require_websocket(view)(request_)
    assert (response.status_code, response["Upgrade"]) == (400, "websocket")


@both_decorators
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"subprotocols": ["a", "b"], "max_message_size": None},
        {"allowed_origins": "*", "close_timeout": 0.5},
        {"max_queue": 1, "send_buffer_size": 1},
    ],
)
def test_wrapper_looks_like_the_view(decorator: Any, options: dict[str, Any]) -> None:
    for wrapper in [decorator(**options)(view), decorator(view)]:
        assert wrapper.__name__ == "view"
        assert wrapper.__doc__ == view.__doc__
        assert wrapper.__wrapped__ is view
        assert wrapper.is_websocket_view and wrapper.accept_websocket
        assert wrapper.require_websocket is (decorator is require_websocket)
    assert not hasattr(view, "is_websocket_view")


@both_decorators
@pytest.mark.parametrize(
    "option, value, error",
    [
        ("subprotocol", "a", TypeError),
        ("accept_all", True, TypeError),
        ("max_connections", 1, TypeError),
        ("subprotocols", "chat", ValueError),
        ("subprotocols", ["a b"], ValueError),
        ("allowed_origins", "example.com", ValueError),
        ("max_message_size", 0, ValueError),
        ("max_queue", 1.5, ValueError),
        ("send_buffer_size", "1", ValueError),
        ("close_timeout", -1, ValueError),
    ],
)
def test_options_are_checked_at_once(
    decorator: Any, option: str, value: object, error: type[Exception]
) -> None:
    with pytest.raises(error, match=option):
        decorator(**{option: value})


@both_decorators
def test_async_views_are_refused(decorator: Any) -> None:
    async def async_view(request: HttpRequest) -> None: ...

    for decorate in (decorator, decorator(max_queue=1)):
        with pytest.raises(TypeError, match="not async"):
            decorate(async_view)


def test_with_login_required_in_both_orders(request_: HttpRequest) -> None:
    outside = login_required(accept_websocket(view))
    inside = accept_websocket(login_required(view))
    for wrapper in (outside, inside):
        assert wrapper.is_websocket_view
        assert wrapper(request_).status_code == 302
    assert login_required(require_websocket(view))(request_).status_code == 302
    assert require_websocket(login_required(view))(request_).status_code == 400


def test_decorated_twice(request_: HttpRequest) -> None:
    assert accept_websocket(accept_websocket(view))(request_).content == b"() {}"
    for twice in (
        accept_websocket(require_websocket(view)),
        require_websocket(accept_websocket(view)),
    ):
        assert twice(request_).status_code == 400


def test_class_based_view(request_: HttpRequest) -> None:
    @method_decorator(accept_websocket(max_queue=1), name="dispatch")
    class Page(View):
        def get(self, request: HttpRequest, number: int) -> HttpResponse:
            return view(request, number)

    assert Page.as_view().is_websocket_view
    assert Page.as_view()(request_, number=3).content == b"(3,) {}"


non_atomic = transaction.non_atomic_requests
not_other = non_atomic(using="other")


def decorate(decorators: list[Any]) -> Any:
    """Return a view that tells about its transaction, the last decorator inside."""

    def atomic(request: HttpRequest) -> HttpResponse:
        return HttpResponse(str(connection.in_atomic_block))

    wrapper: Any = atomic
    for decorator in reversed(decorators):
        wrapper = decorator(wrapper)
    return wrapper


@pytest.mark.parametrize(
    "decorators, is_atomic",
    [
        ([accept_websocket], True),
        ([login_required, accept_websocket], True),
        ([accept_websocket, login_required], True),
        ([accept_websocket, accept_websocket], True),
        ([accept_websocket, login_required, accept_websocket], True),
        ([accept_websocket, not_other], True),
        ([not_other, accept_websocket], True),
        ([accept_websocket, non_atomic], False),
        ([non_atomic, accept_websocket], False),
        ([non_atomic, accept_websocket, accept_websocket], False),
        ([non_atomic, login_required, accept_websocket], False),
    ],
)
def test_atomic_requests(
    database: None, request_: HttpRequest, decorators: list[Any], is_atomic: bool
) -> None:
    request_.user = User(username="ann")
    wrapper = BaseHandler().make_view_atomic(decorate(decorators))
    response = wrapper(request_)
    connection.close()
    assert response.content.decode() == str(is_atomic)


@pytest.mark.parametrize(
    "decorators",
    [
        [accept_websocket],
        [require_websocket, non_atomic],
        [login_required, require_websocket],
        [not_other, require_websocket],
    ],
)
def test_no_transaction_goes_around_the_wrapper(decorators: list[Any]) -> None:
    wrapper = decorate(decorators)
    assert BaseHandler().make_view_atomic(wrapper) is wrapper
