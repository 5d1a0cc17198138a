"""Starts the servers that the tests talk to, on free ports of 127.0.0.1."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "example_project"

#: Seconds for whatever has to happen; stretched on slow machines.
TIMEOUT = 20 * float(os.environ.get("TEST_TIMEOUT_FACTOR", "1"))


def wait_for(
    condition: Callable[[], object], what: str, *, limit: float = TIMEOUT
) -> None:
    """Wait until ``condition()`` is true; fail the test after ``limit`` seconds."""
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {limit} s in vain for {what}")
        time.sleep(0.01)


def free_port() -> int:
    """Return a port that no client's connection takes before the server does.

    Those take what systems give out when asked for any, from 32768 at the lowest.
    """
    while True:
        # Not the generator whose seed hypothesis sets.
        port = random.SystemRandom().randrange(10000, 32768)
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


def find_program(name: str, package: str) -> str:
    """Return the path of a program; without it, skip, or fail under CI."""
    path = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin")
    if path is None:
        miss(name, package)
    return path


def find_node() -> tuple[str, dict[str, str]]:
    """Return the path of node, and an environment in which it finds ``ws``."""
    node = find_program("node", "node-ws")
    # Where Debian has what it packages.
    directories = [os.environ.get("NODE_PATH", ""), "/usr/share/nodejs"]
    environment = {**os.environ, "NODE_PATH": os.pathsep.join(directories)}
    command = [node, "-e", "require('ws')"]
    if subprocess.run(command, env=environment, capture_output=True).returncode:
        miss("ws for node", "node-ws")
    return node, environment


def miss(name: str, package: str) -> NoReturn:
    """Skip the test for want of something, or fail under CI."""
    message = f"{name} is missing; install it with: apt-get install {package}"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


class Server:
    """A server process; its output is in ``log``, access log included."""

    def __init__(
        self, command: list[str], port: int, directory: Path, **environ: str
    ) -> None:
        self.port = port
        self.tls: ssl.SSLContext | None = None
        self.command = command
        self.log_path = directory / f"server-{port}.log"
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(EXAMPLE))),
            "PYTHONUNBUFFERED": "1",
            **environ,
        }
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws(self) -> str:
        return f"ws{'s' if self.tls else ''}://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def wait_until_ready(self, path: str = "/page/") -> None:
        def is_ready() -> bool:
            if self.process.poll() is not None:
                pytest.fail(f"{self.command} ended:\n{self.log}")
            try:
                return self.get(path)[0] < 500
            except (OSError, http.client.HTTPException):
                return False

        wait_for(is_ready, f"{self.command}")

    def wait_until_listening(self) -> None:
        """Wait until it accepts connections, whatever it then makes of them."""

        def is_listening() -> bool:
            assert self.process.poll() is None, f"{self.command} ended:\n{self.log}"
            with contextlib.suppress(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", self.port), TIMEOUT).close()
                return True
            return False

        wait_for(is_listening, f"{self.command}")

    @property
    def children(self) -> list[int]:
        """Processes that this one has started: gunicorn's workers."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                # "pid (name) state ppid", and the name may hold anything.
                parent = int(stat.read_text().rpartition(")")[2].split()[1])
                if parent == self.process.pid:
                    found.append(int(stat.parent.name))
        return found

    @property
    def memory(self) -> int:
        """Resident bytes of the only worker, or of a server without workers."""
        (pid,) = self.children or [self.process.pid]
        status = Path(f"/proc/{pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024

    def get(
        self, path: str, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], str]:
        """Return status, headers and text of a plain GET."""
        return self._request("GET", path, headers)

    def post_json(self, path: str, value: Any) -> Any:
        """Post a value as JSON; return that of the answer, or the status if not 200."""
        body = json.dumps(value)
        status, _, text = self._request("POST", path, body=body)
        return json.loads(text) if status == 200 else status

    def _request(
        self,
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        body: str | None = None,
    ) -> tuple[int, dict[str, str], str]:
        address = ("127.0.0.1", self.port)
        connection = (
            http.client.HTTPSConnection(*address, timeout=TIMEOUT, context=self.tls)
            if self.tls
            else http.client.HTTPConnection(*address, timeout=TIMEOUT)
        )
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            text = response.read().decode()
            return response.status, dict(response.getheaders()), text

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(TIMEOUT)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


def _gunicorn(worker: str, port: int, *options: str) -> list[str]:
    return [
        *(sys.executable, "-m", "gunicorn", "-k", worker),
        *("-b", f"127.0.0.1:{port}", "--access-logfile", "-"),
        # The control socket is one for all gunicorns of a user.
        *("--graceful-timeout", "2", *NO_CONTROL_SOCKET, *options),
    ]


def _has_control_socket() -> bool:
    from gunicorn.config import KNOWN_SETTINGS

    return any(setting.name == "control_socket_disable" for setting in KNOWN_SETTINGS)


NO_CONTROL_SOCKET = ["--no-control-socket"] if _has_control_socket() else []
#: The same for a gunicorn that something else starts.
GUNICORN_ENVIRON = {"GUNICORN_CMD_ARGS": " ".join(NO_CONTROL_SOCKET)}


def command(kind: str, port: int, site: str = "tests") -> list[str]:
    """Return the command line of one kind of server; ``site`` or "example"."""
    module = f"{site}.wsgi"
    application = f"{module}:application"
    if kind.startswith("pywsgi-"):
        kind = kind.removeprefix("pywsgi-")
        # By its path, its directory would be searched for modules.
        script = "tests.serve_pywsgi"
        return [sys.executable, "-m", script, kind, str(port), module]
    if kind == "redis":
        # Four workers of gunicorn, Redis, and a process that publishes to them.
        return [sys.executable, str(EXAMPLE / "serve_redis.py"), str(port)]
    if kind == "runserver":
        # django-admin runs with whatever DJANGO_SETTINGS_MODULE names.
        django = [sys.executable, "-m", "django"]
        return [*django, "runserver", f"127.0.0.1:{port}"]
    worker, *options = {
        "gunicorn": ["dwebsocket.workers.WebSocketWorker"],
        "gunicorn-3-workers": ["dwebsocket.workers.WebSocketWorker", "-w", "3"],
        "gunicorn-gevent": ["gevent"],
        "gunicorn-gevent_pywsgi": ["gevent_pywsgi"],
        "gunicorn-gevent-websocket": [
            "geventwebsocket.gunicorn.workers.GeventWebSocketWorker"
        ],
        "gunicorn-gthread": ["gthread", "--threads", "4"],
    }[kind]
    return [*_gunicorn(worker, port, *options), application]


#: The six kinds of servers that WebSockets work on, with their variants.
KINDS = [
    "pywsgi-websocket",
    "pywsgi-handler",
    "gunicorn",
    "gunicorn-3-workers",
    "gunicorn-gevent",
    "gunicorn-gevent_pywsgi",
    "pywsgi-stock",
    "pywsgi-gevent-websocket",
    "gunicorn-gevent-websocket",
    "runserver",
    "nginx",
]

#: "nginx-unix" talks to gunicorn over a Unix domain socket, the others over TCP.
PROXIES = ["nginx", "nginx-unix", "caddy", "apache", "haproxy"]


class Farm:
    """Starts each kind of server once and stops them all at the end."""

    def __init__(self, directory: Path, stack: contextlib.ExitStack) -> None:
        self._directory = directory
        self._stack = stack
        self._servers: dict[tuple[str, str], Server] = {}
        self._started: list[Server] = []

    def __call__(self, kind: str, site: str = "tests") -> Server:
        key = (kind, site)
        if key not in self._servers:
            if kind in PROXIES:
                self._servers[key] = self._start_proxy(kind, site)
            else:
                self._servers[key] = self.start(kind, site)
        return self._servers[key]

    def start(
        self,
        kind: str,
        site: str = "tests",
        *,
        ready_path: str | None = None,
        options: Sequence[str] = (),
        **environ: str,
    ) -> Server:
        """Start one more server, with more ``options`` and environment variables.

        It is ready when ``ready_path`` is served; "" doesn't wait for that.
        """
        port = free_port()
        environ.setdefault("DJANGO_SETTINGS_MODULE", f"{site}.settings")
        arguments = [*command(kind, port, site), *options]
        server = Server(arguments, port, self._directory, **environ)
        self._stack.callback(server.stop)
        self._started.append(server)
        if ready_path is None:
            ready_path = "/" if site == "example" else "/page/"
        if ready_path:
            server.wait_until_ready(ready_path)
        return server

    def terminate(self) -> None:
        """Have all servers end at the same time."""
        for server in self._started:
            if server.process.poll() is None:
                server.process.terminate()

    def _start_proxy(self, kind: str, site: str) -> Server:
        """Start a proxy in front of gunicorn."""
        from .proxies import make_command

        if kind.endswith("-unix"):
            address = str(self._directory / f"{site}.sock")
            self.start("gunicorn", site, options=["-b", f"unix:{address}"])
        else:
            address = f"127.0.0.1:{self('gunicorn', site).port}"
        port = free_port()
        command = make_command(kind, self._directory, port, address)
        server = Server(command, port, self._directory)
        self._stack.callback(server.stop)
        server.wait_until_ready("/" if site == "example" else "/page/")
        return server


@contextlib.contextmanager
def open_farm(directory: Path) -> Iterator[Farm]:
    with contextlib.ExitStack() as stack:
        farm = Farm(directory, stack)
        yield farm
        farm.terminate()
