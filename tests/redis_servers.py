"""Starts Redis in the forms that groups work on, on free ports of 127.0.0.1."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import redis
import trustme

from .servers import TIMEOUT, find_program, free_port, wait_for

SLOTS = 16384


class RedisServer:
    """A Redis without persistence; ``options`` are those of its command line."""

    def __init__(
        self, directory: Path, *options: str, authority: trustme.CA | None = None
    ) -> None:
        self.port = free_port()
        self._directory = directory
        self.connection: dict[str, Any] = {}
        arguments = ["--port", str(self.port)]
        if authority is not None:
            arguments = ["--port", "0", "--tls-port", str(self.port)]
            arguments += self._certify(authority)
        self._command = [
            *(find_program("redis-server", "redis-server"), *arguments),
            *("--bind", "127.0.0.1", "--dir", str(directory)),
            *("--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"),
            *options,
        ]
        self.start()

    def _certify(self, authority: trustme.CA) -> list[str]:
        certificate = self._directory / f"redis-{self.port}.pem"
        issued = authority.issue_cert("127.0.0.1")
        issued.private_key_and_cert_chain_pem.write_to_path(certificate)
        ca_certificate = self._directory / "authority.pem"
        authority.cert_pem.write_to_path(ca_certificate)
        self.connection["ssl_ca_certs"] = str(ca_certificate)
        return [
            *("--tls-cert-file", str(certificate), "--tls-key-file", str(certificate)),
            *("--tls-ca-cert-file", str(ca_certificate), "--tls-auth-clients", "no"),
        ]

    @property
    def url(self) -> str:
        return f"redis{'s' if self.connection else ''}://127.0.0.1:{self.port}"

    def start(self) -> None:
        with (self._directory / f"redis-{self.port}.log").open("ab") as log:
            self.process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log
            )
        wait_for(self._is_ready, "Redis")

    def _is_ready(self) -> bool:
        try:
            return self.ask("PING") == b"PONG"
        except redis.ConnectionError:
            return False

    def ask(self, *command: Any) -> Any:
        """Return the answer to one command."""
        connection = {**self.connection, "protocol": 2, "socket_timeout": TIMEOUT}
        with redis.Redis.from_url(self.url, **connection) as client:
            # Not as the method of the command would present it.
            client.response_callbacks.clear()
            return client.execute_command(*command)

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(TIMEOUT)


class Engine:
    """What WEBSOCKET_GROUPS says of it, and the servers that it consists of."""

    def __init__(
        self,
        servers: list[RedisServer],
        *,
        location: str | None = None,
        **options: Any,
    ) -> None:
        self.servers = servers
        self.setting = {
            "default": {
                "BACKEND": "dwebsocket.groups.redis.RedisBackend",
                "LOCATION": location,
                "OPTIONS": options,
            }
        }

    def channels(self) -> set[str]:
        """Return what is subscribed to, but for probes."""
        kind = "CHANNELS"
        if self.setting["default"]["OPTIONS"].get("cluster"):
            kind = "SHARDCHANNELS"
        found: set[str] = set()
        for server in self.servers:
            names = server.ask("PUBSUB", kind, "dwebsocket:*")
            found |= {name.decode().partition(":")[2] for name in names}
        return {name for name in found if not name.startswith("probe:")}


@contextlib.contextmanager
def open_redis(directory: Path, kind: str = "redis") -> Iterator[Engine]:
    """Start "redis" (one server), "tls", "sentinel" or "cluster"."""
    with contextlib.ExitStack() as stack:
        yield _ENGINES[kind](directory, stack)


def _start(
    directory: Path, stack: contextlib.ExitStack, *options: str, **certificate: Any
) -> RedisServer:
    server = RedisServer(directory, *options, **certificate)
    # The process of then: tests start servers anew.
    stack.callback(lambda: server.kill())
    return server


def _open_single(directory: Path, stack: contextlib.ExitStack) -> Engine:
    server = _start(directory, stack)
    return Engine([server], location=server.url)


def _open_tls(directory: Path, stack: contextlib.ExitStack) -> Engine:
    server = _start(directory, stack, authority=trustme.CA())
    return Engine([server], location=server.url, connection=server.connection)


def _open_sentinel(directory: Path, stack: contextlib.ExitStack) -> Engine:
    master = _start(directory, stack)
    replicas = ["--replicaof", f"127.0.0.1 {master.port}"]
    replica = _start(directory, stack, *replicas)
    wait_for(
        lambda: b"master_link_status:up" in replica.ask("INFO", "replication"),
        "the replica",
    )
    port = free_port()
    conf = directory / f"sentinel-{port}.conf"
    conf.write_text(
        f"bind 127.0.0.1\nport {port}\ndir {directory}\n"
        f"sentinel monitor main 127.0.0.1 {master.port} 1\n"
        "sentinel down-after-milliseconds main 1000\n"
        "sentinel failover-timeout main 3000\n"
    )
    program = find_program("redis-sentinel", "redis-sentinel")
    with (directory / f"sentinel-{port}.log").open("wb") as log:
        process = subprocess.Popen([program, str(conf)], stdout=log)
    stack.callback(process.wait, TIMEOUT)
    stack.callback(process.kill)

    def knows_replica() -> bool:
        try:
            with redis.Redis(port=port) as client:
                return bool(client.sentinel_slaves("main"))
        except redis.ConnectionError:
            return False

    wait_for(knows_replica, "Sentinel")
    # Another Sentinel, which is away.
    sentinels = [("127.0.0.1", free_port()), ("127.0.0.1", port)]
    return Engine([master, replica], sentinels=sentinels, service="main")


def _open_cluster(
    directory: Path, stack: contextlib.ExitStack, *, replicas: int = 0
) -> Engine:
    servers, buses = [], []
    for _ in range(3 + replicas):
        bus = free_port()
        options = ["--cluster-enabled", "yes", "--cluster-port", str(bus)]
        options += ["--cluster-config-file", f"nodes-{bus}.conf"]
        options += ["--cluster-node-timeout", "1000"]
        options += ["--cluster-announce-ip", "127.0.0.1"]
        servers.append(_start(directory, stack, *options))
        buses.append(bus)
    first, *others = servers
    bounds = [0, SLOTS // 3, 2 * SLOTS // 3, SLOTS]
    for server, start, end in zip(servers, bounds, bounds[1:], strict=False):
        server.ask("CLUSTER", "ADDSLOTSRANGE", start, end - 1)
    for number, server in enumerate(servers, 1):
        server.ask("CLUSTER", "SET-CONFIG-EPOCH", number)
    for server, bus in zip(others, buses[1:], strict=True):
        first.ask("CLUSTER", "MEET", "127.0.0.1", server.port, bus)
    wait_for_cluster(servers)
    for server, primary in zip(servers[3:], servers, strict=False):
        server.ask("CLUSTER", "REPLICATE", primary.ask("CLUSTER", "MYID"))
        wait_for(
            lambda: b"master_link_status:up" in server.ask("INFO", "replication"),  # noqa: B023
            "the replica",
        )
    return Engine(servers, location=first.url, cluster=True)


def wait_for_cluster(servers: list[RedisServer]) -> None:
    """Wait until all know all, and that all is well."""

    def is_well(server: RedisServer) -> bool:
        info = server.ask("CLUSTER", "INFO")
        nodes = server.ask("CLUSTER", "NODES").splitlines()
        return b"cluster_state:ok" in info and len(nodes) >= len(servers)

    wait_for(lambda: all(map(is_well, servers)), "the cluster")


def _open_cluster_with_replicas(directory: Path, stack: contextlib.ExitStack) -> Engine:
    return _open_cluster(directory, stack, replicas=3)


_ENGINES: dict[str, Callable[[Path, contextlib.ExitStack], Engine]] = {
    "redis": _open_single,
    "tls": _open_tls,
    "sentinel": _open_sentinel,
    "cluster": _open_cluster,
    "cluster with replicas": _open_cluster_with_replicas,
}
