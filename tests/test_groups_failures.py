"""Groups while Redis is away, and when processes are killed.

``TEST_REDIS_PAUSE`` is how many seconds Redis is stopped for; the default is what is
quick.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator

import pytest

from .redis_servers import RedisServer, open_redis
from .servers import wait_for
from .sites import Member, Members, Site

PAUSE = float(os.environ.get("TEST_REDIS_PAUSE", "4"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, database: None) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("failures")
    with open_redis(directory) as engine, Site(directory, engine) as site:
        yield site


@pytest.fixture
def members(site: Site) -> Iterator[Members]:
    with Members(site) as members:
        yield members


def count_gaps(site: Site) -> dict[int, int]:
    return {pid: counters["group_gaps"] for pid, counters in site.stats().items()}


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
    gaps = count_gaps(site)
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

    wait_for(is_reported, "the report of the gap")
    for server in site.servers:
        assert "Redis is heard again; messages of the last" in server.log
        wait_for(lambda: "gap signal: default" in server.log, "the signal")  # noqa: B023
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


def test_a_worker_killed(site: Site, members: Members) -> None:
    watcher = members.open("room", server=site.servers[1])
    victims: list[Member] = []
    while len({member.pid for member in victims}) < 2:
        victims.append(members.open("room", announce=True, data="here"))
        assert watcher.receive_json()["type"] == "group.join"
    pid = victims[0].pid
    gone = {member.id for member in victims if member.pid == pid}
    os.kill(pid, signal.SIGKILL)
    left = {watcher.receive_json()["content"]["id"] for _ in gone}
    assert left == gone
    assert site.call("count", "room") == 1 + len(victims) - len(gone)
    assert not gone & {member[0] for member in site.call("members", "room")}


def test_sentinel_makes_another_the_master(
    tmp_path_factory: pytest.TempPathFactory, database: None
) -> None:
    directory = tmp_path_factory.mktemp("sentinel")
    with (
        open_redis(directory, "sentinel") as engine,
        Site(directory, engine) as site,
        Members(site) as members,
        survive(site, members, "failover"),
    ):
        engine.servers[0].kill()
        wait_for(lambda: site.find_error("send", "x", "y") is None, "the new master")
