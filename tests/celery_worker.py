"""Starts a worker of Celery for tests."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from .servers import ROOT, TIMEOUT, wait_for
from .sites import Site


def celery_environ(site: Site, broker: str) -> dict[str, str]:
    """Return the environment of a process that belongs to the site and uses Celery."""
    ours = {"CELERY_BROKER": broker, "PYTHONPATH": str(ROOT)}
    return {**os.environ, **site.environ, **ours}


@contextlib.contextmanager
def open_celery(site: Site, app: str, broker: str, directory: Path) -> Iterator[None]:
    """Start a worker and wait until it is ready; print its log at the end."""
    command = [sys.executable, "-m", "celery", "-A", app, "worker"]
    command += ["--concurrency", "1", "--without-gossip", "--without-mingle"]
    command += ["--loglevel", "INFO"]
    path = directory / "celery.log"

    def is_ready() -> bool:
        text = path.read_text()
        assert process.poll() is None, text
        return " ready." in text

    with (
        path.open("wb") as log,
        subprocess.Popen(
            command, env=celery_environ(site, broker), stdout=log, stderr=log
        ) as process,
    ):
        try:
            wait_for(is_ready, "Celery", limit=TIMEOUT * 3)
            yield
        finally:
            process.terminate()
            try:
                process.wait(TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
    print(path.read_text())
