"""Memory of an idle connection: the slope between two numbers of connections.

    python benchmarks/memory.py [--path /echo/] [--connections 5000 15000]

One worker of gunicorn serves the example project; the proportional set size (PSS)
of the worker is read with the first number of connections open and again with the
second, so what a process needs anyway doesn't count.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

from scale import build, children, free_port, pss, start_server


def hold(wsload: Path, port: int, path: str, count: int) -> subprocess.Popen[str]:
    """Open connections and return when all are open; the process holds them."""
    load = subprocess.Popen(
        [
            *(wsload, "idle", "--port", str(port), "--path", path),
            *("-n", str(count), "-t", "600", "-c", "200", "--setup-timeout", "300"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert load.stdout is not None
    for text in load.stdout:
        line = json.loads(text)
        if line["phase"] == "hold":
            if line["open"] != count:
                raise SystemExit(f"{line['open']} of {count} are open: {line}")
            return load
    raise SystemExit("wsload ended early")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--path", default="/echo/")
    parser.add_argument("--connections", type=int, nargs=2, default=[5000, 15000])
    options = parser.parse_args()
    first, second = options.connections
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        wsload = build(directory)
        port = free_port()
        server = start_server(directory, port, workers=1)
        loads = []
        memory = []
        try:
            worker = children(server.pid)
            memory.append(pss(worker))
            for count in first, second - first:
                loads.append(hold(wsload, port, options.path, count))
                time.sleep(3)  # until what the handshakes needed is free again
                memory.append(pss(worker))
        finally:
            for load in loads:
                load.terminate()
                load.wait()
            server.terminate()
            server.wait()
    each = (memory[2] - memory[1]) / (second - first)
    print(f"worker without connections {memory[0] / 2**20:.1f} MiB")
    print(f"{first:,} connections          {memory[1] / 2**20:.1f} MiB")
    print(f"{second:,} connections         {memory[2] / 2**20:.1f} MiB")
    print(f"slope, each                {each:,.0f} bytes")


if __name__ == "__main__":
    main()
