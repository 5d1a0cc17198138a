"""Rate limits: what they may be, token buckets, and what clients see of them."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from typing import Any
from urllib.parse import urlencode

import pytest
import websockets.exceptions

from dwebsocket import ratelimit
from dwebsocket.conf import Settings
from dwebsocket.ratelimit import Bucket, Buckets, RateLimit, parse_rate_limits

from .clients import connect, log_in, wait_until_closed
from .servers import PROXIES, TIMEOUT, Farm, Server

# Parsing


@pytest.mark.parametrize(
    "value, wanted",
    [
        (None, []),
        ([], []),
        ("10/s", [(10, 10, "connection", "close")]),
        ("30/m", [(0.5, 30, "connection", "close")]),
        ("36/h", [(0.01, 36, "connection", "close")]),
        ("864/d", [(0.01, 864, "connection", "close")]),
        ({"rate": "1/s", "burst": 9}, [(1, 9, "connection", "close")]),
        (
            ["10/s", {"rate": "2/s", "per": "user", "over": "drop"}],
            [(10, 10, "connection", "close"), (2, 2, "user", "drop")],
        ),
        (
            ({"rate": "1/s", "per": "address", "over": "error"},),
            [(1, 1, "address", "error")],
        ),
    ],
)
def test_parse(value: Any, wanted: list[tuple[float, int, str, str]]) -> None:
    assert [limit[:4] for limit in parse_rate_limits(value)] == wanted


@pytest.mark.parametrize(
    "value",
    [
        *("10", "10/", "/s", "0/s", "-1/s", "1.5/s", "10/S", "10/s\n", "10 / s", ""),
        *({}, {"rate": 10}, {"rate": "1/s", "bursts": 1}, {"burst": 1}, True, 10),
        *({"rate": "1/s", "burst": value} for value in (0, -1, 1.5, "1", True, None)),
        *({"rate": "1/s", "per": "ip"}, {"rate": "1/s", "over": "ignore"}),
    ],
)
def test_parse_refuses(value: Any) -> None:
    with pytest.raises(ValueError):
        parse_rate_limits(value)


def test_limits_of_the_settings_are_shared_and_those_of_a_view_its_own() -> None:
    def limits(options: Any = None) -> set[RateLimit]:
        settings = Settings(options)
        return {*settings.rate_limits, *settings.handshake_rate_limits}

    options = {"rate_limit": {"rate": "1/s", "per": "address"}}
    options["handshake_rate_limit"] = "1/s"  # type: ignore[assignment]
    assert len(limits(options)) == 2
    assert not limits(options) & limits(options)
    settings = Settings(options)
    assert settings.rate_limits == settings.rate_limits


# Buckets


def test_a_bucket_fills_with_time() -> None:
    (limit,) = parse_rate_limits({"rate": "2/s", "burst": 3})
    bucket = Bucket(limit, 100)
    assert [bucket.take(limit, 100) for _ in range(5)] == [0, 0, 0, 0.5, 0.5]
    assert bucket.take(limit, 100.25) == 0.25
    assert bucket.take(limit, 100.5) == 0
    assert bucket.take(limit, 100.5) == 0.5
    # No further than up to its size.
    assert [bucket.take(limit, 200) for _ in range(4)] == [0, 0, 0, 0.5]


def test_those_used_least_lately_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ratelimit, "_MAX_BUCKETS", 2)
    (limit,) = parse_rate_limits("1/d")
    buckets = Buckets(clock=lambda: 0)
    assert [bool(buckets.take(limit, name)) for name in "aabab"] == [
        *(False, True, False, True, True)
    ]
    assert not buckets.take(limit, "c")
    assert buckets.take(limit, "b")
    assert not buckets.take(limit, "a")


# Messages


@pytest.fixture(scope="module")
def server(farm: Farm) -> Server:
    return farm("gunicorn")


class Client:
    """A client that is ready to send."""

    def __init__(
        self, stack: ExitStack, server: Server, path: str, **options: Any
    ) -> None:
        self._server = server
        self._group = f"limits {next(_numbers)}"
        path = f"/limits/{path}/?{urlencode({'group': self._group})}"
        self.websocket = stack.enter_context(connect(server, path, **options))
        assert self.websocket.recv(TIMEOUT) == "ready"

    def send(self, *messages: str | bytes) -> None:
        for message in messages:
            self.websocket.send(message)

    def receive_all(self) -> list[str | bytes]:
        """Return all that came, and that what was sent is the cause of."""
        assert self.websocket.ping().wait(TIMEOUT)
        end = "the end of all"
        query = urlencode({"group": self._group, "message": end})
        self._server.get(f"/limits/send/?{query}")
        return list(iter(lambda: self.websocket.recv(TIMEOUT), end))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """What ends with the test: its connections."""
    with ExitStack() as stack:
        yield stack


_numbers = count()
_hosts = count(10)


def new_address() -> tuple[str, int]:
    """Return an address that no other client has."""
    return f"127.0.0.{next(_hosts)}", 0


def test_over_the_limit_close(stack: ExitStack, server: Server) -> None:
    client = Client(stack, server, "close")
    client.send("1", b"2", "3")
    assert client.receive_all() == ["1", b"2", "3"]
    client.send("4")
    assert wait_until_closed(client.websocket) == 1008
    assert client.websocket.close_reason == "too many messages"
    # Others are counted by themselves.
    client = Client(stack, server, "close")
    client.send("1", "2", "3")
    assert client.receive_all() == ["1", "2", "3"]
    client.websocket.close()
    assert client.websocket.close_code == 1000


def test_over_the_limit_drop(stack: ExitStack, server: Server) -> None:
    client = Client(stack, server, "drop")
    client.send(*map(str, range(100)))
    assert client.receive_all() == ["0", "1", "2"]
    client.send("more")
    assert client.receive_all() == []


def test_over_the_limit_error(stack: ExitStack, server: Server) -> None:
    client = Client(stack, server, "error")
    client.send("1", "2", "3")
    assert client.receive_all() == ["1", "2", "3"]
    client.send('{"type": "x", "id": 7}', "no JSON", '{"id": []}', b"\xff", "[" * 5000)
    first, *others = client.receive_all()
    error = {
        "type": "error",
        "content": {"code": "rate_limited", "message": "Too many messages."},
    }
    assert json.loads(first) == {**error, "id": 7}
    assert [json.loads(text) for text in others] == [error] * 4


def test_no_errors_for_those_who_do_not_read(stack: ExitStack, server: Server) -> None:
    client = Client(stack, server, "error", max_queue=1)
    # Answered, they would be more than all buffers on the way hold.
    client.send(*[json.dumps({"id": "x" * 4000})] * 6000)
    assert 1_000_000 < int(server.get("/limits/outbox/")[2]) < 2_000_000
    client.websocket.socket.shutdown(socket.SHUT_RDWR)


def test_messages_are_counted_however_busy_the_view_is(server: Server) -> None:
    with connect(server, "/limits/busy/") as websocket:
        assert websocket.recv(TIMEOUT) == "ready"
        for _ in range(4):
            websocket.send("x")
        assert wait_until_closed(websocket) == 1008


def test_several_limits(stack: ExitStack, server: Server) -> None:
    client = Client(stack, server, "both")
    client.send("1", "2", "3")
    assert client.receive_all() == ["1", "2", "3"]
    client.send("4")
    assert wait_until_closed(client.websocket) == 1008


def test_connections_of_a_user_share_a_limit(
    stack: ExitStack, server: Server, users: Iterator[str]
) -> None:
    one, other = next(users), next(users)
    first, second, third = (
        Client(stack, server, "user", additional_headers=log_in(name))
        for name in (one, one, other)
    )
    first.send("1", "2")
    assert first.receive_all() == ["1", "2"]
    second.send("3")
    assert second.receive_all() == ["3"]
    second.send("4")
    assert wait_until_closed(second.websocket) == 1008
    third.send("1", "2", "3")
    assert third.receive_all() == ["1", "2", "3"]
    # It isn't the first who was above.
    assert first.receive_all() == []


@pytest.mark.parametrize("path", ["address", "user"])
@pytest.mark.parametrize("kind", ["gunicorn", "nginx"])
def test_connections_of_an_address_share_a_limit(
    stack: ExitStack, farm: Farm, kind: str, path: str
) -> None:
    server = farm(kind)
    one, other = new_address(), new_address()
    first, second, third = (
        Client(
            stack,
            server,
            path,
            source_address=address,
            # They would all like to be another one.
            additional_headers={"X-Forwarded-For": f"192.0.2.{number}"},
        )
        for number, address in enumerate((one, one, other))
    )
    first.send("1", "2")
    assert first.receive_all() == ["1", "2"]
    second.send("3")
    assert second.receive_all() == ["3"]
    second.send("4")
    assert wait_until_closed(second.websocket) == 1008
    third.send("1", "2", "3")
    assert third.receive_all() == ["1", "2", "3"]


# Handshakes


def find_status(server: Server, path: str, **options: Any) -> tuple[int, Any]:
    """Return the status of a handshake, and the headers."""
    try:
        with connect(server, f"/limits/{path}/", **options) as websocket:
            return 101, websocket.response.headers
    except websockets.exceptions.InvalidStatus as exc:
        return exc.response.status_code, exc.response.headers


@pytest.mark.parametrize("kind", ["gunicorn", *PROXIES])
def test_handshakes_of_an_address(farm: Farm, kind: str) -> None:
    server = farm(kind)
    one, other = new_address(), new_address()
    refused = json.loads(server.get("/status/")[2])["stats"]["refused"].get("429", 0)
    found = [
        find_status(
            server,
            "handshake",
            source_address=one,
            additional_headers={"X-Forwarded-For": f"192.0.2.{number}"},
        )
        for number in range(4)
    ]
    assert [status for status, _ in found] == [101, 101, 429, 429]
    assert 80_000 < int(found[-1][1]["Retry-After"]) <= 86_400
    assert find_status(server, "handshake", source_address=other)[0] == 101
    now = json.loads(server.get("/status/")[2])["stats"]["refused"]["429"]
    assert now == refused + 2


def test_handshakes_of_a_user(server: Server, users: Iterator[str]) -> None:
    one, other = log_in(next(users)), log_in(next(users))
    addresses = [new_address() for _ in range(3)]
    found = [
        find_status(
            server, "handshake-user", additional_headers=one, source_address=address
        )[0]
        for address in addresses
    ]
    assert found == [101, 101, 429]
    path = "handshake-user"
    assert find_status(server, path, additional_headers=other)[0] == 101


def test_retry_after_is_when_it_is_worth_it(server: Server) -> None:
    address = new_address()
    path = "handshake-retry"
    assert find_status(server, path, source_address=address)[0] == 101
    status, headers = find_status(server, path, source_address=address)
    assert status == 429
    assert 1 <= int(headers["Retry-After"]) <= 60


@pytest.fixture(scope="module")
def users(database: None) -> Iterator[Iterator[str]]:
    """The names of users that nobody else is."""
    from django.contrib.auth.models import User

    def create() -> Iterator[str]:
        for number in count():
            yield User.objects.create_user(f"limited {number}").username

    yield create()
    User.objects.filter(username__startswith="limited ").delete()
