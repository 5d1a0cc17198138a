#!/usr/bin/env python
"""Serve the example project with groups in Redis: `python serve_redis.py [PORT]`.

Starts Redis, gunicorn with four workers and `manage.py publish_noise`, and stops them
together: on Ctrl-C, or when one of them ends by itself. In the environment, REDIS_URL
is a Redis that is there already, WEB_CONCURRENCY the number of workers.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

_START_TIMEOUT = 20  # seconds


def main() -> None:
    """Serve on the port given, or on 8000."""
    port = sys.argv[1] if len(sys.argv) > 1 else "8000"
    os.chdir(Path(__file__).parent)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    os.environ.setdefault("WEB_CONCURRENCY", "4")
    with contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as stack:
        if "REDIS_URL" not in os.environ:
            os.environ["REDIS_URL"] = stack.enter_context(run_redis())
        print(f"Serving on http://127.0.0.1:{port}/, with groups in Redis. Elsewhere:")
        print(f"export REDIS_URL={os.environ['REDIS_URL']}", flush=True)
        worker = "dwebsocket.workers.WebSocketWorker"
        for arguments in (
            ["-m", "gunicorn", "-k", worker, "-b", f"127.0.0.1:{port}", "example.wsgi"],
            ["manage.py", "publish_noise"],
        ):
            stack.enter_context(run([sys.executable, *arguments]))
        # Returns when a child has ended.
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        sys.exit("Stopping all, as a part has ended.")


@contextlib.contextmanager
def run(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process, and stop it at the end."""
    # In a session of its own: Ctrl-C is for this process only, which stops the others
    # one after the other.
    process = subprocess.Popen(command, start_new_session=True)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def run_redis() -> Iterator[str]:
    """Run a Redis that no other program reaches; yield its URL."""
    program = shutil.which("redis-server")
    if program is None:
        sys.exit("There is no redis-server: install it, or set REDIS_URL.")
    with tempfile.TemporaryDirectory(prefix="dwebsocket-") as directory:
        path = f"{directory}/redis.sock"
        options = ["--port", "0", "--unixsocket", path, "--save", ""]
        options += ["--loglevel", "warning", "--dir", directory]
        with run([program, *options]) as process:
            _wait_until_listening(process, path)
            yield f"unix://{path}"


def _wait_until_listening(process: subprocess.Popen[bytes], path: str) -> None:
    deadline = time.monotonic() + _START_TIMEOUT
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as sock:
            sock.connect(path)
            return
        time.sleep(0.05)
    sys.exit("redis-server did not start.")


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
