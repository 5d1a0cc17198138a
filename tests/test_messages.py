"""Typed messages: what is registered, what it is called with, what is answered."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.utils import translation

import dwebsocket
from dwebsocket import WebSocket, messages
from dwebsocket.frames import encode_frame
from dwebsocket.messages import (
    Endpoint,
    MessageError,
    MessageView,
    TypedMessage,
    encode,
    endpoint,
    handles,
    register,
)
from dwebsocket.signals import typed_message_handled, typed_message_received

from .clients import connect, frame
from .servers import TIMEOUT, Farm
from .test_handlers import everything_ends, reports, start
from .test_upgrade import receive_all
from .test_views import log_in

__all__ = ["everything_ends", "reports"]


def exchange(view: Any, *sent: Any, binary: bool = False) -> list[dict[str, Any]]:
    """Send messages, JSON or what is to be, and return what comes back."""
    texts = [x if isinstance(x, (str, bytes)) else json.dumps(x) for x in sent]
    payloads = [x if isinstance(x, bytes) else x.encode() for x in texts]
    client = start(view)
    client.sendall(b"".join(frame(2 if binary else 1, x) for x in payloads))
    # An answer to the last means that all have been answered.
    client.sendall(frame(1, b'{"type": "chat.echo", "id": "end"}'))
    received = b""
    end = encode_frame(1, b'{"type":"reply","id":"end","content":null}')
    while not received.endswith(end):
        data = client.recv(65536)
        assert data, received
        received += data
    assert receive_all(client) == b"\x88\x02\x03\xe8"
    answers = []
    received = received[: -len(end)]
    while received:
        size, head = received[1], 2
        if size == 126:
            size, head = int.from_bytes(received[2:4], "big"), 4
        answers.append(json.loads(received[head : head + size]))
        received = received[head + size :]
    return answers


def error(code: str, message: str, **extra: Any) -> dict[str, Any]:
    content = {"code": code, "message": message}
    if "fields" in extra:
        content["fields"] = extra.pop("fields")
    return {"type": "error", "content": content, **extra}


# Replies


def test_the_value_returned_is_the_reply_to_the_id() -> None:
    answers = exchange(
        endpoint,
        {"type": "chat.echo", "content": [1, {"a": "ü"}], "id": 7},
        {"type": "chat.echo", "content": "no id"},
        {"type": "chat.echo", "content": "no id", "id": None},
        {"type": "chat.echo", "id": "b"},
    )
    assert answers == [
        {"type": "reply", "id": 7, "content": [1, {"a": "ü"}]},
        {"type": "reply", "id": "b", "content": None},
    ]


def test_binary_messages_may_be_json() -> None:
    text = json.dumps({"type": "chat.echo", "content": "ü", "id": 1})
    (answer,) = exchange(endpoint, text.encode(), binary=True)
    assert answer["content"] == "ü"


def test_what_a_function_sees() -> None:
    (answer,) = exchange(endpoint, {"type": "chat.describe", "meta": {"a": 1}, "id": 1})
    assert answer["content"] == {
        "type": "chat.describe",
        "meta": {"a": 1},
        "user": "AnonymousUser",
        "day": "2026-01-31",
    }
    (answer,) = exchange(endpoint, {"type": "chat.describe", "id": 1, "more": 1})
    assert answer["content"]["meta"] == {}


def test_messages_of_the_servers_own() -> None:
    answers = exchange(endpoint, {"type": "chat.push", "content": "x", "id": 1})
    assert answers == [
        {"type": "chat.pushed", "content": "x", "meta": {"n": 1}},
        {"type": "reply", "id": 1, "content": None},
    ]
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode("chat.pushed", float("inf"))


# Errors


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "{'type': 1}", '{"type": "chat.echo", "content": NaN}'),
        *("[" * 100_000, '{"a": -Infinity}', "\ufeff{}"),
    ],
)
def test_bad_json(text: str) -> None:
    assert exchange(endpoint, text) == [error("bad_json", "This isn't JSON.")]


def test_binary_that_is_not_text() -> None:
    (answer,) = exchange(endpoint, b"\xff\xfe\xfd", binary=True)
    assert answer["content"]["code"] == "bad_json"


@pytest.mark.parametrize(
    "envelope, message",
    [
        ([], "A message has to be an object."),
        ("text", "A message has to be an object."),
        (None, "A message has to be an object."),
        ({}, "The type has to be a string."),
        ({"type": 1}, "The type has to be a string."),
        ({"type": "chat.echo", "meta": []}, "The meta has to be an object."),
        ({"type": "chat.add", "content": [1]}, "The content has to be an object."),
    ],
)
def test_wrong_shape(envelope: Any, message: str) -> None:
    text = json.dumps(envelope)
    assert exchange(endpoint, text) == [error("bad_message", message)]
    if isinstance(envelope, dict):
        answers = exchange(endpoint, {**envelope, "id": 5})
        assert answers == [error("bad_message", message, id=5)]


@pytest.mark.parametrize("id_", [True, 1.5, [], {}])
def test_wrong_id(id_: Any) -> None:
    answers = exchange(endpoint, {"type": "chat.echo", "id": id_})
    message = "An id has to be a string or an integer."
    assert answers == [error("bad_message", message)]


@pytest.mark.parametrize(
    "type_", ["", "chat", "chat.nothing", "reply", "receive", "chat.echo.x"]
)
def test_unknown_type(type_: str) -> None:
    message = "There is no such type of message."
    answers = exchange(endpoint, {"type": type_}, {"type": type_, "id": "\ud800"})
    assert answers == [
        error("unknown_type", message),
        error("unknown_type", message, id="\ud800"),
    ]


def test_an_exception_is_logged_and_not_shown(
    caplog: pytest.LogCaptureFixture, reports: list[Any]
) -> None:
    answers = exchange(endpoint, {"type": "chat.fail", "id": 1}, {"type": "chat.fail"})
    message = "This failed on the server."
    assert answers == [
        error("internal_error", message, id=1),
        error("internal_error", message),
    ]
    assert reports == [None, None]
    records = [x for x in caplog.records if x.levelno == logging.ERROR]
    assert [x.getMessage() for x in records] == [
        "Internal error in the handler of chat.fail"
    ] * 2
    assert records[0].exc_info and records[0].exc_info[0] is ZeroDivisionError


@pytest.mark.parametrize("what", ["set", "number"])
def test_a_reply_that_is_not_json(caplog: pytest.LogCaptureFixture, what: str) -> None:
    (answer,) = exchange(endpoint, {"type": "chat.not_json", "content": what, "id": 1})
    assert answer["content"]["code"] == "internal_error"
    assert "not JSON" in caplog.text


def test_an_error_of_the_applications_own(caplog: pytest.LogCaptureFixture) -> None:
    answers = exchange(endpoint, {"type": "chat.refuse", "id": 1})
    assert answers == [error("chat.full", "The room is full.", id=1)]
    assert not [x for x in caplog.records if x.levelno >= logging.WARNING]


def test_a_handler_may_close(caplog: pytest.LogCaptureFixture) -> None:
    client = start(endpoint, frame(1, b'{"type": "chat.leave", "id": 1}'))
    assert receive_all(client) == b"\x88\x02\x0f\xa0"
    assert not [x for x in caplog.records if x.levelno >= logging.WARNING]


# Forms


def test_a_form_gives_cleaned_data() -> None:
    content = {"first": " 1", "second": 2, "third": 3}
    answers = exchange(endpoint, {"type": "chat.add", "content": content, "id": 1})
    assert answers == [{"type": "reply", "id": 1, "content": 3}]


def test_a_form_gives_field_errors(caplog: pytest.LogCaptureFixture) -> None:
    required = [{"message": "This field is required.", "code": "required"}]
    answers = exchange(
        endpoint,
        {"type": "chat.add", "id": 1},
        {"type": "chat.add", "content": {"first": 13, "second": -1}},
    )
    assert answers[0] == error(
        "invalid",
        "The content is invalid.",
        id=1,
        fields={"first": required, "second": required},
    )
    fields = answers[1]["content"]["fields"]
    assert fields["__all__"] == [{"message": "Not that one.", "code": "unlucky"}]
    assert fields["second"][0]["code"] == "min_value"
    assert not [x for x in caplog.records if x.levelno >= logging.WARNING]


def test_field_errors_are_in_the_language_of_the_connection() -> None:
    class German(Endpoint):
        def connect(self, request: HttpRequest) -> None:
            translation.activate("de")

    (answer,) = exchange(German.as_view(), {"type": "chat.add"})
    (first,) = answer["content"]["fields"]["first"]
    assert first["message"] == "Dieses Feld ist zwingend erforderlich."


# Methods


class Room(MessageView):
    """As if it were in the views of the app."""

    __module__ = "tests.chat.views"

    def connect(self, request: HttpRequest) -> None:
        self.count = 0

    @handles("echo")
    def on_echo(self, message: TypedMessage) -> Any:
        self.count += 1
        return message.content

    @handles("chat.count")
    def on_count(self, message: TypedMessage) -> int:
        return self.count

    def on_nothing(self, message: TypedMessage) -> None:
        raise AssertionError("it isn't meant to be called")


def test_methods() -> None:
    answers = exchange(
        Room.as_view(),
        {"type": "chat.echo", "content": "x", "id": 1},
        {"type": "chat.count", "id": 2},
        # Registered functions are the endpoint's.
        {"type": "chat.add", "id": 3},
        {"type": "chat.on_nothing", "id": 4},
    )
    assert [answer["content"] for answer in answers[:2]] == ["x", 1]
    codes = [answer["content"]["code"] for answer in answers[2:]]
    assert codes == ["unknown_type", "unknown_type"]


def test_methods_are_inherited_and_overridden() -> None:
    class Louder(Room):
        __module__ = "tests.chat.views"

        def on_echo(self, message: TypedMessage) -> Any:
            return f"{super().on_echo(message)}!" if message.content else None

        @handles("total")
        def on_count(self, message: TypedMessage) -> int:
            return 100

    answers = exchange(
        Louder.as_view(),
        {"type": "chat.echo", "content": "x", "id": 1},
        {"type": "chat.total", "id": 2},
        {"type": "chat.count", "id": 3},
    )
    assert [answer["content"] for answer in answers[:2]] == ["x!", 100]
    assert answers[2]["content"]["code"] == "unknown_type"


def test_an_endpoint_with_methods() -> None:
    class Site(Endpoint):
        __module__ = "tests.chat.views"

        @handles("own")
        def on_own(self, message: TypedMessage) -> str:
            return "own"

    answers = exchange(
        Site.as_view(),
        {"type": "chat.own", "id": 1},
        {"type": "chat.echo", "content": "x", "id": 2},
    )
    assert [answer["content"] for answer in answers] == ["own", "x"]


# Registering


@pytest.fixture
def registered() -> Iterator[dict[str, Any]]:
    """What is registered; the test's own is undone."""
    before = dict(messages._registered)
    yield messages._registered
    messages._registered.clear()
    messages._registered.update(before)


def make_function(module: str = "tests.chat.messages") -> Any:
    def some_event(message: TypedMessage) -> None: ...

    some_event.__module__ = module
    return some_event


def test_names(registered: dict[str, Any]) -> None:
    before = set(registered)
    for decorator in register, register("short"), register("chat.long.name"):
        function = make_function()
        assert decorator(function) is function
    added = set(registered) - before
    assert added == {"chat.some_event", "chat.short", "chat.long.name"}
    with pytest.raises(ImproperlyConfigured, match="chat.echo is registered twice"):
        register("echo")(make_function())
    with pytest.raises(ImproperlyConfigured, match="doesn't begin with 'chat'"):
        register("auth.echo")(make_function())
    with pytest.raises(ImproperlyConfigured, match="elsewhere isn't in an installed"):
        register(make_function("elsewhere"))
    assert set(registered) - before == added


def test_a_type_that_is_handled_twice() -> None:
    with pytest.raises(ImproperlyConfigured, match="Twice handles chat.count twice"):

        class Twice(Room):
            __module__ = "tests.chat.views"

            @handles("count")
            def on_count_too(self, message: TypedMessage) -> None: ...

    class Both(Endpoint, Room):
        __module__ = "tests.chat.views"

    with pytest.raises(ImproperlyConfigured, match="Both and a function .* chat.echo"):
        Both.as_view()


def test_async_functions_are_refused(registered: dict[str, Any]) -> None:
    async def function(message: TypedMessage) -> None: ...

    for decorator in register, handles("event"):
        with pytest.raises(TypeError, match="function is async"):
            decorator(function)


# Signals


def test_signals() -> None:
    sent: list[Any] = []

    def on_received(sender: Any, message: TypedMessage, **kwargs: Any) -> None:
        assert sender is WebSocket and kwargs["websocket"] is message.websocket
        sent.append(("received", message.type, message.content))

    def on_handled(
        message: TypedMessage, duration: float, error: str | None, **kwargs: Any
    ) -> None:
        assert 0 <= duration < TIMEOUT
        sent.append(("handled", message.type, error))

    typed_message_received.connect(on_received)
    typed_message_handled.connect(on_handled)
    try:
        exchange(
            endpoint,
            {"type": "chat.fail", "content": 1},
            {"type": "chat.refuse"},
            {"type": "chat.add"},
            {"type": "chat.unknown"},
        )
    finally:
        typed_message_received.disconnect(on_received)
        typed_message_handled.disconnect(on_handled)
    assert sent == [
        ("received", "chat.fail", 1),
        ("handled", "chat.fail", "internal_error"),
        ("received", "chat.refuse", None),
        ("handled", "chat.refuse", "chat.full"),
        ("received", "chat.add", None),
        ("handled", "chat.add", "invalid"),
        ("received", "chat.echo", None),
        ("handled", "chat.echo", None),
    ]


def test_a_timeout_is_an_error_like_others(registered: dict[str, Any]) -> None:
    def slow(message: TypedMessage) -> None:
        with gevent.Timeout(0.001):
            gevent.sleep(TIMEOUT)

    slow.__module__ = "tests.chat.messages"
    register(slow)
    (answer,) = exchange(endpoint, {"type": "chat.slow", "id": 1})
    assert answer["content"]["code"] == "internal_error"


# Under a real server


def test_over_a_server(farm: Farm) -> None:
    server = farm("gunicorn")
    options = {"additional_headers": log_in("ann")}
    with connect(server, "/handlers/messages/", **options) as websocket:
        websocket.send('{"type": "chat.describe", "id": "x"}')
        answer = json.loads(websocket.recv(TIMEOUT))
        assert (answer["id"], answer["content"]["user"]) == ("x", "ann")
        websocket.send("{")
        assert json.loads(websocket.recv(TIMEOUT))["content"]["code"] == "bad_json"
    assert websocket.close_code == 1000


def test_the_user(database: None) -> None:
    from django.contrib.auth.models import User
    from django.db import connection

    user = User.objects.create_user("passing")
    view = MessageView()
    view._user_pk = user.pk
    assert view.get_user() == user
    user.delete()
    assert isinstance(view.get_user(), AnonymousUser)
    connection.close()


def test_the_module_is_there_as_documented() -> None:
    assert dwebsocket.messages.endpoint is endpoint
    assert MessageError("code", "message").fields is None
