"""``docs/coming-from-channels.rst``, point by point."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User

from dwebsocket import groups

from .clients import connect, handshake, log_in, read_until, wait_until_closed
from .parity import Page, Points, Site, open_site
from .servers import TIMEOUT, wait_for

PAGE = Page("coming-from-channels.rst")
point = Points()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, database: None) -> Iterator[Site]:
    with open_site(PAGE, tmp_path_factory.mktemp("channels")) as site:
        yield site


def receive(websocket: Any) -> Any:
    return websocket.recv(TIMEOUT)


def wait_for_members(site: Site, group: str, count: int) -> None:
    key = f"dwebsocket:members:{group}"
    wait_for(lambda: site.redis.ask("HLEN", key) == count, "the members")


@point("Settings")
def test_groups_reach_both_workers(site: Site) -> None:
    with connect(site.server, "/ws/rooms/lobby/"):
        wait_for_members(site, "lobby", 1)
        with site.groups():
            assert groups.count("lobby") == 1


@point("Connect, receive, disconnect")
def test_consumer(site: Site) -> None:
    for path in "/ws/echo/", "/ws/echo-function/":
        with connect(site.server, path) as websocket:
            for message in "text", b"\0\xff":
                websocket.send(message)
                assert receive(websocket) == message
    wait_for(
        lambda: "closed with 1000 after 2 messages" in site.server.log, "disconnect()"
    )


@point("Refusing")
def test_refusal(site: Site) -> None:
    sock, received = handshake(site.server, "/ws/vault/")
    with sock:
        assert received.startswith(b"HTTP/1.1 402 ")
    with connect(site.server, "/ws/vault/?key=1"):
        pass


@point("Routing")
def test_no_such_path(site: Site) -> None:
    sock, received = handshake(site.server, "/ws/there-is-no-such-path/")
    with sock:
        assert received.startswith(b"HTTP/1.1 404 ")


@point("Scope")
def test_request(site: Site) -> None:
    headers = log_in("ann")
    path = "/ws/who/green/"
    with connect(
        site.server,
        f"{path}?name=x%20y",
        additional_headers=headers,
        user_agent_header="test/1",
    ) as websocket:
        assert json.loads(receive(websocket)) == {
            "path": path,
            "name": "x y",
            "agent": "test/1",
            "cookie": headers["Cookie"].removeprefix("sessionid="),
            "user": "ann",
            "address": "127.0.0.1",
            "room": "green",
        }


@point("Middleware")
def test_middleware_and_origins(site: Site) -> None:
    host = f"blue.localhost:{site.server.port}"
    sock, received = handshake(site.server, "/ws/tenant/", Host=host)
    with sock:
        read_until(sock, received.partition(b"\r\n\r\n")[2], b"blue")
    sock, received = handshake(
        site.server, "/ws/tenant/", Host=host, Origin="https://evil.example"
    )
    with sock:
        assert received.startswith(b"HTTP/1.1 403 ")


@point("Authentication")
def test_members_only(site: Site) -> None:
    sock, received = handshake(site.server, "/ws/members/")
    with sock:
        assert received.startswith(b"HTTP/1.1 403 ")
    user = User.objects.create_user("eve")
    headers = log_in("eve")
    with connect(site.server, "/ws/members/", additional_headers=headers) as websocket:
        assert receive(websocket) == "Hello eve"
        with site.groups():
            user.set_password("another")
            user.save()
        assert wait_until_closed(websocket) == 3000


@point("Groups")
@point("From outside of a consumer")
def test_groups(site: Site) -> None:
    with (
        connect(site.server, "/ws/rooms/lobby/") as first,
        connect(site.server, "/ws/rooms/lobby/") as second,
        connect(site.server, "/ws/rooms/other/") as other,
    ):
        wait_for_members(site, "lobby", 2)
        wait_for_members(site, "other", 1)
        first.send("hello")
        assert receive(first) == receive(second) == "hello"
        assert site.server.get("/announce/?text=to+all")[2] == "sent"
        assert receive(first) == receive(second) == "to all"
        other.send("nothing else")
        assert receive(other) == "nothing else"
    wait_for_members(site, "lobby", 0)


@point("A single connection")
def test_a_single_connection(site: Site) -> None:
    with (
        connect(site.server, "/ws/inbox/") as first,
        connect(site.server, "/ws/inbox/") as second,
    ):
        ids = [receive(first), receive(second)]
        for websocket, websocket_id in zip((second, first), reversed(ids), strict=True):
            assert site.server.get(f"/deliver/?to={websocket_id}")[2] == "sent"
            assert receive(websocket) == "for you"


@point("JSON, and errors in it")
def test_json(site: Site) -> None:
    with connect(site.server, "/ws/") as websocket:

        def ask(message: Any) -> Any:
            text = message if isinstance(message, str) else json.dumps(message)
            websocket.send(text)
            return json.loads(receive(websocket))

        for message, code in (
            ("{", "bad_json"),
            ({"type": "chat.nothing"}, "unknown_type"),
            ({"type": "chat.order", "content": {"count": 0}}, "invalid"),
        ):
            answer = ask(message)
            assert (answer["type"], answer["content"]["code"]) == ("error", code)
        # As it is shown on the page.
        message = {"type": "chat.order", "content": {"count": 2}, "id": 1}
        assert ask(message) == {"type": "reply", "id": 1, "content": {"total": 6}}


@point("The database")
def test_database(site: Site) -> None:
    with connect(site.server, "/ws/count/") as websocket:
        for name, count in (("ann", "1"), ("nobody", "0")):
            websocket.send(name)
            assert receive(websocket) == count


@point("Timers")
def test_clock(site: Site) -> None:
    with connect(site.server, "/ws/clock/") as websocket:
        assert [receive(websocket) for _ in range(3)] == ["0", "1", "2"]


@point("Rate limits")
def test_rate_limit(site: Site) -> None:
    with connect(site.server, "/ws/limited/") as websocket:
        for number in range(2):
            websocket.send(str(number))
            assert receive(websocket) == str(number)
        websocket.send("one too many")
        assert json.loads(receive(websocket))["content"]["code"] == "rate_limited"


@point("Testing")
def test_tests_of_the_site(site: Site) -> None:
    settings = "from mysite.settings import *\nWEBSOCKET_GROUPS = {'default': "
    settings += "{'BACKEND': 'dwebsocket.groups.memory.MemoryBackend'}}\n"
    site.write("mysite/test_settings.py", settings)
    arguments = ["test", "chat", "--settings", "mysite.test_settings"]
    assert "Ran 2 tests" in site.run("-m", "django", *arguments)


@point("Background tasks")
def test_task(site: Site) -> None:
    with connect(site.server, "/ws/rooms/lobby/") as websocket:
        wait_for_members(site, "lobby", 1)
        site.run_code("from chat.tasks import generate; generate(5)")
        assert receive(websocket) == "made 5"


@point("Async code")
def test_async_code() -> None:
    from dwebsocket import require_websocket
    from dwebsocket.views import WebSocketView

    async def receive(*args: Any) -> None: ...

    with pytest.raises(TypeError, match="async"):
        require_websocket(receive)
    with pytest.raises(TypeError, match="async"):
        type("View", (WebSocketView,), {"receive": receive}).as_view()  # type: ignore[attr-defined]


@point("Deployment")
def test_server(site: Site) -> None:
    # That of the page: the default of the others is the same.
    assert "Server" in [block.caption for block in PAGE.blocks]
    assert len(site.server.children) == 2
    assert "Traceback" not in site.server.log


def test_every_point_is_tested() -> None:
    assert sorted(point.tested) == sorted(PAGE.points)
