"""Bearer tokens: who gets in with one, and that nothing shows it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import django
import pytest
import websockets.exceptions
from django.contrib.auth.models import AnonymousUser, User
from django.core.signals import request_started
from django.core.signing import BadSignature
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from dwebsocket.authentication import bearer_token_required, hide_token

from .clients import connect, wait_until_closed
from .login_views import make_token
from .servers import TIMEOUT, Farm, Server


@pytest.fixture(scope="module")
def server(farm: Farm) -> Server:
    """A server that logs and shows as much as it can."""
    return farm.start(
        "gunicorn",
        options=("--log-level", "debug"),
        DEBUG="1",
        LOG_LEVEL="DEBUG",
        TEST_MIDDLEWARE="tests.middleware.fail_on_demand",
    )


@pytest.fixture(scope="module")
def user(database: None) -> Iterator[User]:
    user = User.objects.create_user("bearer")
    connection.close()
    yield user
    user.delete()
    connection.close()


def encode(token: str) -> str:
    return base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")


def from_script(token: str, *others: str) -> dict[str, Any]:
    """Return the options of a browser's connection."""
    return {"subprotocols": [*others, "bearer", f"bearer.{encode(token)}"]}


def from_program(token: str, scheme: str = "Bearer") -> dict[str, Any]:
    return {"additional_headers": {"Authorization": f"{scheme} {token}"}}


def find_refusal(server: Server, path: str = "", **options: Any) -> tuple[int, str]:
    """Return status and challenge."""
    path = path or "/logins/bearer/"
    with pytest.raises(websockets.exceptions.InvalidStatus) as caught:
        connect(server, path, **options).__enter__()
    response = caught.value.response
    return response.status_code, response.headers.get("WWW-Authenticate", "")


@pytest.mark.parametrize(
    "options, subprotocol",
    [
        (from_program, None),
        (lambda token: from_program(token, "bearer"), None),
        (lambda token: from_program(token, "BEARER "), None),
        (from_script, "bearer"),
        (lambda token: from_script(token, "chat.v1"), "chat.v1"),
        (lambda token: from_script(token, "unknown"), "bearer"),
        (lambda token: {"subprotocols": [f"bearer.{encode(token)}"]}, None),
        # The header is the stronger one.
        (lambda token: from_script("nonsense") | from_program(token), "bearer"),
    ],
)
def test_a_token_lets_in(
    server: Server, user: User, options: Any, subprotocol: str | None
) -> None:
    token = make_token(user.pk)
    with connect(server, "/logins/bearer/", **options(token)) as websocket:
        hello = json.loads(websocket.recv(TIMEOUT))
        assert hello["user"] == "bearer"
        assert hello["subprotocol"] == websocket.subprotocol == subprotocol
        shown = hello["meta"] + hello["headers"]
        assert token not in shown and encode(token) not in shown
        websocket.send("x")
        assert websocket.recv(TIMEOUT) == "x"


def test_http_too(server: Server, user: User) -> None:
    header = {"Authorization": f"Bearer {make_token(user.pk)}"}
    status, _, text = server.get("/logins/bearer/", header)
    assert status == 200
    data = json.loads(text)
    assert data["user"] == "bearer"
    assert "Bearer" not in data["meta"] + data["headers"]
    status, headers, _ = server.get("/logins/bearer/")
    assert (status, headers["WWW-Authenticate"]) == (401, 'Bearer realm="websocket"')


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"subprotocols": ["chat.v1"]},
        {"subprotocols": ["bearer"]},
        {"additional_headers": {"Authorization": "Basic YTpi"}},
    ],
)
def test_without_a_token(server: Server, options: dict[str, Any]) -> None:
    assert find_refusal(server, **options) == (401, 'Bearer realm="websocket"')


@pytest.mark.parametrize(
    "options",
    [
        from_program("x"),
        from_program(""),
        {"additional_headers": {"Authorization": "Bearer"}},
        from_program("a b"),
        from_script("x"),
        {"subprotocols": ["bearer", "bearer."]},
        {"subprotocols": ["bearer", "bearer.!"]},
        {"subprotocols": ["bearer", "bearer.A"]},
        {"subprotocols": ["bearer", "bearer._w"]},
        from_program(make_token(-1)),
        from_script(make_token(-1)),
    ],
)
def test_an_invalid_token(server: Server, options: dict[str, Any]) -> None:
    challenge = 'Bearer realm="websocket", error="invalid_token"'
    refused = count_refused(server)
    assert find_refusal(server, **options) == (401, challenge)
    assert count_refused(server) == refused + 1


def count_refused(server: Server) -> int:
    counts = json.loads(server.get("/status/")[2])["stats"]["refused"]
    return int(counts.get("401", 0))


def test_expired_or_forged_or_not_active(server: Server, user: User) -> None:
    token = make_token(user.pk)
    for bad in (make_token(user.pk, -1), token[:-1], token + "x"):
        assert find_refusal(server, **from_script(bad))[0] == 401
    User.objects.filter(pk=user.pk).update(is_active=False)
    try:
        assert find_refusal(server, **from_program(token))[0] == 401
    finally:
        User.objects.filter(pk=user.pk).update(is_active=True)
        connection.close()


def test_nothing_shows_a_token(server: Server, user: User) -> None:
    """Not the logs at their most talkative, not the error pages of DEBUG."""
    tokens = []
    shown = []

    def new_token(key: Any = user.pk) -> str:
        tokens.append(make_token(key, 1000 + len(tokens)))
        return tokens[-1]

    def fetch(path: str, **options: Any) -> int:
        with pytest.raises(websockets.exceptions.InvalidStatus) as caught:
            connect(server, path, **options).__enter__()
        response = caught.value.response
        shown.append(response.body.decode() + str(response.headers))
        return int(response.status_code)

    bearer = "/logins/bearer/"
    for make in (from_script, from_program):
        with connect(server, bearer, **make(new_token())) as websocket:
            shown.append(websocket.recv(TIMEOUT))
            websocket.send("fail")
            assert wait_until_closed(websocket) == 1011
        # An error of the function that finds the user: its variables hold it.
        assert fetch(bearer, **make(new_token("fail"))) == 500
        assert "find_token_user" in shown[-1] and "RuntimeError" in shown[-1]
        assert fetch(bearer, **make(new_token() + "x")) == 401
        assert fetch("/logins/bearer-permitted/", **make(new_token())) == 403
    # Before, and instead of, the view.
    script = from_script(new_token())
    assert fetch(bearer + "?fail-in-middleware", **script) == 500
    assert "fail_on_demand" in shown[-1] and "HTTP_UPGRADE" in shown[-1]
    assert fetch("/no-such-page/", **from_script(new_token())) == 404
    assert fetch("/refuse/error/", **from_script(new_token())) == 500
    with connect(server, "/echo/", **from_script(new_token())) as websocket:
        # Those that offer something want an answer, also where nobody asks for one.
        assert websocket.subprotocol == "bearer"
    # All the server's output, the access log too.
    shown.append(server.log)
    assert "RuntimeError: as asked for" in server.log
    assert "/logins/bearer/ closed by" in server.log and "DEBUG" in server.log
    for text in shown:
        for token in tokens:
            signature = token.rpartition(":")[2]
            for secret in (token, encode(token), encode(token)[:40], signature):
                assert secret not in text


def test_users_need_permissions_too(server: Server, user: User) -> None:
    token = make_token(User.objects.get(username="root").pk)
    connection.close()
    path = "/logins/bearer-permitted/"
    with connect(server, path, **from_script(token)) as websocket:
        assert json.loads(websocket.recv(TIMEOUT))["user"] == "root"
    assert find_refusal(server, path, **from_script(make_token(user.pk)))[0] == 403


# In this process


class Active:
    is_active = True


def call(get_user: Any, **headers: str) -> HttpResponse:
    def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse(str(request.META | dict(request.headers)))

    request = RequestFactory().get("/", headers=headers)
    # It has been asked for by then.
    assert len(request.headers) > len(headers)
    return bearer_token_required(get_user, realm="a site")(view)(request)  # type: ignore[no-any-return]


def test_what_get_user_may_return() -> None:
    def fail(token: str) -> None:
        raise BadSignature(token)

    def cannot(token: str) -> None:
        raise LookupError(token)

    for get_user, status in (
        (lambda token: Active() if token == "x" else None, 200),
        (lambda token: None, 401),
        (lambda token: AnonymousUser(), 401),
        (fail, 401),
    ):
        response = call(get_user, Authorization="Bearer x")
        assert response.status_code == status
        assert b"Bearer x" not in response.content
        challenge = response.headers.get("WWW-Authenticate", "")
        assert challenge.startswith('Bearer realm="a site"') == (status == 401)
    with pytest.raises(LookupError):
        call(cannot, Authorization="Bearer x")


def test_other_headers_are_left_alone() -> None:
    environ = {"HTTP_SEC_WEBSOCKET_PROTOCOL": "bearer ,chat", "HTTP_AUTHORIZATION": "x"}
    before = dict(environ)
    hide_token(environ)
    assert environ == before
    hide_token()  # a request of ASGI


def test_the_token_is_hidden_before_any_middleware() -> None:
    environ = {"HTTP_SEC_WEBSOCKET_PROTOCOL": "a, bearer.eA, b,bearer"}
    request_started.send(None, environ=environ)
    assert environ.pop("HTTP_SEC_WEBSOCKET_PROTOCOL") == "a, b, bearer"
    assert "eA" not in str(environ) and "'x'" not in str(environ)
    environ = {"HTTP_SEC_WEBSOCKET_PROTOCOL": "bearer.eA"}
    hide_token(environ)
    assert "HTTP_SEC_WEBSOCKET_PROTOCOL" not in environ


@pytest.mark.skipif(django.VERSION < (5, 1), reason="Django has it since 5.1")
def test_views_with_tokens_need_no_session(farm: Farm, user: User) -> None:
    middleware = "django.contrib.auth.middleware.LoginRequiredMiddleware"
    server = farm.start("gunicorn", ready_path="/login/", TEST_MIDDLEWARE=middleware)
    assert server.get("/page/")[0] == 302
    options = from_script(make_token(user.pk))
    with connect(server, "/logins/bearer/", **options) as websocket:
        assert json.loads(websocket.recv(TIMEOUT))["user"] == "bearer"
