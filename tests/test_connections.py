"""Listing connections: what the contract's tests don't reach, and the command."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.http import HttpRequest
from django.test import override_settings

from dwebsocket import groups, require_websocket
from dwebsocket.management.commands import websockets
from dwebsocket.registry import registry
from dwebsocket.testing import connect
from dwebsocket.views import WebSocketView

from . import clients
from .clients import log_in
from .redis_servers import open_redis
from .servers import TIMEOUT, wait_for
from .sites import Members, Site


@require_websocket
def idle(request: HttpRequest) -> None:
    for _ in request.websocket:
        pass


class Idle(WebSocketView):
    pass


class IdleWithRequest(WebSocketView):
    keep_request = True


VIEWS = {
    "function": idle,
    "handler": Idle.as_view(),
    "keep_request": IdleWithRequest.as_view(),
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_the_client_behind_a_proxy(view: Any) -> None:
    proxied = {"X-Forwarded-For": "10.9.9.9, 203.0.113.7"}
    direct = {"REMOTE_ADDR": "2001:db8::1"}
    with (
        connect(view, "/idle/far", headers=proxied),
        connect(view, "/idle/near", **direct),
    ):
        found = groups.connections(path="/idle/")
        assert [(c.path, c.address) for c in found] == [
            ("/idle/far", "203.0.113.7"),
            ("/idle/near", "2001:db8::1"),
        ]
        for address in ("203.0.113.7", "203.0.113.0/24", ip_network("203.0.113.0/24")):
            found = groups.connections(path="/idle/", address=address)
            assert [c.path for c in found] == ["/idle/far"]
        assert not groups.connections(path="/idle/", address="203.0.114.0/24")
        assert len(groups.connections(path="/idle/", address="2001:db8::/32")) == 1
    assert not groups.connections(path="/idle/")


def test_the_subprotocol_and_the_latency() -> None:
    view = require_websocket(subprotocols=["chat"])(lambda r: r.websocket.wait())
    with connect(view, "/idle/", subprotocols=["chat"]):
        (found,) = groups.connections(path="/idle/")
        assert (found.subprotocol, found.latency) == ("chat", None)


def test_pages_of_what_was_opened_at_the_same_time() -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(connect(idle, "/idle/"))
        for transport in registry:
            transport.owner._started_at = 1000.0
        ids: list[str] = []
        last = None
        while page := groups.connections(path="/idle/", after=last, limit=1):
            assert page.total == 3
            last = page[-1]
            ids.append(last.id)
        assert ids == sorted(set(ids)) and len(ids) == 3


def test_from_another_thread() -> None:
    with connect(idle, "/idle/"), ThreadPoolExecutor(1) as executor:
        found = executor.submit(groups.connections, path="/idle/").result(TIMEOUT)
        assert [c.path for c in found] == ["/idle/"]
    # The thread's hub isn't that of the connections.
    with connect(idle, "/idle/") as websocket:
        groups.send_to(groups.connections(path="/idle/")[0].id, "found")
        assert websocket.wait() == "found"


def test_broadcast_leaves_one_out() -> None:
    with connect(idle) as first, connect(idle) as second:
        with ThreadPoolExecutor(1) as executor:
            executor.submit(groups.broadcast, "from a thread").result(TIMEOUT)
        assert first.wait() == second.wait() == "from a thread"
        groups.broadcast("one", exclude=groups.connections()[0].id)
        assert second.wait() == "one"
        first.assert_no_message()


def test_a_message_of_another_version_is_understood() -> None:
    backend = groups.get_backend("default")
    with connect(idle, "/idle/"):
        question = json.dumps({"path": "/idle/", "from the future": 1}).encode()
        answers, missing = backend.ask(question)
        assert (groups.merge(answers, 10).total, missing) == (1, 0)


# Several processes


@pytest.mark.parametrize("kind", ["redis", "cluster"])
def test_what_is_open_is_listed_at_once(
    kind: str, tmp_path: Path, database: None
) -> None:
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(open_redis(tmp_path, kind))
        site = stack.enter_context(Site(tmp_path, engine))
        stack.enter_context(override_settings(WEBSOCKET_GROUPS=engine.setting))
        assert groups.connections().total == 0
        for count, server in enumerate(site.servers, 1):
            sock, received = clients.handshake(server, "/handlers/echo/")
            stack.enter_context(sock)
            assert b" 101 " in received
            assert groups.connections().total == count


def test_redis_keeps_nobody_out(tmp_path: Path, database: None) -> None:
    with open_redis(tmp_path) as engine, Site(tmp_path, engine) as site:
        (redis,) = engine.servers
        redis.pause()
        try:
            for _ in range(2):
                sock, received = clients.handshake(site.servers[1], "/handlers/echo/")
                with sock:
                    assert b" 101 " in received
        finally:
            redis.resume()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, database: None) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("connections")
    with open_redis(directory) as engine, Site(directory, engine) as site:
        yield site


def run(site: Site, *arguments: str) -> tuple[list[str], str]:
    """Run the command in this process, which isn't patched; return its output."""
    assert site.engine is not None
    stdout, stderr = io.StringIO(), io.StringIO()
    with override_settings(WEBSOCKET_GROUPS=site.engine.setting):
        call_command("websockets", *arguments, stdout=stdout, stderr=stderr)
    return stdout.getvalue().splitlines(), stderr.getvalue().strip()


def test_command(site: Site, members: Members) -> None:
    ann, *others = members.open_in_each("red", headers=log_in("ann"))
    stranger = members.open("blue \x1b[2J")
    ours = [ann, *others, stranger]
    head, *lines = run(site)[0]
    assert head.split()[:3] == ["ID", "USER", "ADDRESS"]
    assert [line.split()[0] for line in lines] == [member.id for member in ours]
    assert lines[-1].endswith(r"/groups/member/ 'blue \x1b[2J'")

    lines, summary = run(site, "--json", "--group", "red", "--limit", "2")
    assert [json.loads(line)["id"] for line in lines] == [m.id for m in ours[:2]]
    assert summary == f"2 of {len(ours) - 1} connections"
    user = json.loads(lines[0])["user"]
    for arguments, count in (
        (("--user", user, "--path", "/groups/"), len(ours) - 1),
        (("--path", "/elsewhere/"), 0),
        (("--address", "127.0.0.1"), len(ours)),
        (("--address", "10.0.0.0/8"), 0),
    ):
        assert len(run(site, "--json", *arguments)[0]) == count

    closing = ["--close", ann.id, stranger.id, "--code", "4001", "--reason", "bye"]
    assert run(site, *closing) == ([], "")
    assert [ann.wait_until_closed(), stranger.wait_until_closed()] == [4001, 4001]
    assert all(member.is_open() for member in others)
    for arguments in (("nobody",), (ann.id, "--code", "1006")):
        with pytest.raises(CommandError):
            run(site, "--close", *arguments)


def test_command_without_a_backend_for_it() -> None:
    with pytest.raises(CommandError, match="RedisBackend"):
        call_command("websockets", stdout=io.StringIO())


def test_more_than_a_page_of_all_processes(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websockets, "MAX_LIMIT", 40)
    count = 100
    with contextlib.ExitStack() as stack:
        for number in range(count):
            server = site.servers[number % len(site.servers)]
            sock, received = clients.handshake(server, "/handlers/echo/")
            stack.enter_context(sock)
            assert b" 101 " in received
        found = run(site, "--json", "--limit", "90", "--path", "/handlers/")[0]
        assert len({json.loads(line)["id"] for line in found}) == 90
        found = run(site, "--json", "--limit", "200", "--path", "/handlers/")[0]
        assert len({json.loads(line)["id"] for line in found}) == count


def test_a_process_that_doesnt_answer(site: Site, members: Members) -> None:
    ours = members.open_in_each("silent")
    victim = ours[0]
    os.kill(victim.pid, signal.SIGSTOP)
    try:
        code = "page = groups.connections(group='silent'); "
        code += "print(page.missing, *(c.id for c in page))"
        missing, *found = site.run(code).stdout.split()
    finally:
        os.kill(victim.pid, signal.SIGCONT)
    assert missing == "1"
    assert found == [member.id for member in ours if member.pid != victim.pid]
    assert site.engine is not None
    redis = site.engine.servers[0]
    # Nobody waits for it any more.
    wait_for(lambda: redis.ask("KEYS", "dwebsocket:answers:*"), "its answer")
    assert redis.ask("TTL", *redis.ask("KEYS", "dwebsocket:answers:*")) > 0
    assert site.call("connections", group="silent")["missing"] == 0
    assert victim.is_open()
