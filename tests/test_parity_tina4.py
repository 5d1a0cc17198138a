"""``docs/coming-from-tina4.rst``, point by point."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core import signing
from websockets.exceptions import ConnectionClosed

from .clients import (
    MIB,
    connect,
    frame,
    handshake,
    log_in,
    read_until,
    wait_until_closed,
)
from .parity import Page, Points, Site, open_site
from .servers import TIMEOUT, wait_for

PAGE = Page("coming-from-tina4.rst")
point = Points()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, database: None) -> Iterator[Site]:
    with open_site(PAGE, tmp_path_factory.mktemp("tina4")) as site:
        yield site


@pytest.fixture(scope="module")
def token(database: None) -> str:
    user = User.objects.get(username="ann")
    return signing.dumps(user.pk, salt="mysite.token")


def receive(websocket: Any) -> Any:
    return websocket.recv(TIMEOUT)


@point("Routes")
def test_route(site: Site) -> None:
    with connect(site.server, "/ws/echo/ann/") as websocket:
        assert receive(websocket) == "Hello ann"
        for message in "text", b"\0":
            websocket.send(message)
            assert receive(websocket) == message
    wait_for(lambda: "ann has gone" in site.server.log, "disconnect()")
    sock, received = handshake(site.server, "/ws/echo/x/", extra=frame(1, b"\xff"))
    with sock:
        read_until(sock, received, b"\x03\xef")


@point("Secured routes")
def test_secured(site: Site, token: str) -> None:
    encoded = base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")
    for options in (
        {"additional_headers": {"Authorization": f"Bearer {token}"}},
        {"subprotocols": ["bearer", f"bearer.{encoded}"]},
    ):
        with connect(site.server, "/ws/prices/", **options) as websocket:
            assert receive(websocket) == "Hello ann"
            assert websocket.subprotocol in (None, "bearer")
    for path, headers in (
        ("/ws/prices/", {}),
        ("/ws/prices/", {"Authorization": f"Bearer {token}x"}),
        ("/ws/prices/", {"Sec_WebSocket_Protocol": f"bearer, {token}"}),
        (f"/ws/prices/?token={token}", {}),
    ):
        sock, received = handshake(site.server, path, **headers)
        with sock:
            assert received.startswith(b"HTTP/1.1 401 ")
            assert b"WWW-Authenticate: Bearer" in received


@point("Secured routes")
def test_a_user_who_is_deactivated(site: Site) -> None:
    user = User.objects.create_user("adam")
    token = signing.dumps(user.pk, salt="mysite.token")
    headers = {"Authorization": f"Bearer {token}"}
    with connect(site.server, "/ws/prices/", additional_headers=headers) as websocket:
        assert receive(websocket) == "Hello adam"
        with site.groups():
            user.is_active = False
            user.save()
        assert wait_until_closed(websocket) == 3000


@point("Topics")
def test_topics(site: Site, token: str) -> None:
    options = {"additional_headers": {"Authorization": f"Bearer {token}"}}
    with (
        connect(site.server, "/ws/topics/", **options) as first,
        connect(site.server, "/ws/topics/", **options) as second,
    ):

        def act(websocket: Any, action: str, topic: str, **more: Any) -> None:
            websocket.send(json.dumps({"action": action, "topic": topic, **more}))

        for topic in "Simone", "done":
            act(first, "subscribe", topic)
        act(second, "subscribe", "Simone")
        wait_for_members(site, "Simone", 2)
        act(second, "publish", "Simone", data={"message": "Hello!"})
        assert receive(first) == receive(second) == '{"message":"Hello!"}'
        act(first, "unsubscribe", "Simone")
        act(first, "publish", "done", data="unsubscribed")
        assert receive(first) == '"unsubscribed"'
        act(second, "publish", "Simone", data={})
        act(second, "publish", "done", data="the end")
        assert receive(second) == "{}"
        assert receive(first) == '"the end"'
    wait_for_members(site, "done", 0)


def wait_for_members(site: Site, group: str, count: int) -> None:
    key = f"dwebsocket:members:{group}"
    wait_for(lambda: site.redis.ask("HLEN", key) == count, "the members")


@point("Rooms and broadcasts")
@point("From a page of the site")
def test_rooms(site: Site) -> None:
    with connect(site.server, "/ws/rooms/orders/") as first:
        assert receive(first) == "1 here"
        with connect(site.server, "/ws/rooms/orders/") as second:
            assert receive(second) == "2 here"
            first.send("to the others")
            assert site.server.get("/orders/7/ship/")[2] == "done"
            assert receive(first) == "7 shipped"
            assert {receive(second), receive(second)} == {"to the others", "7 shipped"}
            with connect(site.server, "/ws/rooms/other/") as other:
                assert receive(other) == "1 here"


@point("The manager")
def test_manager(site: Site) -> None:
    root = log_in("root")
    assert site.server.get("/rooms/x/clear/")[0] == 403
    with (
        connect(site.server, "/ws/rooms/x/") as first,
        connect(site.server, "/ws/rooms/x/") as second,
        connect(site.server, "/ws/rooms/y/") as other,
    ):
        for websocket in first, second, other:
            receive(websocket)
        status, _, text = site.server.get("/rooms/x/clear/", root)
        assert status == 200
        lines = [line.split() for line in text.splitlines()]
        assert [line[1] for line in lines] == ["127.0.0.1"] * 2
        assert wait_until_closed(first) == wait_until_closed(second) == 4000
        assert other.ping().wait(TIMEOUT)


@point("Several processes, and limits")
def test_limits(site: Site) -> None:
    with connect(site.server, "/ws/echo/big/") as websocket:
        receive(websocket)
        websocket.send(["x" * (MIB // 2)] * 2)
        assert len(receive(websocket)) == MIB
        with contextlib.suppress(ConnectionClosed):  # before the last of it is sent
            websocket.send(["x" * (MIB // 2), "x" * (MIB // 2), "x"])
        assert wait_until_closed(websocket) == 1009


def test_every_point_is_tested() -> None:
    assert set(point.tested) == set(PAGE.points)
