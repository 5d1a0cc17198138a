from __future__ import annotations

from typing import Any

import pytest
from django.contrib import messages
from django.contrib.messages.middleware import MessageMiddleware
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpResponse
from django.test import RequestFactory

from dwebsocket.request import trim_request


def make_request(path: str = "/echo/", **environ: Any) -> WSGIRequest:
    environ = {
        "wsgi.early_hints": print,
        "wsgi.file_wrapper": print,
        "gunicorn.socket": object(),
        "HTTP_X_REAL": "one two",
        **environ,
    }
    return RequestFactory().get(path, **environ)


def test_only_the_servers_entries_go() -> None:
    request = make_request()
    before = dict(request.META)
    trim_request(request)
    assert request.META is request.environ
    gone = before.keys() - request.META.keys()
    assert gone == {
        "gunicorn.socket",
        "wsgi.early_hints",
        "wsgi.errors",
        "wsgi.file_wrapper",
        "wsgi.input",
    }
    assert request.META == {name: before[name] for name in request.META}


def test_equal_strings_are_one_afterwards() -> None:
    values = ["".join(["text ", "of a header"]) for _ in range(2)]
    names = ["".join(["HTTP_", "X_NAME"]) for _ in range(2)]
    assert values[0] is not values[1] and names[0] is not names[1]
    metas = []
    for name, value in zip(names, values, strict=True):
        request = make_request(**{name: value})
        trim_request(request)
        metas.append(request.META)
    assert metas[0]["HTTP_X_NAME"] is metas[1]["HTTP_X_NAME"]
    first, second = (
        next(name for name in meta if name == "HTTP_X_NAME") for meta in metas
    )
    assert first is second


def test_what_is_not_a_short_string_stays_the_same_object() -> None:
    class Name(str): ...

    values = [Name("a"), "x" * 5000, ["a", "list"], b"bytes"]
    for value in values:
        request = make_request(**{"example.value": value})
        trim_request(request)
        assert request.META["example.value"] is value


def ask(request: WSGIRequest) -> list[Any]:
    return [
        request.headers,
        request.GET,
        request.COOKIES,
        request.build_absolute_uri(),
        request.get_host(),
        request.scheme,
        request.content_type,
    ]


def test_attributes_answer_as_before() -> None:
    request = make_request("/echo/?a=1&a=2", HTTP_COOKIE="name=value")
    answers = ask(request)
    trim_request(request)
    assert answers == ask(request)
    assert request.GET is answers[1]
    assert request.headers["X-Real"] == "one two"


def test_attributes_that_nobody_asked_for_yet() -> None:
    request = make_request("/echo/?a=1")
    trim_request(request)
    assert request.GET["a"] == "1"
    assert request.headers["X-Real"] == "one two"


def test_an_empty_query_stays_empty_and_immutable() -> None:
    request = make_request()
    assert not request.GET
    trim_request(request)
    assert request.GET == {} and request.GET.encoding == "utf-8"
    with pytest.raises(AttributeError):
        request.GET["a"] = "b"


def test_a_query_of_the_middlewares_own_stays() -> None:
    request = make_request()
    query = request.GET = request.GET.copy()
    trim_request(request)
    assert request.GET is query


def test_headers_of_the_middlewares_own_stay() -> None:
    request = make_request()
    headers = vars(request)["headers"] = {"X-Real": "other"}
    trim_request(request)
    assert request.headers is headers


def test_the_body_is_empty() -> None:
    for _ in range(2):
        request = make_request()
        trim_request(request)
        assert request.body == b""
    request = make_request()
    trim_request(request)
    assert request.read() == b""


def test_messages_that_nobody_would_see_are_refused() -> None:
    request = make_request()
    request.session = {}
    middleware = MessageMiddleware(lambda request: HttpResponse())
    middleware.process_request(request)
    messages.info(request, "in time")
    middleware.process_response(request, HttpResponse())
    trim_request(request)
    with pytest.raises(messages.MessageFailure):
        messages.info(request, "too late")
    assert list(messages.get_messages(request)) == []
