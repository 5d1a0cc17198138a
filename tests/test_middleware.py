"""``WebSocketMiddleware``, in real servers that have it in MIDDLEWARE."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .clients import connect, handshake, log_in
from .servers import Farm, Server, wait_for
from .test_views import UPGRADE

MIDDLEWARE = ",".join(
    (
        "tests.middleware.RefusingViewHook",
        "dwebsocket.middleware.WebSocketMiddleware",
    )
)


@pytest.fixture(scope="module")
def guarding(farm: Farm) -> Server:
    return farm.start("gunicorn", TEST_MIDDLEWARE=MIDDLEWARE)


@pytest.fixture(scope="module")
def accepting(farm: Farm) -> Server:
    return farm.start("gunicorn", TEST_MIDDLEWARE=MIDDLEWARE, ACCEPT_ALL="1")


@pytest.fixture(params=["guarding", "accepting"])
def server(request: pytest.FixtureRequest) -> Server:
    return request.getfixturevalue(request.param)


def test_every_request_has_the_attributes(server: Server) -> None:
    assert json.loads(server.get("/attributes/")[2]) == [False, "None"]
    assert server.get("/page/")[::2] == (200, "a page")


def test_an_undecorated_view_is_refused(guarding: Server) -> None:
    for path in ("/page/", "/attributes/", "/admin/login/"):
        code, headers, text = guarding.get(path, UPGRADE)
        assert (code, headers["X-Marked"]) == (400, "400")
        assert text == "This URL doesn't accept WebSocket connections.\n"
    assert guarding.get("/no-such-page/", UPGRADE)[0] == 404


def test_accept_all_has_undecorated_views_answer(accepting: Server) -> None:
    code, headers, text = accepting.get("/page/", UPGRADE)
    assert (code, headers["X-Marked"], text) == (200, "200", "a page")
    attributes = json.loads(accepting.get("/attributes/", UPGRADE)[2])
    assert attributes == [True, "<WebSocket not accepted>"]
    assert accepting.get("/no-such-page/", UPGRADE)[0] == 404
    assert json.loads(accepting.get("/status/")[2])["connections"] == 0


@pytest.mark.parametrize(
    "path, options, messages",
    [
        ("/attribute/", {}, ["by attribute"]),
        ("/required-attribute/", {}, ["by attribute, only"]),
        ("/helper/", {}, ["from a helper"]),
        ("/greeting/Ann/", {"subprotocols": ["greet"]}, ["Hello Ann", "greet"]),
        ("/nothing/", {}, []),
    ],
)
def test_views_that_accept(
    server: Server, path: str, options: dict[str, Any], messages: list[str]
) -> None:
    with connect(server, path, **options) as websocket:
        assert list(websocket) == messages
    assert websocket.response.headers["X-Marked"] == "101"
    assert websocket.close_code == 1000


def test_decorated_views_run_once(server: Server) -> None:
    for path in ("/echo/", "/both/", "/twice/"):
        with connect(server, path) as websocket:
            websocket.send("hey")
            assert websocket.recv() == "hey"
    with connect(server, "/set-cookies/") as websocket:
        assert list(websocket) == ["1"]
    wait_for(
        lambda: json.loads(server.get("/status/")[2])["connections"] == 0, "the ends"
    )


def test_plain_http_to_views_that_require_a_websocket(server: Server) -> None:
    for path in ("/required-attribute/", "/echo/"):
        code, headers, text = server.get(path)
        assert (code, headers["Upgrade"]) == (400, "websocket")
        assert text == "This URL needs a WebSocket connection.\n"
    assert server.get("/both/")[2] == "plain, atomic: True"


@pytest.mark.parametrize("path", ["/echo/", "/attribute/", "/page/"])
def test_another_process_view_comes_first(server: Server, path: str) -> None:
    code, _, text = server.get(f"{path}?refuse-by-hook", UPGRADE)
    assert (code, text) == (402, "refused by hook")


def test_refusals_and_users(server: Server) -> None:
    assert server.get("/refuse/403/", UPGRADE)[0] == 403
    assert server.get("/refuse/lookup/", UPGRADE)[0] == 409
    code, headers, _ = server.get("/members/", UPGRADE)
    assert (code, headers["Location"]) == (302, "/login/?next=/members/")
    with connect(server, "/members/", additional_headers=log_in("ann")) as websocket:
        assert list(websocket) == ["Hello ann"]


@pytest.mark.parametrize("path", ["/echo/", "/attribute/", "/page/"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Sec_WebSocket_Key": "short"},
        {"Connection": "keep-alive"},
        {"Sec_WebSocket_Extensions": ";"},
    ],
)
def test_a_malformed_handshake_is_refused(
    server: Server, path: str, headers: dict[str, str]
) -> None:
    sock, received = handshake(server, path, **headers)
    sock.close()
    assert received.startswith(b"HTTP/1.1 400 "), received
    assert "Traceback" not in server.log
