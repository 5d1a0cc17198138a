"""``docs/coming-from-fastpluggy.rst``, point by point."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User

from dwebsocket import groups

from .clients import (
    connect,
    frame,
    handshake,
    log_in,
    read_to_end,
    read_until,
    wait_until_closed,
)
from .parity import Page, Points, Site, open_site
from .servers import TIMEOUT, wait_for

PAGE = Page("coming-from-fastpluggy.rst")
point = Points()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, database: None) -> Iterator[Site]:
    with open_site(PAGE, tmp_path_factory.mktemp("fastpluggy")) as site:
        yield site


@pytest.fixture(scope="module")
def root(database: None) -> dict[str, str]:
    return log_in("root")


def receive(websocket: Any) -> Any:
    return json.loads(websocket.recv(TIMEOUT))


@contextlib.contextmanager
def welcomed(site: Site, **options: Any) -> Iterator[tuple[Any, str]]:
    """Connect, and read the id of the connection, which a hook tells."""
    with connect(site.server, "/ws/", **options) as websocket:
        welcome = receive(websocket)
        assert welcome["type"] == "live.welcome"
        yield websocket, welcome["content"]["id"]


@point("Handlers of message types")
def test_handler(site: Site) -> None:
    with welcomed(site) as (websocket, _):
        message = {"type": "live.say", "content": {"text": "hello"}, "meta": {}}
        websocket.send(json.dumps(message))
        wanted = {"type": "live.said", "content": {"text": "HELLO"}}
        assert receive(websocket) == wanted
        for text, code in (
            ("{", "bad_json"),
            ('{"type": "live.x"}', "unknown_type"),
            ('{"type": "live.say"}', "invalid"),
        ):
            websocket.send(text)
            assert receive(websocket)["content"]["code"] == code


@point("Hooks")
def test_hooks(site: Site) -> None:
    with welcomed(site) as (websocket, websocket_id):
        for text in "fine", "x" * 501:
            message = {"type": "live.say", "content": {"text": text}}
            websocket.send(json.dumps(message))
            receive(websocket)
    for line in (
        f"{websocket_id} sends live.say",
        "live.say took ",
        "s: well",
        "s: invalid",
        f"{websocket_id} closed with 1000 after ",
    ):
        wait_for(lambda: line in site.server.log, line)  # noqa: B023


@point("One client, or all")
def test_one_or_all(site: Site, root: dict[str, str]) -> None:
    key = User.objects.get(username="ann").pk
    ann = {"additional_headers": log_in("ann")}
    with (
        welcomed(site) as (first, first_id),
        welcomed(site, **ann) as (second, _),
        welcomed(site, **ann) as (third, _),
    ):
        wait_for(lambda: count_clients(site, root) >= 3, "the connections")
        for path in (f"?id={first_id}", f"?user={key}", ""):
            assert site.server.get(f"/mail/{path}", root)[2] == "sent"
        mail = {"type": "live.mail", "content": "You have mail"}
        for websocket in first, second, third:
            assert [receive(websocket), receive(websocket)] == [mail, mail]
    assert site.server.get("/mail/")[0] == 403


def count_clients(site: Site, root: dict[str, str]) -> int:
    total: int = json.loads(site.server.get("/clients/", root)[2])["total"]
    return total


@point("The maximum queue size")
def test_a_client_that_doesnt_read(site: Site, root: dict[str, str]) -> None:
    def count_dropped() -> int:
        return sum(counters["dropped"] for counters in get_counters(site, root))

    sock, _ = handshake(site.server, "/ws/")
    with sock, welcomed(site) as (reader, _), site.groups():
        before = count_dropped()
        # More than the system takes in.
        for number in range(200):
            groups.broadcast(json.dumps({"number": number, "text": "x" * 100_000}))
            assert receive(reader)["number"] == number
        groups.broadcast('{"number": "last"}')
        assert receive(reader)["number"] == "last"
        assert count_dropped() > before
        read_until(sock, b"", b'{"number": "last"}')


def get_counters(site: Site, root: dict[str, str]) -> list[dict[str, Any]]:
    """Return the counters of both workers, which have opened different numbers."""
    found: dict[Any, dict[str, Any]] = {}

    def ask() -> bool:
        counters = json.loads(site.server.get("/counters/", root)[2])
        found[counters["opened"]] = counters
        return len(found) == 2

    wait_for(ask, "both workers")
    return list(found.values())


@point("Heartbeats")
def test_heartbeats(site: Site) -> None:
    sock, received = handshake(site.server, "/ws/alive/", extra=frame(9, b"hello"))
    with sock:
        # It is answered; asked in turn, this one doesn't answer.
        received = read_until(sock, received, b"\x8a\x05hello")
        received = read_until(sock, received, b"\x89\x00")
        read_to_end(sock)
    wait_for(lambda: "closed with 1006 after" in site.server.log, "the end")


@point("Listing and disconnecting clients")
def test_clients(site: Site, root: dict[str, str]) -> None:
    with welcomed(site) as (first, first_id), welcomed(site) as (second, second_id):
        answer = json.loads(site.server.get("/clients/", root)[2])
        clients = {client["id"]: client for client in answer["clients"]}
        assert {first_id, second_id} <= clients.keys()
        assert clients[first_id]["path"] == "/ws/"
        assert site.server.get(f"/clients/{first_id}/disconnect/", root)[2] == "done"
        assert wait_until_closed(first) == 4000
        assert second.ping().wait(TIMEOUT)
    assert site.server.get("/clients/")[0] == 403


@point("Statistics")
def test_statistics(site: Site, root: dict[str, str]) -> None:
    with welcomed(site):
        found = get_counters(site, root)
        assert sum(counters["open"] for counters in found) >= 1
        assert sum(counters["messages_out"] for counters in found) >= 1


def test_every_point_is_tested() -> None:
    assert set(point.tested) == set(PAGE.points)
