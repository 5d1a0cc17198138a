"""Celery's tasks, watched by their ids: a real worker, a real Redis."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import celery
import pytest
from selenium.webdriver.support.ui import WebDriverWait

from .celery_worker import open_celery
from .clients import connect
from .redis_servers import open_redis
from .servers import TIMEOUT
from .sites import Site


class Work:
    """The site with a worker of Celery beside it."""

    def __init__(self, site: Site, broker: str) -> None:
        self.site = site
        self._app = celery.Celery(broker=broker)

    def send(self, name: str, *arguments: Any, id: str) -> None:
        self._app.send_task(f"tests.celery_app.{name}", arguments, task_id=id)

    def revoke(self, id: str) -> None:
        self._app.control.revoke(id, terminate=True)

    @contextlib.contextmanager
    def watch(self, id: str) -> Iterator[Watcher]:
        with connect(self.site.server, "/all-tasks/") as websocket:
            yield Watcher(websocket, id)


class Watcher:
    def __init__(self, websocket: Any, id: str) -> None:
        self._websocket = websocket
        self.received: list[dict[str, Any]] = []
        content = {"task": id}
        websocket.send(json.dumps({"type": "task.watch", "content": content, "id": 1}))
        self.snapshot = self.wait()["content"]

    def wait(self) -> dict[str, Any]:
        """Return the next message."""
        message: dict[str, Any] = json.loads(self._websocket.recv(TIMEOUT))
        self.received.append(message)
        return message

    def wait_for(self, state: str) -> dict[str, Any]:
        """Return the content of the message that has this state."""
        while (content := self.wait()["content"]).get("state") != state:
            pass
        return content

    @property
    def lines(self) -> list[str]:
        found = [line["text"] for line in self.snapshot.get("log", ())]
        for message in self.received[1:]:
            found += [line["text"] for line in message["content"].get("lines", ())]
        return found


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, database: None) -> Iterator[Work]:
    directory = tmp_path_factory.mktemp("celery")
    with open_redis(directory) as engine:
        url = engine.servers[0].url
        broker = f"{url}/1"
        with (
            Site(directory, engine, CACHE=f"{url}/2") as site,
            open_celery(site, "tests.celery_app", broker, directory),
        ):
            yield Work(site, broker)


def test_success(work: Work) -> None:
    id = str(uuid4())
    with work.watch(id) as watcher:
        assert watcher.snapshot == {"task": id, "state": None}
        work.send("read_rows", 3, id=id)
        assert watcher.wait_for("running")["total"] is None
        content = watcher.wait_for("done")
        lines = ["row 0", "row 1", "row 2", "That was all."]
        assert watcher.lines == lines
        assert content["result"] is None
        assert "secret" not in str(watcher.received)
    with work.watch(id) as watcher:
        assert watcher.snapshot["state"] == "done"
        assert watcher.lines == lines


def test_on_a_page(work: Work, driver: Any) -> None:
    id = str(uuid4())
    driver.get(f"{work.site.server.http}/task/page/{id}/")
    work.send("read_rows", 3, id=id)
    script = "return first.state?.state === 'done' && first.shadowRoot.textContent"
    shown = WebDriverWait(driver, TIMEOUT).until(
        lambda driver: driver.execute_script(script)
    )
    assert "row 2" in shown and "WARNING That was all." in shown
    assert shown.endswith("Done")


def test_what_the_task_tells_itself(work: Work) -> None:
    id = str(uuid4())
    with work.watch(id) as watcher:
        work.send("advance", 1000, id=id)
        content = watcher.wait_for("done")
        assert (content["current"], content["total"]) == (1000, 1000)


def test_failure(work: Work) -> None:
    id = str(uuid4())
    with work.watch(id) as watcher:
        work.send("fail", id=id)
        content = watcher.wait_for("failed")
        assert content["error"] == {"type": "ValueError", "message": None}
        assert watcher.lines == []
        assert "secret" not in str(watcher.received)


def test_another_attempt(work: Work) -> None:
    id = str(uuid4())
    with work.watch(id) as watcher:
        work.send("try_again", id=id)
        content = watcher.wait_for("waiting")
        assert content["error"] == {"type": "ValueError", "message": None}
        content = watcher.wait_for("running")
        assert (content["error"], content["ended"]) == (None, None)
        watcher.wait_for("done")
        assert watcher.lines == ["attempt 0", "attempt 1"]
        assert len({message["meta"]["run"] for message in watcher.received[1:]}) == 1


def test_what_is_terminated(work: Work) -> None:
    id = str(uuid4())
    with work.watch(id) as watcher:
        work.send("linger", id=id)
        while watcher.lines != ["lingering"]:
            watcher.wait()
        work.revoke(id)
        error = {"type": "TaskRevokedError", "message": "terminated"}
        assert watcher.wait_for("failed")["error"] == error
    with work.watch(id) as watcher:
        assert (watcher.snapshot["error"], watcher.lines) == (error, ["lingering"])


def test_what_is_not_to_be_watched(work: Work) -> None:
    other, id = str(uuid4()), str(uuid4())
    with work.watch(other) as watcher, work.watch(id) as following:
        work.send("unwatched", id=other)
        work.send("read_rows", 0, id=id)
        following.wait_for("done")
        assert len(watcher.received) == 1
    with work.watch(other) as watcher:
        assert watcher.snapshot["state"] is None


_HANG = """
import logging, os, signal, sys, time
from dwebsocket.tasks import progress
with progress("hung", 100) as task:
    os.kill(int(sys.argv[1]), signal.SIGSTOP)
    try:
        for number in range(100):
            logging.warning("row %d", number)
            task.advance()
            time.sleep(0.01)
    finally:
        os.kill(int(sys.argv[1]), signal.SIGCONT)
"""


def test_redis_hangs_for_a_while(work: Work) -> None:
    """Not a task of Celery: a process that isn't patched."""
    with work.watch("hung") as watcher:
        pid = work.site.engine.servers[0].process.pid  # type: ignore[union-attr]
        result = work.site.run(_HANG, str(pid))
        assert result.returncode == 0, result.stderr
        # Which may have been lost: then the page asks again.
        with work.watch("hung") as later:
            assert later.snapshot["state"] == "done"
            assert later.snapshot["current"] == 100
            assert later.lines == [f"row {number}" for number in range(100)]
        assert watcher.snapshot["state"] is None


def test_what_is_killed(work: Work) -> None:
    id = str(uuid4())
    with work.watch(id) as watcher:
        work.send("die", id=id)
        error = {"type": "WorkerLostError", "message": None}
        assert watcher.wait_for("failed")["error"] == error
