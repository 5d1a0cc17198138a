"""A test site whose groups are those of several processes, and its members."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

from websockets.exceptions import ConnectionClosed

from .clients import connect, wait_until_closed
from .redis_servers import Engine
from .servers import ROOT, TIMEOUT, Server, command, free_port, wait_for

__all__ = ["ENDED", "Member", "Members", "Site"]

#: The last message of a group in a test: what hasn't come before won't.
ENDED = "the end"


class Member:
    """A client that is in groups; its view does what it asks for."""

    def __init__(self, server: Server, path: str, **options: Any) -> None:
        # With a limit it stops reading, pongs too, at messages that nobody asks for.
        options.setdefault("max_queue", None)
        self.websocket = connect(server, path, **options).__enter__()
        # What was on its way to the group may come first.
        while "id" not in (hello := json.loads(self.receive())):
            pass
        self.id: str = hello["id"]
        self.pid: int = hello["pid"]

    def receive(self) -> str | bytes:
        message: str | bytes = self.websocket.recv(TIMEOUT)
        return message

    def receive_json(self) -> Any:
        return json.loads(self.receive())

    def receive_all(self) -> list[str | bytes]:
        """Return what comes before ``ENDED``."""
        return list(iter(self.receive, ENDED))

    def call(self, name: str, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Have the view call something; nothing else may be on its way."""
        self.websocket.send(json.dumps([name, arguments, options]))
        result: dict[str, Any] = self.receive_json()
        return result

    def wait_until_closed(self) -> int:
        return wait_until_closed(self.websocket)

    def is_open(self) -> bool:
        try:
            return bool(self.websocket.ping().wait(TIMEOUT))
        except ConnectionClosed:
            return False

    def close(self) -> None:
        self.websocket.close()


class Site:
    """Servers of the test site.

    With an ``engine``, two workers on one port and a process on another; without one,
    a process for itself.
    """

    def __init__(
        self, directory: Path, engine: Engine | None = None, **environ: str
    ) -> None:
        self.engine = engine
        self._stack = contextlib.ExitStack()
        self.environ = {"DJANGO_SETTINGS_MODULE": "tests.settings", **environ}
        kinds: list[tuple[str, ...]] = [("gunicorn",)]
        if engine is not None:
            self.environ["GROUPS"] = json.dumps(engine.setting)
            kinds = [("gunicorn", "-w", "2"), ("pywsgi-websocket",)]
        self.servers = []
        for kind, *options in kinds:
            port = free_port()
            server = Server(
                [*command(kind, port), *options], port, directory, **self.environ
            )
            self._stack.callback(server.stop)
            self.servers.append(server)
        for server in self.servers:
            server.wait_until_ready()

    @property
    def server(self) -> Server:
        return self.servers[0]

    @property
    def process_count(self) -> int:
        return 1 if self.engine is None else 3

    def __enter__(self) -> Site:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for server in self.servers:
            if server.process.poll() is None:
                server.process.terminate()
        self._stack.close()

    def call(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Call a function of ``groups`` in a view of one of the workers."""
        answer = self.server.post_json("/groups/call/", [name, arguments, options])
        assert "error" not in answer, answer
        return answer["result"]

    def find_error(self, name: str, *arguments: Any, **options: Any) -> str | None:
        """Return the name of the error that such a call raises."""
        answer = self.server.post_json("/groups/call/", [name, arguments, options])
        error: str | None = answer.get("error")
        return error

    def run(self, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Python code in a process of its own, without any patching."""
        code = f"import django; django.setup()\nfrom dwebsocket import groups\n{code}"
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT), **self.environ},
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )

    def channels(self) -> set[str]:
        """Return what the processes hear, but for what is theirs alone."""
        if self.engine is not None:
            found = self.engine.channels()
        else:
            found = set(json.loads(self.server.get("/groups/state/")[2])["channels"])
        return {name for name in found if not name.startswith("p:")}

    def stats(self) -> dict[int, dict[str, Any]]:
        """Return the counters of all processes, by process."""
        found: dict[int, dict[str, Any]] = {}

        def ask() -> bool:
            for server in self.servers:
                counters = json.loads(server.get("/groups/state/")[2])
                found[counters["pid"]] = counters
            return len(found) >= self.process_count

        wait_for(ask, "all processes to answer")
        return found


class Members:
    """Opens connections, and closes them at the end of a ``with`` block."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Members:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def open(
        self,
        *groups: str,
        server: Server | None = None,
        path: str = "/groups/member/",
        headers: dict[str, str] | None = None,
        compression: str | None = None,
        **options: Any,
    ) -> Member:
        """Connect; the view joins ``groups`` with ``options``."""
        query = [("group", name) for name in groups]
        query.append(("options", json.dumps(options)))
        member = Member(
            server or self.site.server,
            f"{path}?{urlencode(query)}",
            additional_headers=headers,
            compression=compression,
        )
        self._stack.callback(member.close)
        return member

    def open_in_each(self, *groups: str, **options: Any) -> list[Member]:
        """Connect until each process has a member at least."""
        members = [
            self.open(*groups, server=server, **options) for server in self.site.servers
        ]
        while len({member.pid for member in members}) < self.site.process_count:
            members.append(self.open(*groups, **options))
        return members
