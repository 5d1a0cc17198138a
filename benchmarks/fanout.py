"""Measure what one message to many connections costs, beside Channels and C.

    python benchmarks/fanout.py [--members 1000,10000] [--rounds 3] [--seconds 10]
        [--setups c,memory,...] [--json results.json] [--rst docs/performance.rst]

The members of a group are connected by wsload, and one more that publishes: what it
sends, all get.  Servers and Redis share the first core, one or two workers; wsload has
the second one and checks that each member gets each message once and in order.

* Last member: the time from sending a message until the last member has it, with one
  message under way.
* Deliveries per second: with four messages under way.
* CPU: user and system time of all workers per delivery, Redis not counted; the ratio
  is taken to the C server's bare loop of send() calls within the same round.

Needs redis-server; environments are those of compare.py.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import environments
from compare import CLIENT_CORE, SERVER_CORE, Server, serve
from environments import HERE, PEERS, Missing
from report import Sample, as_text, replace_parts
from scale import free_port

#: Messages under way.
ALONE, MANY = 1, 4


@dataclass(frozen=True)
class Setup:
    """A peer of compare.py, and what carries the messages of groups."""

    name: str
    peer: str
    title: str
    workers: int = 1
    layer: str = ""  # of Channels
    redis: bool = True
    path: str = "/group/"

    def command(self, command: str, redis_url: str) -> str:
        """Return the peer's command with what makes it this setup."""
        words = []
        if self.redis:
            words = ["env", f"REDIS_URL={redis_url}"]
        if self.layer:
            words.append(f"CHANNEL_LAYER=channels_redis.{self.layer}")
        words.append(command)
        if self.workers > 1:
            words.append(f"--workers {self.workers}")
        return " ".join(words)


OURS, CHANNELS = "dwebsocket", "channels-uvicorn"
LIST, PUBSUB = "core.RedisChannelLayer", "pubsub.RedisPubSubChannelLayer"
SETUPS = (
    Setup("c", "c", "C, a loop of send()", redis=False, path="/bcast"),
    Setup("memory", OURS, "**dwebsocket**, memory", redis=False),
    Setup("redis", OURS, "**dwebsocket**, Redis"),
    Setup("redis-2", OURS, "**dwebsocket**, Redis, 2 workers", workers=2),
    Setup("channels-list", CHANNELS, "Channels, Redis", layer=LIST),
    Setup("channels-list-2", CHANNELS, "Channels, Redis, 2 workers", 2, LIST),
    Setup("channels-pubsub", CHANNELS, "Channels, Redis pub/sub", layer=PUBSUB),
    Setup(
        "channels-pubsub-2", CHANNELS, "Channels, Redis pub/sub, 2 workers", 2, PUBSUB
    ),
)


@contextlib.contextmanager
def serve_redis() -> Iterator[str]:
    """Run an empty Redis on the servers' core; its URL."""
    program, port = environments.find_program("redis-server"), free_port()
    with tempfile.TemporaryDirectory() as directory:
        process = subprocess.Popen(
            [program, "--port", str(port), "--bind", "127.0.0.1", "--save", ""],
            cwd=directory,
            stdout=subprocess.DEVNULL,
            preexec_fn=lambda: os.sched_setaffinity(0, {SERVER_CORE}),
        )
        try:
            yield f"redis://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


def measure_setup(
    setup: Setup, root: Path, options: argparse.Namespace
) -> Iterator[Sample]:
    (peer,) = (peer for peer in PEERS if peer.name == setup.peer)
    with serve_redis() as url:
        started = replace(peer, command=setup.command(peer.command, url))
        for members in options.members:
            for depth in (ALONE, MANY):
                with serve(started, root) as server:
                    yield fan_out(server, setup, members, depth, options.seconds)


def fan_out(
    server: Server, setup: Setup, members: int, depth: int, seconds: float
) -> Sample:
    load = ("--path", setup.path, "-n", members, "-d", depth, "-t", seconds)
    # As many messages as there is time for; the last of them may take theirs.
    patience = ("-k", 1_000_000, "-w", 2, "--setup-timeout", 200, "--drain", 60)
    line = server.load("fanout", *load, *patience)
    if "error" in line:
        raise Missing(line["error"])
    return {
        "members": members,
        "depth": depth,
        "missing": line["losses"],
        "wrong": line["dupes_or_disorder"] + line["bad_length"],
        "dropped": line["failed_conns"] + line["lost_conns"],
        "messages": line["complete"],
        "cpu": line["server_us_each"],
        "rate": line["deliveries_per_s"],
        "p50": line["complete_us"]["p50"] / 1000,
        "p99": line["complete_us"]["p99"] / 1000,
        "steal": line["steal_s"],
    }


def measure(options: argparse.Namespace, earlier: Sample) -> Sample:
    """Run all setups; return ``earlier`` with what they have shown."""
    root = options.environments.resolve()
    root.mkdir(parents=True, exist_ok=True)
    environments.compile_c("wsload", root)
    versions = {}
    for peer in PEERS:
        if peer.name in {setup.peer for setup in options.setups}:
            directory = environments.prepare(peer, root, None)
            versions[peer.title] = environments.versions(peer, directory)
    redis = environments.run([environments.find_program("redis-server"), "--version"])
    versions["Redis"] = redis.split()[2].partition("=")[2]
    with contextlib.suppress(OSError):  # the processor before other sessions
        Path("/proc/self/autogroup").write_text("-20")
    os.sched_setaffinity(0, {CLIENT_CORE})
    samples: list[Sample] = earlier.get("samples", [])
    stored = {
        "machine": environments.machine(),
        "seconds": options.seconds,
        "versions": {**earlier.get("versions", {}), **versions},
        "samples": samples,
    }
    first = max((sample["round"] for sample in samples), default=0) + 1
    for round_ in range(first, first + options.rounds):
        for setup in options.setups:
            for sample in measure_setup(setup, root, options):
                samples.append({"setup": setup.name, "round": round_, **sample})
                print(json.dumps(samples[-1]), file=sys.stderr, flush=True)
                if options.json:
                    options.json.write_text(json.dumps(stored, indent=1) + "\n")
    return stored


class Results:
    """The samples of a run, as medians over its rounds."""

    def __init__(self, stored: Sample) -> None:
        self.stored = stored
        self._samples: list[Sample] = stored["samples"]
        self.members = sorted({sample["members"] for sample in self._samples})

    def _find(self, name: str, members: int, depth: int) -> dict[int, Sample]:
        wanted = (name, members, depth)
        return {
            x["round"]: x
            for x in self._samples
            if (x["setup"], x["members"], x["depth"]) == wanted
        }

    def _row(self, setup: Setup, members: int) -> list[str]:
        alone = self._find(setup.name, members, ALONE)
        many = self._find(setup.name, members, MANY)
        if not (alone and many):
            return []
        yardstick = self._find("c", members, MANY)
        ratios = [many[r]["cpu"] / yardstick[r]["cpu"] for r in many if r in yardstick]
        samples = (*alone.values(), *many.values())
        if any(x["wrong"] for x in samples):
            return [setup.title, *["fails"] * 7]
        times = [
            f"{median(x[key] for x in alone.values()):,.1f}" for key in ("p50", "p99")
        ]
        if not all(x["messages"] for x in alone.values()):
            times = ["never", "never"]
        failures = [sum(x[key] for x in samples) for key in ("missing", "dropped")]
        return [
            setup.title,
            f"{median(ratios):.2f}" if ratios else "",
            f"{median(x['cpu'] for x in many.values()):.1f}",
            f"{median(x['rate'] for x in many.values()):,.0f}",
            *times,
            *(f"{count:,}" if count else "none" for count in failures),
        ]

    def table(self, members: int, mark: str = "") -> str:
        head = ["Server", "times C", "CPU per delivery, us", "deliveries/s"]
        head += ["last member: median, ms", "99 %, ms", "missing", "dropped"]
        rows = [row for setup in SETUPS if (row := self._row(setup, members))]
        return as_text(head, rows, mark)

    def as_rst(self) -> str:
        stored = self.stored
        rounds = Counter(
            setup for setup, _ in {(x["setup"], x["round"]) for x in self._samples}
        )
        fewest, most = min(rounds.values()), max(rounds.values())
        counted = f"medians of {fewest} to {most} rounds"
        if fewest == most:
            counted = f"medians of {most} rounds" if most > 1 else "one round"
        lines = [
            f"{stored['machine']}; {counted} of {stored['seconds']:g} seconds.",
            "",
            *(f"* {title}: {text}." for title, text in stored["versions"].items()),
        ]
        for members in self.members:
            lines += ["", f"**{members:,} members**", "", self.table(members, "=")]
        return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [setup.name for setup in SETUPS]
    parser.add_argument("--setups", help=f"of {','.join(names)}")
    parser.add_argument("--members", default="1000,10000")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10, help="per measurement")
    parser.add_argument(
        "--environments", type=Path, default=HERE.parent / ".benchmarks"
    )
    parser.add_argument("--json", type=Path, help="add the results to those there")
    parser.add_argument("--from", type=Path, dest="stored", help="show stored results")
    parser.add_argument("--rst", type=Path, help="rewrite the tables in that file")
    options = parser.parse_args()
    chosen = options.setups.split(",") if options.setups else names
    if unknown := set(chosen) - set(names):
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(names)}")
    options.setups = [setup for setup in SETUPS if setup.name in chosen]
    options.members = [int(word) for word in options.members.split(",")]
    if options.stored:
        stored = json.loads(options.stored.read_text())
    else:
        if len(os.sched_getaffinity(0)) < 2:
            parser.error("two processor cores are needed")
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        earlier = {}
        if options.json and options.json.exists():
            earlier = json.loads(options.json.read_text())
        stored = measure(options, earlier)
    results = Results(stored)
    for members in results.members:
        print(f"{members:,} members", results.table(members), "", sep="\n")
    if options.rst:
        replace_parts(options.rst, {"fan-out": results.as_rst()}, "fanout.py")


if __name__ == "__main__":
    main()
