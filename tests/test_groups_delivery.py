"""Every member gets every message of its groups once, in each publisher's order.

The publishers are a view, a management command and a task of Celery.  The numbers of
clients, groups and messages are TEST_DELIVERY_CLIENTS, _GROUPS and _MESSAGES; the
defaults are what is quick.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from .celery_worker import celery_environ, open_celery
from .clients import frame, handshake, read_until
from .publisher.publishing import find_group
from .redis_servers import open_redis
from .servers import ROOT, TIMEOUT, wait_for
from .sites import Site

CLIENTS = int(os.environ.get("TEST_DELIVERY_CLIENTS", "100"))
GROUPS = int(os.environ.get("TEST_DELIVERY_GROUPS", "10"))
MESSAGES = int(os.environ.get("TEST_DELIVERY_MESSAGES", "3000"))

PUBLISHERS = ("view", "command", "task")
COUNT = MESSAGES // len(PUBLISHERS)


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory, database: None) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("delivery")
    with open_redis(directory) as engine, Site(directory, engine) as site:
        yield site


@cache
def find_messages(publisher: str) -> list[list[tuple[int, str]]]:
    """Return the messages of a publisher, numbered, by their groups."""
    found: list[list[tuple[int, str]]] = [[] for _ in range(GROUPS)]
    for number in range(COUNT):
        group = find_group(publisher, number, GROUPS)
        found[group].append((number, f"{publisher} {number} {group}"))
    return found


class Client:
    """A member of some groups that keeps what it gets."""

    def __init__(self, site: Site, number: int) -> None:
        self.groups = {number % GROUPS, number * 7 // GROUPS % GROUPS}
        query = "&".join(f"group=group+{group}" for group in self.groups)
        server = site.servers[number % len(site.servers)]
        self.sock, received = handshake(server, f"/groups/member/?{query}")
        received = read_until(self.sock, received, b"}").partition(b"\r\n\r\n")[2]
        # The view has told its id: it is a member.
        self._received = received[2 + received[1] :]
        self.messages: list[str] = []
        wanted = self.find_wanted()
        self.left = sum(len(messages) for messages in wanted.values())

    def find_wanted(self) -> dict[str, list[str]]:
        wanted = {}
        for publisher in PUBLISHERS:
            messages = find_messages(publisher)
            numbered = sorted(pair for group in self.groups for pair in messages[group])
            wanted[publisher] = [text for _, text in numbered]
        return wanted

    def read(self) -> None:
        data = self.sock.recv(1 << 20)
        assert data, "the connection was lost"
        data = self._received + data
        position = 0
        while position + 2 <= len(data):
            end = position + 2 + data[position + 1]
            if end > len(data):
                break
            payload = data[position + 2 : end]
            if data[position] == 0x81:
                self.messages.append(payload.decode())
            elif data[position] == 0x89:
                self.sock.sendall(frame(10, payload))
            position = end
        self._received = data[position:]

    def check(self) -> None:
        for publisher, wanted in self.find_wanted().items():
            got = [text for text in self.messages if text.startswith(publisher)]
            assert got == wanted
        assert len(self.messages) == self.left


def start_task(site: Site, broker: str) -> None:
    code = (
        "from tests.publisher.tasks import publish\n"
        f"publish.delay('task', {COUNT}, {GROUPS})"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=celery_environ(site, broker),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert result.returncode == 0, result.stderr


def publish(site: Site, publisher: str, broker: str) -> Any:
    if publisher == "view":
        # A piece each time: a request has to end.
        for start in range(0, COUNT, 500):
            stop = min(start + 500, COUNT)
            arguments = [publisher, start, stop, GROUPS, "group "]
            assert site.server.post_json("/groups/publish/", arguments) == {}
    elif publisher == "task":
        start_task(site, broker)
    else:
        subprocess.run(
            [
                *(sys.executable, "-m", "django", "publish_many"),
                *(publisher, str(COUNT), str(GROUPS)),
            ],
            env={**os.environ, **site.environ, "PYTHONPATH": str(ROOT)},
            check=True,
        )


def test_every_message_once_and_in_order(site: Site, tmp_path: Path) -> None:
    assert site.engine is not None
    broker = f"{site.engine.servers[0].url}/1"
    with contextlib.ExitStack() as stack:
        stack.enter_context(
            open_celery(site, "tests.publisher.tasks", broker, tmp_path)
        )
        clients = []
        for number in range(CLIENTS):
            clients.append(Client(site, number))
            stack.enter_context(clients[-1].sock)
        wait_for(
            lambda: all(
                site.call("count", f"group {group}")
                == sum(group in client.groups for client in clients)
                for group in range(GROUPS)
            ),
            "the members",
        )
        selector = stack.enter_context(selectors.DefaultSelector())
        for client in clients:
            selector.register(client.sock, selectors.EVENT_READ, client)
        started_at = time.monotonic()
        with ThreadPoolExecutor() as executor:
            publishing = [
                executor.submit(publish, site, publisher, broker)
                for publisher in PUBLISHERS
            ]
            wanted = sum(client.left for client in clients)
            while sum(len(client.messages) for client in clients) < wanted:
                ready = selector.select(TIMEOUT)
                assert ready, "nothing more comes"
                for key, _ in ready:
                    key.data.read()
                for future in publishing:
                    # Of one that has failed nothing more comes, but pings do.
                    if future.done():
                        future.result()
            for future in publishing:
                future.result()
        seconds = time.monotonic() - started_at
        print(f"{COUNT * len(PUBLISHERS)} messages, {wanted} deliveries: {seconds} s")
        for client in clients:
            client.check()
