"""Groups while Redis is away, and when processes are killed.

``TEST_REDIS_PAUSE`` is how many seconds Redis is stopped for; the default is what is
quick.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connection, transaction
from django.test import override_settings

from dwebsocket import groups

from .redis_servers import RedisServer, open_redis
from .servers import free_port, wait_for
from .sites import ENDED, Member, Members, Site

PAUSE = float(os.environ.get("TEST_REDIS_PAUSE", "4"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, database: None) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("failures")
    with open_redis(directory) as engine, Site(directory, engine) as site:
        yield site


@pytest.mark.parametrize("is_in_transaction", [False, True])
def test_after_a_commit_it_is_too_late_for_an_error(
    database: None, caplog: pytest.LogCaptureFixture, is_in_transaction: bool
) -> None:
    backend = "dwebsocket.groups.redis.RedisBackend"
    location = f"redis://127.0.0.1:{free_port()}"
    setting = {"default": {"BACKEND": backend, "LOCATION": location}}
    block = transaction.atomic() if is_in_transaction else contextlib.nullcontext()
    with override_settings(WEBSOCKET_GROUPS=setting), block:
        groups.send("group", "message", on_commit=True)
    assert "Redis" in caplog.text
    connection.close()


def count_gaps(site: Site) -> dict[int, int]:
    return {pid: counters["group_gaps"] for pid, counters in site.stats().items()}


def count_reports(site: Site) -> dict[str, int]:
    """Return how often the gap was logged, and the signal sent, in all processes."""
    texts = (
        "groups: Redis is heard again; messages of the last",
        "gap signal: default",
    )
    return {
        text: sum(server.log.count(text) for server in site.servers) for text in texts
    }


def is_heard(site: Site, group: str, member: Member, text: str) -> bool:
    """Send, and return whether it comes; it may be lost as long as there is a gap."""
    if site.find_error("send", group, text) is not None:
        return False
    with contextlib.suppress(TimeoutError):
        while member.websocket.recv(0.2) != text:
            pass
        return True
    return False


@contextlib.contextmanager
def survive(site: Site, members: Members, group: str) -> Iterator[list[Member]]:
    """Have members in each process, which must be as before after the block."""
    ours = members.open_in_each(group, data=1)
    gaps, reports = count_gaps(site), count_reports(site)
    yield ours
    back_at = time.monotonic()
    for number, member in enumerate(ours):
        text = f"heard again {number}"
        wait_for(lambda: is_heard(site, group, member, text), "a worker")  # noqa: B023
    print(f"heard again after {time.monotonic() - back_at:.1f} s")
    assert all(member.is_open() for member in ours)

    def is_reported() -> bool:
        now = count_gaps(site)
        return all(now[pid] > count for pid, count in gaps.items())

    wait_for(is_reported, "the count of the gap")
    for text, before in reports.items():
        wait_for(
            lambda: count_reports(site)[text] >= before + site.process_count,  # noqa: B023
            "the report of the gap",
        )
    wait_for(lambda: site.call("count", group) == len(ours), "the members")
    wanted = sorted(member.id for member in ours)
    assert sorted(member[0] for member in site.call("members", group)) == wanted


def expect_nothing_but_errors(site: Site) -> None:
    """Redis is away: senders are told, in time, and the rest of the site works."""
    for name, *arguments in (("send", "x", "y"), ("count", "x"), ("members", "x")):
        assert site.find_error(name, *arguments) == "GroupError"
        assert site.server.get("/page/")[2] == "a page"


def get_redis(site: Site) -> RedisServer:
    assert site.engine is not None
    return site.engine.servers[0]


def test_killed_and_restarted(site: Site, members: Members) -> None:
    with survive(site, members, "killed") as ours:
        get_redis(site).kill()
        expect_nothing_but_errors(site)
        # Who comes and goes meanwhile is no less a member.
        late = members.open("killed", data=1)
        members.open("killed", data=1).close()
        ours.append(late)
        get_redis(site).start()


def test_stopped_for_a_while(site: Site, members: Members) -> None:
    with survive(site, members, "stopped"):
        redis = get_redis(site)
        redis.pause()
        try:
            until = time.monotonic() + PAUSE
            while time.monotonic() < until:
                expect_nothing_but_errors(site)
        finally:
            redis.resume()


def test_all_clients_killed(site: Site, members: Members) -> None:
    with survive(site, members, "clients"):
        for kind in ("pubsub", "normal"):
            get_redis(site).ask("CLIENT", "KILL", "TYPE", kind)


def test_output_buffer_limit(site: Site, members: Members) -> None:
    redis = get_redis(site)
    (_, before) = redis.ask("CONFIG", "GET", "client-output-buffer-limit")
    with survive(site, members, "limit"):
        redis.ask("CONFIG", "SET", "client-output-buffer-limit", "pubsub 65536 0 0")
        # Longer than the system's buffers between the two.
        site.call("send", "limit", {"$text": "x", "times": 16 * 1024 * 1024})
        redis.ask("CONFIG", "SET", "client-output-buffer-limit", before)


def test_redis_forgets_who_lives(site: Site, members: Members) -> None:
    # As when it was stopped for longer than signs of life last.
    watcher = members.open("alive")
    there = members.open_in_each("alive", announce=True)
    assert {watcher.receive_json()["type"] for _ in there} == {"group.join"}
    redis = get_redis(site)
    redis.ask("DEL", *redis.ask("KEYS", "dwebsocket:process:*"))
    assert site.call("count", "alive") == 1 + len(there)
    wait_for(lambda: not redis.ask("SCARD", "dwebsocket:suspects"), "signs of life")
    assert site.call("count", "alive") == 1 + len(there)
    site.call("send", "alive", ENDED)
    assert watcher.receive_all() == []


def test_a_worker_killed(site: Site, members: Members) -> None:
    watcher = members.open("room", server=site.servers[1])
    victims: list[Member] = []
    while len({member.pid for member in victims}) < 2:
        victims.append(members.open("room", announce=True, data="here"))
        assert watcher.receive_json()["type"] == "group.join"
    pid = victims[0].pid
    gone = {member.id for member in victims if member.pid == pid}
    os.kill(pid, signal.SIGKILL)
    # Within the 30 s that are documented, at worst.
    left = {json.loads(watcher.websocket.recv(30))["content"]["id"] for _ in gone}
    assert left == gone
    assert site.call("count", "room") == 1 + len(victims) - len(gone)
    assert not gone & {member[0] for member in site.call("members", "room")}


@contextlib.contextmanager
def open_alone(
    directory: Path, kind: str
) -> Iterator[tuple[Site, list[RedisServer], Members]]:
    """Open a site on servers of its own."""
    with (
        open_redis(directory, kind) as engine,
        Site(directory, engine) as site,
        Members(site) as members,
    ):
        yield site, engine.servers, members


def test_sentinel_makes_another_the_master(tmp_path: Path, database: None) -> None:
    with (
        open_alone(tmp_path, "sentinel") as (site, servers, members),
        survive(site, members, "failover"),
    ):
        servers[0].kill()
        wait_for(lambda: site.find_error("send", "x", "y") is None, "the new master")


def find_primary(servers: list[RedisServer], channel: str) -> tuple[int, int]:
    """Return the slot of a channel and the index of the server that has it."""
    slot = int(servers[0].ask("CLUSTER", "KEYSLOT", f"dwebsocket:{channel}"))
    ports = {server.port: index for index, server in enumerate(servers)}
    for start, end, (_, port, *_), *_ in servers[0].ask("CLUSTER", "SLOTS"):
        if start <= slot <= end:
            return slot, ports[port]
    raise AssertionError(slot)


def test_a_replica_takes_over_in_a_cluster(tmp_path: Path, database: None) -> None:
    with (
        open_alone(tmp_path, "cluster with replicas") as (site, servers, members),
        survive(site, members, "failover"),
    ):
        _, primary = find_primary(servers, "g:failover")
        servers.pop(primary).kill()
        # Only what is published elsewhere gets through.
        assert site.find_error("send", "failover", "x") == "GroupError"
        assert site.server.get("/page/")[2] == "a page"


def test_a_slot_moves_in_a_cluster(tmp_path: Path, database: None) -> None:
    with (
        open_alone(tmp_path, "cluster") as (site, servers, members),
        survive(site, members, "moving") as ours,
    ):
        slot, index = find_primary(servers, "g:moving")
        source = servers[index]
        target = servers[index - 1]
        source_id, target_id = (
            server.ask("CLUSTER", "MYID") for server in (source, target)
        )
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
        assert source.ask("CLUSTER", "GETKEYSINSLOT", slot, 1) == []
        for server in (target, source):
            server.ask("CLUSTER", "SETSLOT", slot, "NODE", target_id)
        # Who joins now is heard as well.
        ours.append(members.open("moving", data=1))
