"""Compare the server with others, side by side on this machine.

    python benchmarks/compare.py [echo] [large] [handshake] [idle]
        [--peers c,dwebsocket,...] [--rounds 5] [--seconds 5] [--json results.json]
        [--rst docs/performance.rst] [--plot docs/performance.svg]

Each server gets an environment of its own, made on first use.  In every round each
of them is started on the first core and loaded from the second one by wsload, which
checks what comes back.  The figures are medians over the rounds; a ratio is taken to
the C server within the same round.  --rst rewrites the tables between the marks in
that file; --from shows stored results again.

What is measured: environments.py says how the servers are set up,

* echo: the server's user and system time per message, with one message under way on
  each connection; throughput and latency beside it;
* large: throughput of messages of 64 KiB, 1 MiB and 16 MiB over four connections;
* handshake: the server's time for an upgrade, for a plain GET on a connection of its
  own, and for a whole life: upgrade, closing handshake, end;
* idle: memory (PSS) that each of 10,000 silent connections adds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import environments
from environments import HERE, PEERS, PEERS_DIRECTORY, Missing, Peer
from report import (
    ECHO,
    LARGE,
    LARGE_CONNECTIONS,
    Results,
    Sample,
    as_text,
    tables,
    write_plot,
    write_rst,
)
from scale import children, cpu_seconds, free_port, pss

SERVER_CORE, CLIENT_CORE = 0, 1
HANDSHAKES = 2000
CONCURRENCY = 8  # of handshakes and GETs
IDLE = 10_000


class Server:
    """A peer that is running."""

    def __init__(self, peer: Peer, port: int, pid: int, wsload: Path) -> None:
        self.peer, self.port, self.pid, self._wsload = peer, port, pid, wsload

    def pids(self) -> list[int]:
        found = [self.pid]
        for pid in found:
            found += children(pid)
        return found

    def command(self, mode: str, *options: object) -> list[str]:
        origin = f"Origin: http://127.0.0.1:{self.port}"  # as browsers send it
        where = ("--port", self.port, "--path", self.peer.path, "-H", origin)
        pids = ("--pid", ",".join(map(str, self.pids())))
        words = (self._wsload, mode, *where, *pids, *options)
        return [str(word) for word in words]

    def load(self, mode: str, *options: object) -> Sample:
        """Run wsload to its end and return its last line."""
        done = subprocess.run(
            self.command(mode, *options), stdout=subprocess.PIPE, text=True
        )
        line: Sample = json.loads(done.stdout.splitlines()[-1])
        return line


@contextlib.contextmanager
def serve(peer: Peer, root: Path) -> Iterator[Server]:
    port = free_port()
    environment = environments.clean_environment()
    environment["NODE_PATH"] = str(root / peer.place / "node_modules")
    names = {
        "bin": root / peer.place / ("" if peer.installer == "cc" else "bin"),
        "example": HERE.parent / "example_project",
    }
    words = [word.format(port=port, **names) for word in peer.command.split()]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            words,
            stdout=log,
            stderr=log,
            cwd=PEERS_DIRECTORY,
            env={**environment, "PYTHONDONTWRITEBYTECODE": "1"},
            preexec_fn=lambda: os.sched_setaffinity(0, {SERVER_CORE}),
        )
        try:
            server = Server(peer, port, process.pid, root / "wsload")
            deadline = time.monotonic() + 60
            while server.load("echo", "-n", 1, "-w", 0, "-t", 0.05)["errors"]:
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise Missing(f"it doesn't start: {log.read().decode()[-500:]}")
                time.sleep(0.1)
            yield server
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                for pid in server.pids():
                    os.kill(pid, signal.SIGKILL)
                process.wait()


def echo(server: Server, options: argparse.Namespace) -> Iterator[Sample]:
    for name, (size, connections) in ECHO.items():
        load = ("-n", connections, "-s", size, "-t", options.seconds)
        yield {"case": name, **flat(server.load("echo", *load))}


def large(server: Server, options: argparse.Namespace) -> Iterator[Sample]:
    for name, size in LARGE.items():
        if size <= server.peer.max_size:
            load = ("-n", LARGE_CONNECTIONS, "-s", size, "-t", options.seconds)
            line = flat(server.load("echo", *load, "--drain", 15))
            yield {"case": name, **line, "rate": line["rate"] * size / 2**20}


def flat(line: Sample) -> Sample:
    """Return what we want of wsload's line about echoes."""
    return {
        "errors": line["errors"],
        "cpu": line.get("server_us_each", 0.0),
        "rate": line["msgs_per_s"],
        "p50": line["latency_us"]["p50"] / 1000,
        "p99": line["latency_us"]["p99"] / 1000,
        "server_cpu": line["server_cpu"],
        "client_cpu": line["client_cpu"],
        "steal": line["steal_s"],
    }


def handshake(server: Server, options: argparse.Namespace) -> Iterator[Sample]:
    concurrency = ("-c", CONCURRENCY)
    server.load("connect", *concurrency, "-w", 0, "-t", 1)  # warms the server up
    line = server.load("connect", *concurrency, "-w", 0.2, "-t", options.seconds)
    yield {"case": "life", "cpu": line["server_us_each"], "errors": line["errors"]}
    ramp = ("-n", HANDSHAKES, "-t", 0, "--src", 0)
    pids, before, after = server.pids(), 0.0, 0.0
    before = cpu_seconds(pids)
    with subprocess.Popen(
        server.command("idle", *concurrency, *ramp), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for text in process.stdout:
            line = json.loads(text)
            if line["phase"] == "ramped":
                after = cpu_seconds(pids)
    upgrade = (after - before) / HANDSHAKES * 1e6
    yield {"case": "upgrade", "cpu": upgrade, "errors": line["failed"]}
    if server.peer.get is not None:
        get_many(server, HANDSHAKES // 10)
        before = cpu_seconds(pids)
        errors = get_many(server, HANDSHAKES)
        get = (cpu_seconds(pids) - before) / HANDSHAKES * 1e6
        yield {"case": "get", "cpu": get, "errors": errors}


def get_many(server: Server, count: int) -> int:
    """GET the trivial view `count` times and return how many answers were wrong."""
    host = f"127.0.0.1:{server.port}"
    lines = (f"GET {server.peer.get} HTTP/1.1", f"Host: {host}", "Connection: close")
    request = "\r\n".join([*lines, "", ""]).encode()
    wrong = []

    def work() -> None:
        for _ in range(count // CONCURRENCY):
            with socket.create_connection(("127.0.0.1", server.port)) as sock:
                sock.sendall(request)
                answer = b"".join(iter(lambda: sock.recv(65536), b""))
            if not (answer.startswith(b"HTTP/1.1 200") and b"Hello" in answer):
                wrong.append(answer)

    threads = [threading.Thread(target=work) for _ in range(CONCURRENCY)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(wrong)


def idle(server: Server, options: argparse.Namespace) -> Iterator[Sample]:
    server.load("connect", "-c", CONCURRENCY, "-w", 0, "-t", 1)  # imports all it needs
    pids, wanted = server.pids(), min(IDLE, server.peer.max_connections)
    before, at_rest, open_ = pss(pids), 0, 0
    load = ("-n", wanted, "-c", 32, "-t", 4, "--setup-timeout", 120)
    with subprocess.Popen(
        server.command("idle", *load), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for text in process.stdout:
            line = json.loads(text)
            if line["phase"] == "hold":
                at_rest, open_ = pss(pids), line["open"]
    each = (at_rest - before) / max(open_, 1) / 1024
    memory = {"each": each, "start": before / 2**20, "open": open_}
    yield {"case": "idle", **memory, "errors": wanted - open_}


WORKLOADS: dict[str, Callable[[Server, argparse.Namespace], Iterator[Sample]]] = {
    "echo": echo,
    "large": large,
    "handshake": handshake,
    "idle": idle,
}


def measure(options: argparse.Namespace) -> Sample:
    """Run the workloads, and return all samples with what they were taken on."""
    root = options.environments.resolve()
    root.mkdir(parents=True, exist_ok=True)
    environments.compile_c("wsload", root)
    chosen, left_out, versions = [], {}, {}
    for peer in PEERS:
        if peer.name not in options.peers:
            continue
        try:
            directory = environments.prepare(peer, root, options.python38)
            versions[peer.name] = environments.versions(peer, directory)
            chosen.append(peer)
        except Missing as exc:
            left_out[peer.name] = str(exc)
            print(f"{peer.name} is left out: {exc}", file=sys.stderr)
    with contextlib.suppress(OSError):  # the processor before other sessions
        Path("/proc/self/autogroup").write_text("-20")
    os.sched_setaffinity(0, {CLIENT_CORE})
    samples: list[Sample] = []
    with contextlib.suppress(KeyboardInterrupt):  # then what there is is shown
        for round_ in range(1, options.rounds + 1):
            for peer in chosen:
                for name in options.workloads:
                    if name == "idle" and round_ > 1:
                        continue  # memory doesn't change from round to round
                    try:
                        samples += run(peer, name, round_, root, options)
                    except (Missing, OSError) as exc:  # it may end amid the load
                        left_out[peer.name] = f"{name}: {exc}"
    return {
        "machine": environments.machine(),
        "rounds": max((sample["round"] for sample in samples), default=0),
        "seconds": options.seconds,
        "versions": versions,
        "left_out": left_out,
        "samples": samples,
    }


def run(
    peer: Peer, name: str, round_: int, root: Path, options: argparse.Namespace
) -> list[Sample]:
    """Return the samples of one workload with one server, shown as they come."""
    samples = []
    with serve(peer, root) as server:
        for sample in WORKLOADS[name](server, options):
            sample.update(workload=name, peer=peer.name, round=round_)
            samples.append(sample)
            print(json.dumps(sample), file=sys.stderr, flush=True)
    return samples


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workloads", nargs="*", metavar="workload", help="all")
    names = [peer.name for peer in PEERS]
    parser.add_argument("--peers", help=f"of {','.join(names)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5, help="per measurement")
    parser.add_argument(
        "--environments", type=Path, default=HERE.parent / ".benchmarks"
    )
    parser.add_argument("--python38", help="a Python 3.8, for the original dwebsocket")
    parser.add_argument("--json", type=Path, help="store the results there")
    parser.add_argument("--from", type=Path, dest="stored", help="show stored results")
    parser.add_argument("--rst", type=Path, help="rewrite the tables in that file")
    parser.add_argument("--plot", type=Path, help="draw the small echoes, SVG")
    options = parser.parse_args()
    options.workloads = options.workloads or list(WORKLOADS)
    options.peers = options.peers.split(",") if options.peers else names
    for given, known in ((options.workloads, WORKLOADS), (options.peers, names)):
        if unknown := set(given) - set(known):
            parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
    if options.stored:
        stored = json.loads(options.stored.read_text())
    else:
        if len(os.sched_getaffinity(0)) < 2:
            parser.error("two processor cores are needed")
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        stored = measure(options)
    if options.json:
        options.json.write_text(json.dumps(stored, indent=1) + "\n")
    results = Results(stored)
    for found in tables(results).values():
        for title, head, rows in found:
            print(title, as_text(head, rows), "", sep="\n")
    if options.rst:
        write_rst(results, options.rst)
    if options.plot:
        write_plot(results, options.plot)


if __name__ == "__main__":
    main()
