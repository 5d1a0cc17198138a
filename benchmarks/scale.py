"""Hold many idle connections, then send one message over each.

    python benchmarks/scale.py [--connections 150000] [--workers 10] [--hold 60]
    python benchmarks/scale.py --handlers [--connections 500000] [--workers 34]
    python benchmarks/scale.py --storm

Serves the example project's /echo/ view, sessions, auth and all default
middlewares included, with gunicorn's and our worker; wsload holds the connections
from several processes and addresses 127.0.0.x, answers the heartbeats, and at the
end checks one echo over each.  With --handlers it is /echo-handler/, whose
connections have no greenlet.  With --storm, 10,000 connect at once to one worker.
WEBSOCKET_PING_INTERVAL=60 in the environment makes heartbeats as much rarer.
Prints a table and, with --plot FILE.svg, draws connections, memory and processor time
over the run.

Memory is the proportional set size (PSS) of all processes of the server, and the
kernel's: the growth of its slabs and socket buffers, clients' side included.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
EXAMPLE = HERE.parent / "example_project"
#: Below the files that a process may open, which for many is 20,000.
CONNECTIONS_PER_WORKER = 15_000
TICK = os.sysconf("SC_CLK_TCK")


def build(directory: Path) -> Path:
    target = directory / "wsload"
    compiler = shutil.which("cc") or sys.exit("a C compiler is needed")
    subprocess.run(
        [compiler, "-std=gnu11", "-O2", "-o", target, HERE / "wsload.c"], check=True
    )
    return target


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def start_server(directory: Path, port: int, workers: int) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "DEBUG": "0",
        "DATABASE_PATH": str(directory / "db.sqlite3"),
        "PYTHONPATH": str(HERE.parent),
    }
    manage = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
    subprocess.run(manage, cwd=EXAMPLE, env=environment, check=True)
    command = [
        *(sys.executable, "-m", "gunicorn", "-k", "dwebsocket.workers.WebSocketWorker"),
        *("-w", str(workers), "-b", f"127.0.0.1:{port}", "--reuse-port"),
        *("--log-level", "warning", "--graceful-timeout", "60", "example.wsgi"),
    ]
    log = (directory / "server.log").open("wb")
    server = subprocess.Popen(
        command, cwd=EXAMPLE, env=environment, stdout=log, stderr=log
    )
    log.close()
    while len(children(server.pid)) < workers:
        time.sleep(0.1)
    # Until the imports of the workers are done.
    spent, before = 0.0, -1.0
    while spent - before > 0.02 * workers or not spent:
        time.sleep(1)
        before, spent = spent, cpu_seconds(children(server.pid))
    return server


def children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()]


def pss(pids: list[int]) -> int:
    """Return the proportional set size of processes, in bytes."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def kernel_memory() -> int:
    """Return the kernel's slabs and socket buffers, in bytes."""
    total = 0
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("Slab:"):
            total += int(line.split()[1]) * 1024
    for line in Path("/proc/net/sockstat").read_text().splitlines():
        if line.startswith("TCP:"):
            total += int(line.split()[-1]) * resource.getpagesize()
    return total


def cpu_seconds(pids: list[int]) -> float:
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICK


def run(options: argparse.Namespace, directory: Path) -> dict[str, Any]:
    wsload = build(directory)
    port = free_port()
    server = start_server(directory, port, options.workers)
    try:
        pids = [server.pid, *children(server.pid)]
        memory, kernel = pss(pids), kernel_memory()
        load = subprocess.Popen(
            [
                *(wsload, "idle", "--port", str(port), "--path", options.path),
                *("-n", str(options.connections), "-t", str(options.hold)),
                *("-r", str(options.rate), "-c", str(options.concurrency)),
                *("--setup-timeout", "3600", "--hs-timeout", "300", "--verify"),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert load.stdout is not None
        samples: list[tuple[float, int, int, float]] = []
        marks: dict[str, tuple[float, float, int]] = {}
        line: dict[str, Any] = {}
        for text in load.stdout:
            line = json.loads(text)
            cpu = cpu_seconds(pids)
            samples.append((line["t"], line["open"], pss(pids), cpu))
            if line["phase"] == "ramped":
                marks["ramped"] = (line["t"], cpu, kernel_memory())
            elif line["phase"] == "hold":
                marks["held"] = (line["t"], cpu, kernel_memory())
                marks.setdefault("settled", marks["held"])
        load.wait()
        ramped, settled, held = (marks[name] for name in ("ramped", "settled", "held"))
        at_rest = max(sample[2] for sample in samples if sample[0] <= held[0])
        open_ = max(sample[1] for sample in samples)
        return {
            "connections": open_,
            "wanted": options.connections,
            "workers": options.workers,
            "connects_per_second": open_ / ramped[0],
            "server_memory": at_rest,
            "memory_each": (at_rest - memory) / open_,
            "kernel_memory_each": (held[2] - kernel) / open_,
            "idle_cpu": (held[1] - settled[1]) / (held[0] - settled[0]),
            "result": line,
            "samples": samples,
            "log": [
                line
                for line in (directory / "server.log").read_text().splitlines()
                if " closed by client with 1000 " not in line
            ],
        }
    finally:
        server.terminate()
        server.wait()


def report(result: dict[str, Any]) -> None:
    line = result["result"]
    rows = [
        ("connections", f"{result['connections']:,} of {result['wanted']:,}"),
        ("workers", result["workers"]),
        ("connects per second", f"{result['connects_per_second']:,.0f}"),
        ("server memory (PSS)", f"{result['server_memory'] / 2**30:.2f} GiB"),
        ("per connection", f"{result['memory_each'] / 1024:.1f} KiB"),
        ("kernel, both ends", f"{result['kernel_memory_each'] / 1024:.1f} KiB"),
        ("processor while idle", f"{result['idle_cpu']:.1%} of one core"),
        ("pings answered", f"{line['pings_answered']:,}"),
        ("echoes right", f"{line['verify_ok']:,}"),
        ("echoes wrong, missing", f"{line['verify_wrong']}, {line['verify_missing']}"),
        (
            "echo, median and last",
            "{p50:,.0f} us, {max:,.0f} us".format(**line["verify_us"]),
        ),
        ("first error", line.get("first_handshake_error", "none")),
        (
            "refused, closed, lost",
            f"{line['failed']}, {line['closed_by_server']}, {line['lost']}",
        ),
        ("closed cleanly", f"{line['clean_closes']:,}"),
    ]
    for name, value in rows:
        print(f"{name:24} {value}")
    print(*result["log"][-20:], sep="\n")


#: What is drawn: its name, its unit, its colour.
_CURVES = [
    ("connections", "", "#9ab"),
    ("memory of the server (PSS)", " GiB", "#0a7"),
    ("processor of the server", " cores", "#c63"),
]


def plot(result: dict[str, Any], path: Path) -> None:
    """Draw the run as an SVG, each curve in the scale of its own maximum."""
    samples = [(0.0, 0, 0, 0.0), *result["samples"]]
    points: list[list[tuple[float, float]]] = [[], [], []]
    for (before, _, _, spent), (now, open_, memory, cpu) in pairwise(samples):
        used = (cpu - spent) / (now - before) if spent and now > before else 0.0
        for curve, value in zip(points, (open_, memory / 2**30, used), strict=True):
            curve.append((now, value))
    width, height, left, top = 640, 260, 30, 70
    lines = [
        '<svg xmlns="http://www.w3.org/2000/svg" width="700" height="370" '
        'font-family="sans-serif" font-size="13">',
        '<rect width="700" height="370" fill="white"/>',
        f'<path d="M{left} {top}V{top + height}H{left + width}" fill="none" '
        'stroke="#888"/>',
    ]
    end = samples[-1][0]
    for index, ((name, unit, colour), curve) in enumerate(
        zip(_CURVES, points, strict=True)
    ):
        most = max(value for _, value in curve)
        drawn = " ".join(
            f"{left + width * t / end:.1f},{top + height * (1 - v / (most or 1)):.1f}"
            for t, v in curve
        )
        shown = f"{most:,.0f}" if not unit else f"{most:.2f}{unit}"
        lines += [
            f'<polyline points="{drawn}" fill="none" stroke="{colour}" '
            'stroke-width="2"/>',
            f'<text x="{left}" y="{20 + 18 * index}" fill="{colour}">{name}, '
            f"up to {shown}</text>",
        ]
    for tenth in range(0, 11, 2):
        lines.append(
            f'<text x="{left + width * tenth / 10:.0f}" y="{top + height + 20}" '
            f'text-anchor="middle">{end * tenth / 10:.0f} s</text>'
        )
    path.write_text("\n".join([*lines, "</svg>", ""]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--connections", type=int)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--hold", type=int, default=60, help="seconds")
    parser.add_argument("--rate", type=int, default=3000, help="connects per second")
    parser.add_argument("--concurrency", type=int, default=500, help="handshakes")
    parser.add_argument("--plot", type=Path)
    parser.add_argument(
        "--handlers",
        action="store_const",
        dest="path",
        const="/echo-handler/",
        default="/echo/",
        help="connections that need no greenlet, 500,000 by default",
    )
    parser.add_argument(
        "--storm",
        action="store_true",
        help="10,000 at once against one worker, held 5 s",
    )
    options = parser.parse_args()
    if options.storm:
        options.connections = options.concurrency = 10_000
        options.workers, options.rate, options.hold = 1, 0, 5
    if options.connections is None:
        options.connections = 150_000 if options.path == "/echo/" else 500_000
    if options.workers is None:
        options.workers = -(-options.connections // CONNECTIONS_PER_WORKER)
    with tempfile.TemporaryDirectory() as directory:
        result = run(options, Path(directory))
    report(result)
    if options.plot:
        plot(result, options.plot)


if __name__ == "__main__":
    main()
