"""The contract of groups (``docs/contract.rst``), the same for all backends."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from typing import Any

import pytest

from .clients import MIB, connect, handshake, log_in
from .redis_servers import open_redis
from .servers import TIMEOUT, wait_for
from .sites import ENDED, Member, Members, Site

MAX_SIZE = 16 * MIB


@pytest.fixture(
    scope="module", params=["memory", "redis", "tls", "sentinel", "cluster"]
)
def site(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    database: None,
) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("groups")
    with contextlib.ExitStack() as stack:
        engine = None
        if request.param != "memory":
            engine = stack.enter_context(open_redis(directory, request.param))
            # 16 MiB take their time on a slow machine.
            engine.setting["default"]["OPTIONS"]["timeout"] = TIMEOUT
        yield stack.enter_context(Site(directory, engine))


_numbers = itertools.count(1)


@pytest.fixture
def group() -> str:
    """A group that no other test uses."""
    return f"group {next(_numbers)}"


def receive_all(members: list[Member], site: Site, group: str) -> list[list[Any]]:
    """Return what each got of the group until now."""
    site.call("send", group, ENDED)
    return [member.receive_all() for member in members]


# Delivery


def test_all_members_get_messages(site: Site, members: Members, group: str) -> None:
    others = members.open_in_each("another")
    ours = members.open_in_each(group)
    messages = ["text", "", "\u2603 \U0001f30a", b"\0\xff", b""]
    for message in messages:
        if isinstance(message, bytes):
            site.call("send", group, {"$bytes": message.hex()})
        else:
            site.call("send", group, message)
    assert receive_all(ours, site, group) == [messages] * len(ours)
    assert receive_all(others, site, "another") == [[]] * len(others)


def test_json(site: Site, members: Members, group: str) -> None:
    member = members.open(group)
    site.call("send_json", group, {"date": {"$date": "2026-02-28"}, "list": [1, None]})
    assert member.receive() == '{"date":"2026-02-28","list":[1,null]}'
    assert site.find_error("send_json", group, {"$bytes": "00"}) == "TypeError"


@pytest.mark.parametrize(
    "name",
    ["", "a" * 200, "\u2603" * 66, "\U0001f30a" * 50, "a b:c{d}*?[e]\r\n\0%/\\"],
    ids=["empty", "ascii", "three bytes", "four bytes", "special"],
)
def test_names(site: Site, members: Members, name: str) -> None:
    ours = members.open_in_each(name, data=1)
    others = members.open_in_each(name[1:] + "b")
    site.call("send", name, "hello")
    assert receive_all(ours, site, name) == [["hello"]] * len(ours)
    assert receive_all(others, site, name[1:] + "b") == [[]] * len(others)
    assert site.call("count", name) == len(ours)
    assert [data for _, _, data in site.call("members", name)] == [1] * len(ours)
    assert ours[0].call("leave", name) == {"result": None}
    assert ours[0].call("count", name) == {"result": len(ours) - 1}


@pytest.mark.parametrize(
    "name, error",
    [
        ("a" * 201, "ValueError"),
        ("\u2603" * 67, "ValueError"),
        ("\ud800", "ValueError"),
        (None, "TypeError"),
        (1, "TypeError"),
        ({"$bytes": "61"}, "TypeError"),
    ],
    ids=["ascii", "unicode", "surrogate", "None", "int", "bytes"],
)
def test_what_is_no_name(site: Site, members: Members, name: Any, error: str) -> None:
    for function in ("send", "send_json"):
        assert site.find_error(function, name, "x") == error
        assert site.find_error(function, name, "x", on_commit=True) == error
    for function in ("count", "members", "close"):
        assert site.find_error(function, name) == error
    member = members.open()
    for method in ("join", "leave"):
        assert member.call(method, name)["error"] == error


@pytest.mark.parametrize("message", [None, 1, ["a"], {}])
def test_what_is_no_message(site: Site, group: str, message: Any) -> None:
    for on_commit in (False, True):
        options = {"on_commit": on_commit}
        assert site.find_error("send", group, message, **options) == "TypeError"
        assert site.find_error("send_to", "a.b", message, **options) == "TypeError"
        assert site.find_error("send_to_user", 1, message, **options) == "TypeError"
    assert site.find_error("send", group, "\ud800") == "ValueError"


def test_sizes(site: Site, members: Members, group: str) -> None:
    ours = members.open_in_each(group)
    for size in (0, 125, 126, 65535, 65536, MIB):
        site.call("send", group, {"$text": "x", "times": size})
        site.call("send", group, {"$bytes": "ff", "times": size})
        for member in ours:
            assert member.receive() == "x" * size
            assert member.receive() == b"\xff" * size
    site.call("send_to", ours[0].id, {"$bytes": "00", "times": MAX_SIZE})
    assert ours[0].receive() == bytes(MAX_SIZE)
    for kind, piece in (("$text", "x"), ("$bytes", "00")):
        message = {kind: piece, "times": MAX_SIZE + 1}
        assert site.find_error("send", group, message) == "ValueError"
    # In UTF-8.
    message = {"$text": "\u2603", "times": MAX_SIZE // 3 + 1}
    assert site.find_error("send", group, message) == "ValueError"
    assert receive_all(ours, site, group) == [[]] * len(ours)


def test_exclude(site: Site, members: Members, group: str) -> None:
    first, *others = ours = members.open_in_each(group)
    assert first.call("send", group, "others", exclude="self") == {"result": None}
    site.call("send", group, "all")
    site.call("send", group, "not the first", exclude=first.id)
    # Who isn't a member can't be left out.
    stranger = members.open()
    site.call("send", group, "not the stranger", exclude=stranger.id)
    assert receive_all(ours, site, group) == [
        ["all", "not the stranger"],
        *[["others", "all", "not the first", "not the stranger"]] * len(others),
    ]


def test_order_of_each_sender(site: Site, members: Members, group: str) -> None:
    ours = members.open_in_each(f"{group} 0")

    def publish(sender: int) -> None:
        server = site.servers[sender % len(site.servers)]
        arguments = [str(sender), 0, 100, 1, f"{group} "]
        assert server.post_json("/groups/publish/", arguments) == {}

    with ThreadPoolExecutor() as executor:
        list(executor.map(publish, range(4)))
    for received in receive_all(ours, site, f"{group} 0"):
        assert len(received) == 400
        for sender in range(4):
            wanted = [f"{sender} {number} 0" for number in range(100)]
            assert [text for text in received if text[0] == str(sender)] == wanted


@pytest.mark.parametrize(
    "how, wanted",
    [
        (
            "commit",
            ["at once", "before the end", "after the request", '["after the block"]'],
        ),
        ("block-fails", ["at once", "before the end", "after the request"]),
        ("request-fails", ["at once", "before the end"]),
    ],
)
def test_on_commit(
    site: Site, members: Members, group: str, how: str, wanted: list[str]
) -> None:
    member = members.open(group)
    answer = site.server.post_json(f"/groups/commit/{how}/", group)
    assert answer == (500 if how == "request-fails" else {})
    assert receive_all([member], site, group) == [wanted]
    assert site.find_error("send", "a" * 201, "x", on_commit=True) == "ValueError"


# Single connections, users


def test_send_to(site: Site, members: Members) -> None:
    ours = members.open_in_each()
    for member in ours:
        site.call("send_to", member.id, f"to {member.id}")
        site.call("send_to", member.id, {"$bytes": "00"})
        site.call("send_to", member.id, ENDED)
    assert len({member.id for member in ours}) == len(ours)
    for member in ours:
        assert member.receive_all() == [f"to {member.id}", b"\0"]


def test_send_to_one_that_is_gone(site: Site, members: Members, group: str) -> None:
    gone, other = members.open(group), members.open(group)
    gone.close()
    wait_for(lambda: site.call("count", group) == 1, "it to be gone")
    for websocket_id in (gone.id, f"{gone.id.partition('.')[0]}.x", "nobody.nothing"):
        site.call("send_to", websocket_id, "anybody there?")
        site.call("close_websocket", websocket_id)
    assert receive_all([other], site, group) == [[]]
    for websocket_id in ("", "x", ".", "x.", ".x", "\u2603" * 300 + ".x"):
        assert site.find_error("send_to", websocket_id, "x") == "ValueError"
        assert site.find_error("close_websocket", websocket_id) == "ValueError"


def find_user(name: str) -> int:
    from django.contrib.auth.models import User
    from django.db import connection

    key: int = User.objects.get(username=name).pk
    connection.close()
    return key


def test_send_to_user(site: Site, members: Members, group: str) -> None:
    ann = members.open_in_each(headers=log_in("ann"))
    ann += members.open_in_each(headers=log_in("ann"))
    others = [members.open(group, headers=log_in("root")), members.open(group)]
    key = find_user("ann")
    site.call("send_to_user", key, "to ann")
    site.call("send_to_user", str(key), "to the other anns", exclude=ann[0].id)
    site.call("send_to_user", 0, "to nobody")
    assert site.find_error("send_to_user", None, "x") == "ValueError"
    site.call("send_to_user", key, ENDED)
    first, *rest = ann
    assert first.receive_all() == ["to ann"]
    for member in rest:
        assert member.receive_all() == ["to ann", "to the other anns"]
    assert receive_all(others, site, group) == [[]] * len(others)


def test_close(site: Site, members: Members, group: str) -> None:
    ours = members.open_in_each(group)
    other = members.open("other")
    site.call("send", group, "last words")
    site.call("close", group, 4001, "bye")
    for member in ours:
        assert member.receive() == "last words"
        assert member.wait_until_closed() == 4001
        assert member.websocket.close_reason == "bye"
    wait_for(lambda: site.call("count", group) == 0, "them to leave")
    assert receive_all([other], site, "other") == [[]]
    for code, reason in ((1005, ""), (999, ""), (5000, ""), (1000, "x" * 124)):
        assert site.find_error("close", group, code, reason) == "ValueError"
        assert site.find_error("close_user", 1, code, reason) == "ValueError"
        assert site.find_error("close_websocket", "a.b", code, reason) == "ValueError"


def test_close_user_and_one(site: Site, members: Members, group: str) -> None:
    ann = members.open_in_each(group, headers=log_in("ann"))
    first, second, *others = members.open_in_each(group) + members.open_in_each(group)
    site.call("close_user", find_user("ann"), 4002)
    assert [member.wait_until_closed() for member in ann] == [4002] * len(ann)
    site.call("close_websocket", first.id)
    assert first.wait_until_closed() == 1000
    # Without a code.
    site.call("close_websocket", second.id, None)
    assert second.wait_until_closed() == 1005
    assert receive_all(others, site, group) == [[]] * len(others)


# All connections


def test_broadcast(site: Site, members: Members, group: str) -> None:
    ours = members.open_in_each() + members.open_in_each(group)
    first, *others = ours
    site.call("broadcast", "to all")
    site.call("broadcast", {"$bytes": "00ff"}, exclude=first.id)
    site.call("broadcast", ENDED)
    assert first.receive_all() == ["to all"]
    assert [member.receive_all() for member in others] == [["to all", b"\0\xff"]] * (
        len(others)
    )
    assert site.find_error("broadcast", None) == "TypeError"


def find_connections(site: Site, **options: Any) -> list[dict[str, Any]]:
    """Return those whose pages are for members; all processes have answered."""
    answer = site.call("connections", path="/groups/member/", **options)
    assert answer["missing"] == 0
    rows: list[dict[str, Any]] = answer["rows"]
    return rows


def wait_until_alone(site: Site) -> None:
    wait_for(lambda: not find_connections(site), "the connections of other tests")


def test_connections(site: Site, members: Members, group: str) -> None:
    wait_until_alone(site)
    before = datetime.now(timezone.utc)
    ours = members.open_in_each(group, headers=log_in("ann"))
    ours[0].call("join", f"another {group}")
    others = members.open_in_each()
    after = datetime.now(timezone.utc)
    found = find_connections(site)
    assert [row["id"] for row in found] == [m.id for m in (*ours, *others)]
    key = str(find_user("ann"))
    times = [datetime.fromisoformat(row["opened_at"]) for row in found]
    assert [before, *times, after] == sorted([before, *times, after])
    for row, member in zip(found, (*ours, *others), strict=True):
        assert row["user"] == (key if member in ours else None)
        assert row["path"] == "/groups/member/"
        assert row["address"] == "127.0.0.1"
        assert row["subprotocol"] is None
        assert row["groups"] == ([group] if member in ours[1:] else row["groups"])
        asked = 1 if member is ours[0] else 0
        assert (row["messages_in"], row["messages_out"]) == (asked, 1 + asked)
        assert row["bytes_out"] > row["messages_out"]
        assert (row["bytes_in"] > 0, row["outbox_size"]) == (bool(asked), 0)
        assert row["silence"] >= 0
    assert found[0]["groups"] == [f"another {group}", group]
    # The same from all processes.
    for member in members.open_in_each():
        rows = member.call("connections", path="/groups/member/")["result"]["rows"]
        assert [row["id"] for row in rows[: len(found)]] == [r["id"] for r in found]


def test_which_connections(site: Site, members: Members, group: str) -> None:
    wait_until_alone(site)
    ann = members.open_in_each(group, headers=log_in("ann"))
    others = members.open_in_each()
    key = find_user("ann")
    for options, wanted in (
        ({"user": key}, ann),
        ({"user": str(key), "group": group}, ann),
        ({"user": key, "group": "nobody's"}, []),
        ({"user": 0}, []),
        ({"group": group}, ann),
        ({"address": "127.0.0.1"}, ann + others),
        ({"address": "127.0.0.0/8"}, ann + others),
        ({"address": "::/0"}, []),
        ({"limit": 0}, []),
    ):
        found = find_connections(site, **options)
        assert [row["id"] for row in found] == [m.id for m in wanted], options
    assert site.call("connections", path="/groups/members/")["rows"] == []
    assert site.call("connections", limit=0)["total"] >= len(ann + others)
    for options in ({"limit": 1001}, {"limit": -1}, {"address": "localhost"}):
        assert site.find_error("connections", **options) == "ValueError"
    gone = ann.pop(0)
    site.call("close_websocket", gone.id, 4003, "go")
    assert gone.wait_until_closed() == 4003
    wait_for(
        lambda: (
            [row["id"] for row in find_connections(site, user=key)]
            == [member.id for member in ann]
        ),
        "the connection to go",
    )


def test_pages_of_connections(site: Site, members: Members, group: str) -> None:
    wait_until_alone(site)
    ours = [*members.open_in_each(group), *members.open_in_each(group)]
    found: list[dict[str, Any]] = []
    while True:
        options = {"after": found[-1]} if found else {}
        page = site.call("connections", group=group, limit=2, **options)
        assert page["total"] == len(ours)
        if not page["rows"]:
            break
        found += page["rows"]
    assert [row["id"] for row in found] == [member.id for member in ours]


# Membership


def end_normally(members: Members, group: str) -> None:
    members.open(group).close()


def end_in_an_error(members: Members, group: str) -> None:
    member = members.open(group)
    member.websocket.send(json.dumps(["fail", [], {}]))
    assert member.wait_until_closed() == 1011


def end_by_the_view(members: Members, group: str) -> None:
    member = members.open(group)
    member.websocket.send(json.dumps(["close", [4000], {}]))
    assert member.wait_until_closed() == 4000


def reset(members: Members, group: str) -> None:
    path = f"/groups/member/?group={group.replace(' ', '+')}"
    sock, received = handshake(members.site.server, path)
    assert b" 101 " in received
    wait_for(lambda: members.site.call("count", group), "it to join")
    linger = struct.pack("ii", 1, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    sock.close()


def leave(members: Members, group: str) -> None:
    member = members.open(group)
    assert member.call("leave", group) == {"result": None}
    # Nothing sent from now on comes.
    members.site.call("send", group, "too late")
    assert member.call("leave", group) == {"result": None}


@pytest.mark.parametrize(
    "end", [end_normally, end_in_an_error, end_by_the_view, reset, leave]
)
def test_leaving(
    site: Site, members: Members, group: str, end: Callable[[Members, str], None]
) -> None:
    end(members, group)
    wait_for(lambda: site.call("count", group) == 0, "it to leave")
    assert site.call("members", group) == []
    wait_for(lambda: f"g:{group}" not in site.channels(), "the channel to go")


def test_channels_are_those_of_members(
    site: Site, members: Members, group: str
) -> None:
    names = [f"{group} {number}" for number in range(20)]
    first, second = members.open(*names), members.open(names[0])
    wanted = {f"g:{name}" for name in names}
    wait_for(lambda: site.channels() & wanted == wanted, "the subscriptions")
    for name in names:
        assert first.call("leave", name) == {"result": None}
    wait_for(lambda: site.channels() & wanted == {f"g:{names[0]}"}, "the end of most")
    site.call("send", names[0], "hello")
    assert second.receive() == "hello"
    # In and out, many times in a row.
    for _ in range(20):
        assert first.call("join", names[1]) == {"result": None}
        assert first.call("leave", names[1]) == {"result": None}
    assert first.call("join", names[1]) == {"result": None}
    site.call("send", names[1], "hello again")
    assert first.receive() == "hello again"
    for member in (first, second):
        member.close()
    wait_for(lambda: not site.channels() & wanted, "the end of all")


def test_joining_again_changes_options(
    site: Site, members: Members, group: str
) -> None:
    other = members.open(group)
    member = members.open(group, data="old", announce=True)
    assert other.receive_json()["type"] == "group.join"
    options = {"data": {"name": "new"}, "slow_consumer": "coalesce"}
    assert member.call("join", group, **options) == {"result": None}
    site.call("send", group, "once")
    assert receive_all([member, other], site, group) == [["once"], ["once"]]
    wanted = sorted([[member.id, None, {"name": "new"}], [other.id, None, None]])
    assert sorted(site.call("members", group)) == wanted
    # It isn't announced any more.
    member.close()
    wait_for(lambda: site.call("count", group) == 1, "it to leave")
    assert receive_all([other], site, group) == [[]]
    error = other.call("join", group, slow_consumer="wait")
    assert error["error"] == "ValueError"
    assert other.call("join", group, data={"$bytes": "00"})["error"] == "TypeError"


def test_members(site: Site, members: Members, group: str) -> None:
    assert site.call("members", group) == []
    assert site.call("count", group) == 0
    key = str(find_user("ann"))
    ours = members.open_in_each(group, data={"name": "\u2603"})
    ann = members.open_in_each(group, headers=log_in("ann"), data=[1.5, True])
    members.open("another group")
    wanted = [[member.id, None, {"name": "\u2603"}] for member in ours]
    wanted += [[member.id, key, [1.5, True]] for member in ann]
    for member in (*ours, *ann):
        # The same from each process.
        assert sorted(member.call("members", group)["result"]) == sorted(wanted)
        assert member.call("count", group) == {"result": len(wanted)}


def test_announcements(site: Site, members: Members, group: str) -> None:
    ours = members.open_in_each(group)
    ann = members.open(group, headers=log_in("ann"), data="x", announce=True)
    content = {
        "group": group,
        "id": ann.id,
        "user": str(find_user("ann")),
        "data": "x",
    }
    for member in ours:
        assert member.receive_json() == {"type": "group.join", "content": content}
    # Who is told of a join finds it done.
    assert site.call("count", group) == len(ours) + 1
    assert ann.call("join", group, data="y", announce=True) == {"result": None}
    content["data"] = "y"
    for member in ours:
        assert member.receive_json() == {"type": "group.join", "content": content}
    ann.close()
    for member in ours:
        assert member.receive_json() == {"type": "group.leave", "content": content}
    assert site.call("count", group) == len(ours)
    # Those who join and leave without it aren't announced.
    members.open(group).close()
    wait_for(lambda: site.call("count", group) == len(ours), "it to leave")
    assert receive_all(ours, site, group) == [[]] * len(ours)


@pytest.mark.parametrize("by", ["view", "client"])
def test_joining_when_closed(site: Site, group: str, by: str) -> None:
    path = f"/groups/late/?by={by}&group={group.replace(' ', '+')}"
    with connect(site.server, path):
        pass
    wait_for(lambda: f"refused: {group}\n" in site.server.log, "the view")
    assert site.call("count", group) == 0
    assert f"g:{group}" not in site.channels()


# Compression


def test_members_with_different_extensions(
    site: Site, members: Members, group: str
) -> None:
    ours = []
    for path in ("/", "/compressed/", "/in-context/"):
        for compression in (None, "deflate"):
            ours += members.open_in_each(
                group, path=f"{path}groups/member/", compression=compression
            )
    assert sum("Sec-WebSocket-Extensions" in m.websocket.response.headers for m in ours)
    messages = [f"{number} " + "the same again " * 50 for number in range(20)]
    for number, message in enumerate(messages):
        site.call("send", group, message)
        # What a connection sends itself in between changes its context.
        chosen = ours[number % len(ours)]
        site.call("send_to", chosen.id, "only you " * 50)
    for received in receive_all(ours, site, group):
        assert [text for text in received if "only" not in text] == messages


# Other processes

_SEND = """
import asyncio, sys
assert "gevent.monkey" not in sys.modules or not __import__("gevent").monkey.saved
groups.send({name!r}, "from afar")
groups.send({name!r}, "once more")
groups.send_json({name!r}, [1], on_commit=True)
groups.send_to({id!r}, "for one")
print(groups.count({name!r}), [member.data for member in groups.members({name!r})])
"""


def test_a_process_without_connections(
    site: Site, members: Members, group: str
) -> None:
    ours = members.open_in_each(group, data=5)
    result = site.run(_SEND.format(name=group, id=ours[0].id))
    assert result.returncode == 0, result.stderr
    if site.engine is None:
        assert result.stdout.strip() == "0 []"
        assert result.stderr.count("reached nobody") == 1
        assert receive_all(ours, site, group) == [[]] * len(ours)
        return
    assert result.stdout.strip() == f"{len(ours)} {[5] * len(ours)}"
    assert result.stderr == ""
    messages = ["from afar", "once more", "[1]"]
    first, *others = ours
    # In a Cluster, what is for one has no order with what is for the group.
    received = [first.receive() for _ in range(4)]
    assert sorted(map(str, received)) == sorted([*messages, "for one"])
    assert receive_all(others, site, group) == [messages] * len(others)


def test_threads_of_a_worker(site: Site, members: Members, group: str) -> None:
    ours = members.open_in_each(group)
    sender = members.open()
    assert sender.call("in_thread", group, "from a thread") == {"result": None}
    assert receive_all(ours, site, group) == [["from a thread"]] * len(ours)


def test_nothing_was_logged(site: Site) -> None:
    for server in site.servers:
        lines = server.log.splitlines()
        assert not [line for line in lines if "groups: " in line]
        assert not [line for line in lines if "internal error" in line]
