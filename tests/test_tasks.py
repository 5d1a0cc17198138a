"""Tasks that tell how far they are: what is sent, kept and logged, and who sees it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core import signing
from django.core.cache import cache
from django.test import override_settings
from django.utils.translation import gettext_lazy

from dwebsocket.tasks import (
    Task,
    TaskError,
    TaskHandler,
    current_task,
    make_reference,
    progress,
)
from dwebsocket.tasks.store import read_state
from dwebsocket.testing import ClientWebSocket, WebSocketClient

from .servers import TIMEOUT, free_port, wait_for

#: Seconds that no test takes: what waits for them isn't sent.
NEVER = 10_000

logger = logging.getLogger("tests.work")
logger.setLevel(logging.DEBUG)


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    cache.clear()
    handlers = list(logging.getLogger().handlers)
    yield
    assert logging.getLogger().handlers == handlers
    assert current_task() is None
    wait_for(lambda: not find_helpers(), "the end of the helpers")


def find_helpers() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name.startswith("task ")]


@pytest.fixture
def client() -> WebSocketClient:
    return WebSocketClient()


def with_interval(seconds: float, **options: Any) -> Any:
    return override_settings(WEBSOCKET_TASKS={"interval": seconds, **options})


class Watcher:
    """A client that watches one task, and knows of it what a page would."""

    def __init__(self, websocket: ClientWebSocket, name: str) -> None:
        self.websocket = websocket
        websocket.send_json({"type": "task.watch", "content": {"task": name}, "id": 1})
        self.received: list[dict[str, Any]] = []
        while (message := websocket.wait_json(TIMEOUT))["type"] != "reply":
            self.received.append(message)
        self.snapshot: dict[str, Any] = message["content"]

    def wait(self) -> tuple[str, dict[str, Any]]:
        """Return type and content of the next message."""
        message = self.websocket.wait_json(TIMEOUT)
        self.received.append(message)
        return message["type"], message["content"]

    def wait_for_end(self) -> list[str]:
        """Return the types of what comes, up to the end of the task."""
        types = []
        while not types or types[-1] not in ("task.done", "task.failed"):
            types.append(self.wait()[0])
        return types

    @property
    def news(self) -> list[dict[str, Any]]:
        """What isn't in the snapshot yet."""
        seq = self.snapshot.get("seq", 0)
        return [message for message in self.received if message["meta"]["seq"] > seq]

    @property
    def lines(self) -> list[str]:
        found = [line["text"] for line in self.snapshot.get("log", ())]
        for message in self.news:
            found += [line["text"] for line in message["content"].get("lines", ())]
        return found


def read(name: str) -> dict[str, Any]:
    state = read_state(name)
    assert state is not None
    return state


# What is sent


def test_throttled_and_complete_at_the_end(client: WebSocketClient) -> None:
    with client.websocket_connect("/all-tasks/") as websocket, with_interval(NEVER):
        watcher = Watcher(websocket, "report 42")
        assert watcher.snapshot == {"task": "report 42", "state": None}
        with progress("report 42", total=1000, text="Reading") as task:
            type_, content = watcher.wait()
            assert type_ == "task.progress"
            assert content.pop("started") > 0
            assert content == {
                "task": "report 42",
                "state": "running",
                "current": 0,
                "total": 1000,
                "text": "Reading",
                "result": None,
                "error": None,
                "ended": None,
            }
            for number in range(1000):
                task.advance()
                if not number % 100:
                    logger.info("row %d", number)
            task.update(text="Writing", result={"url": "/report/42"})
            websocket.assert_no_message()
        type_, content = watcher.wait()
        assert type_ == "task.log"
        texts = [f"row {number}" for number in range(0, 1000, 100)]
        assert [line["text"] for line in content["lines"]] == texts
        assert [line["number"] for line in content["lines"]] == list(range(1, 11))
        assert {line["level"] for line in content["lines"]} == {"INFO"}
        type_, content = watcher.wait()
        assert (type_, content["state"]) == ("task.done", "done")
        assert (content["current"], content["text"]) == (1000, "Writing")
        assert content["result"] == {"url": "/report/42"}
        assert content["ended"] >= content["started"]
        websocket.assert_no_message()
        metas = [message["meta"] for message in watcher.received]
        first = metas[0]["seq"]
        assert [meta["seq"] for meta in metas] == [first, first + 1, first + 2]
        assert {(meta["task"], meta["run"]) for meta in metas} == {("report 42", first)}


def test_what_is_held_back_does_not_wait_for_more(client: WebSocketClient) -> None:
    with client.websocket_connect("/all-tasks/") as websocket, with_interval(0.05):
        watcher = Watcher(websocket, "a")
        with progress("a") as task:
            assert watcher.wait()[0] == "task.progress"
            assert not find_helpers()
            for number in range(1, 4):
                logger.info("line %d", number)
                task.advance()
                while watcher.wait()[1].get("current") != number:
                    pass
                assert watcher.lines[-1] == f"line {number}"
            assert len(find_helpers()) == 1
        watcher.wait_for_end()


def test_many_threads_advance_one_task() -> None:
    with with_interval(0.001):
        with progress("a", 8000) as task, ThreadPoolExecutor() as executor:
            for _ in range(8):
                executor.submit(lambda: [task.advance() for _ in range(1000)])
    assert read("a")["current"] == 8000


def test_update() -> None:
    with progress("a", 10) as task, with_interval(NEVER):
        task.update(current=3, total=None)
        task.advance(0.5, text="x" * 2000)
        task._send()
        assert read("a")["text"] == "x" * 999 + "…"
        task.update(text=gettext_lazy("Yes"))
        with pytest.raises(TypeError):
            task.update(result={1, 2})
        with pytest.raises(ValueError):
            task.update(result=float("nan"))
    state = read("a")
    assert (state["current"], state["total"], state["result"]) == (3.5, None, None)
    assert state["text"] == "Yes"


@pytest.mark.parametrize("name", ["", "x" * 181, "ü" * 91, "\ud800"])
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(ValueError):
        progress(name)


def test_a_block_is_entered_once() -> None:
    with pytest.raises(TypeError):
        progress(42)  # type: ignore[arg-type]
    task = progress("a")
    with task:
        pass
    with pytest.raises(RuntimeError, match="started already"), task:
        pass


# Failures of the work


class _Told(TaskError):
    pass


@pytest.mark.parametrize(
    "error, options, message",
    [
        (ValueError("SELECT password"), {}, None),
        (ValueError("SELECT password"), {"show_error": True}, "SELECT password"),
        (_Told("Row 7 has no name."), {}, "Row 7 has no name."),
        (KeyboardInterrupt(), {}, None),
    ],
)
def test_failure(
    error: BaseException, options: Any, message: str | None, client: WebSocketClient
) -> None:
    with client.websocket_connect("/all-tasks/") as websocket:
        watcher = Watcher(websocket, "a")
        with pytest.raises(type(error)), progress("a", 9, **options) as task:
            task.advance()
            raise error
        assert watcher.wait_for_end()[-1] == "task.failed"
    expected = {"type": type(error).__name__, "message": message}
    assert watcher.received[-1]["content"]["error"] == expected
    state = read("a")
    assert (state["state"], state["current"], state["error"]) == ("failed", 1, expected)


@override_settings(DEBUG=True)
def test_failure_with_debug() -> None:
    with pytest.raises(ValueError), progress("a"):
        raise ValueError("SELECT password")
    assert read("a")["error"]["message"] == "SELECT password"


# Failures of what it is sent and stored with


def test_what_fails_around_it_does_not_fail_the_work(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dwebsocket.tasks.task._LAST_RETRIES", (0, 0))
    monkeypatch.setattr("dwebsocket.tasks.task._RETRY_INTERVAL", NEVER)
    location = f"redis://127.0.0.1:{free_port()}"
    groups = {"BACKEND": "dwebsocket.groups.redis.RedisBackend", "LOCATION": location}
    cache = {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": location,
    }
    done = []
    with (
        with_interval(0.001),
        override_settings(
            WEBSOCKET_GROUPS={"default": groups}, CACHES={"default": cache}
        ),
        progress("a", 1000) as task,
    ):
        for number in range(1000):
            done.append(number)
            task.advance()
            logger.info("a line")
    assert len(done) == 1000
    texts = [record.getMessage() for record in caplog.records]
    complaints = [text for text in texts if text.startswith("task a can't be")]
    # Read once and then, although the interval is short, only at the beginning and,
    # three times, at the end.
    assert len(complaints) == 1 + 2 * (1 + 3), complaints
    # They aren't lines of the task.
    assert {line["text"] for line in task._log} == {"a line"}


def test_while_it_fails_the_work_does_not_wait_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads = []
    is_away = True

    def fail_to_write(state: dict[str, Any]) -> None:
        threads.append(threading.current_thread())
        if is_away:
            raise OSError("as asked for")

    monkeypatch.setattr("dwebsocket.tasks.task.write_state", fail_to_write)
    monkeypatch.setattr("dwebsocket.tasks.task._RETRY_INTERVAL", 0.001)
    main = threading.current_thread()
    with with_interval(0.001), progress("a") as task:
        assert threads == [main]
        wait_for(lambda: task.advance() or len(threads) > 9, "the thread to try")
        assert threads.count(main) == 1
        is_away = False
        wait_for(lambda: task.advance() or threads.count(main) > 1, "its turn")


def test_watchers_hear_of_it_without_the_cache(client: WebSocketClient) -> None:
    cache = {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": f"redis://127.0.0.1:{free_port()}",
    }
    with client.websocket_connect("/all-tasks/") as websocket:
        watcher = Watcher(websocket, "a")
        with override_settings(CACHES={"default": cache}), progress("a"):
            logger.info("a line")
        assert set(watcher.wait_for_end()) == {"task.progress", "task.log", "task.done"}


class SoftTimeLimitExceeded(Exception):
    """As Celery's, which a signal raises at any time."""


def test_a_time_limit_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    with progress("a") as task:
        with monkeypatch.context() as patch:

            def interrupt(*args: Any) -> None:
                raise SoftTimeLimitExceeded

            patch.setattr("dwebsocket.tasks.task.write_state", interrupt)
            with pytest.raises(SoftTimeLimitExceeded):
                task.advance()
                task._send(wait=True)
    assert read("a")["state"] == "done"


# Joining late, and again


def test_who_comes_late(client: WebSocketClient) -> None:
    with with_interval(NEVER, log_lines=3), progress("a", 10) as task:
        for number in range(5):
            logger.info("line %d", number)
        task.advance(4)
        task._send()
        with client.websocket_connect("/all-tasks/") as websocket:
            watcher = Watcher(websocket, "a")
            assert watcher.snapshot["current"] == 4
            assert watcher.lines == ["line 2", "line 3", "line 4"]
            assert [line["number"] for line in watcher.snapshot["log"]] == [3, 4, 5]
            logger.info("line 5")
            task.end("done")
            assert watcher.wait_for_end() == ["task.log", "task.done"]
            assert watcher.lines[-1] == "line 5"
            seqs = [message["meta"]["seq"] for message in watcher.received]
            last = watcher.snapshot["seq"]
            assert seqs == [last + 1, last + 2]
    with client.websocket_connect("/all-tasks/") as websocket:
        watcher = Watcher(websocket, "a")
        assert watcher.snapshot["state"] == "done"
        assert watcher.lines == ["line 3", "line 4", "line 5"]
        websocket.assert_no_message()


def test_nothing_is_missed_or_comes_twice(client: WebSocketClient) -> None:
    """Whoever joins while the task is busy gets the same."""
    count = 600
    is_watched = threading.Event()

    def work() -> None:
        with with_interval(0.00001, log_lines=count), progress("a", count) as task:
            for number in range(count):
                task.log(f"line {number}")
                task.advance()
                if number == count // 2:
                    is_watched.wait(TIMEOUT)

    with ThreadPoolExecutor() as executor:
        working = executor.submit(work)
        watchers = []
        for number in range(30):
            websocket = client.websocket_connect("/all-tasks/")
            watchers.append(Watcher(websocket, "a"))
            if number == 20:
                is_watched.set()
        for watcher in watchers:
            if watcher.snapshot["state"] != "done":
                watcher.wait_for_end()
            assert watcher.lines == [f"line {number}" for number in range(count)]
            if watcher.news:
                assert watcher.news[-1]["content"]["current"] == count
            watcher.websocket.close()
        working.result()


@pytest.mark.parametrize("is_forgotten", [False, True])
def test_again(client: WebSocketClient, is_forgotten: bool) -> None:
    with client.websocket_connect("/all-tasks/") as websocket:
        watcher = Watcher(websocket, "a")
        for _ in range(2):
            with progress("a"):
                logger.info("a line")
            watcher.wait_for_end()
            if is_forgotten:
                cache.clear()
        metas = [message["meta"] for message in watcher.received]
        seqs = [meta["seq"] for meta in metas]
        assert seqs == sorted(set(seqs))
        assert len({meta["run"] for meta in metas}) == 2
        assert {meta["run"] for meta in metas} <= set(seqs)
        assert watcher.lines == ["a line"] * 2


def test_another_attempt_goes_on() -> None:
    first = Task("a")
    first.start()
    first.log("first")
    first.end("waiting", ValueError())
    before = read("a")
    assert (before["state"], before["error"]["type"]) == ("waiting", "ValueError")
    second = Task("a")
    second.start(goes_on=True)
    state = read("a")
    assert (state["state"], state["error"]) == ("running", None)
    second.log("second")
    second.end("done")
    state = read("a")
    assert [line["number"] for line in state["log"]] == [1, 2]
    assert [line["text"] for line in state["log"]] == ["first", "second"]
    assert (state["run"], state["started"]) == (before["run"], before["started"])
    assert state["seq"] > before["seq"]


# The log


def log_lines(name: str) -> list[str]:
    return [line["text"] for line in read(name)["log"]]


def test_what_is_logged_in_the_block_and_its_context() -> None:
    with progress("outer") as outer:
        assert current_task() is outer
        logger.info("outer")
        with progress("inner") as inner:
            assert current_task() is inner
            logger.debug("too low")
            logger.warning("both %s", "of them")
            thread = threading.Thread(target=logger.info, args=["elsewhere"])
            thread.start()
            thread.join()
        assert current_task() is outer
    logger.info("after")
    assert log_lines("outer") == ["outer", "both of them"]
    assert log_lines("inner") == ["both of them"]
    assert read("inner")["log"][0]["level"] == "WARNING"


def test_which_loggers() -> None:
    with progress("a", logger=None), progress("b", logger="tests", log_level="DEBUG"):
        logger.debug("here")
        logging.getLogger("elsewhere").warning("there")
    assert (log_lines("a"), log_lines("b")) == ([], ["here"])


def test_tracebacks_are_not_sent() -> None:
    with progress("a"):
        try:
            raise ValueError("SELECT password")
        except ValueError:
            logger.exception("It failed: %d", 7)
        logger.info("x" * 2000)
    assert log_lines("a") == ["It failed: 7", "x" * 999 + "…"]


def test_a_handler_that_is_attached() -> None:
    with progress("a", logger=None) as task:
        handler = TaskHandler(task, logging.WARNING)
        logger.addHandler(handler)
        try:
            logger.info("too low")
            thread = threading.Thread(target=logger.warning, args=["elsewhere"])
            thread.start()
            thread.join()
        finally:
            logger.removeHandler(handler)
    assert log_lines("a") == ["elsewhere"]


class _SlowTask:
    """Takes its time with the first line."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.has_begun = threading.Event()
        self.may_go_on = threading.Event()

    def log(self, text: str, level: int, created: float | None = None) -> None:
        if text == "first":
            self.has_begun.set()
            assert self.may_go_on.wait(TIMEOUT)
        self.lines.append(text)


def test_a_line_that_is_being_sent_keeps_no_other_waiting() -> None:
    task = _SlowTask()
    handler = TaskHandler(task)
    logger.addHandler(handler)
    try:
        thread = threading.Thread(target=logger.info, args=["first"])
        thread.start()
        assert task.has_begun.wait(TIMEOUT)
        logger.info("second")
        task.may_go_on.set()
        thread.join()
    finally:
        logger.removeHandler(handler)
    assert task.lines == ["second", "first"]


# Who may watch


def watch(websocket: ClientWebSocket, task: object) -> Any:
    """Return the state, or the code of the error."""
    content = {"type": "task.watch", "content": {"task": task}, "id": 1}
    websocket.send_json(content)
    answer = websocket.wait_json()["content"]
    return answer.get("code", answer.get("task"))


def test_a_reference(client: WebSocketClient, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = make_reference("a task")
    with client.websocket_connect("/tasks/") as websocket:
        assert watch(websocket, reference) == "a task"
        # The name alone doesn't do, nor does what somebody else has signed.
        for wrong in ("a task", reference[:-1], "", signing.dumps(["a task", None])):
            assert watch(websocket, wrong) == "forbidden"
        for wrong in (None, 7, ["a task"]):
            assert watch(websocket, wrong) == "bad_message"
        websocket.send_json({"type": "task.watch", "content": "a task", "id": 1})
        assert websocket.wait_json()["content"]["code"] == "bad_message"
        with with_interval(1, timeout=1):
            monkeypatch.setattr(signing.time, "time", lambda: 4e9)
            assert watch(websocket, reference) == "forbidden"


@pytest.fixture
def users(database: None) -> Any:
    return {user.username: user for user in User.objects.all()}


def test_a_reference_for_a_user(client: WebSocketClient, users: Any) -> None:
    reference = make_reference("a", users["ann"])
    for name, expected in (("ann", "a"), ("root", "forbidden"), (None, "forbidden")):
        client.logout()
        if name is not None:
            client.force_login(users[name])
        with client.websocket_connect("/tasks/") as websocket:
            assert watch(websocket, reference) == expected


def test_by_name(client: WebSocketClient, users: Any) -> None:
    for name, expected in (("ann", "forbidden"), ("root", "secret")):
        client.force_login(users[name])
        with client.websocket_connect("/all-tasks/") as websocket:
            assert watch(websocket, "public") == "public"
            assert watch(websocket, "secret") == expected
            assert watch(websocket, "x" * 200) == "forbidden"


def test_unwatch(client: WebSocketClient) -> None:
    with client.websocket_connect("/all-tasks/") as websocket:
        watcher = Watcher(websocket, "a")
        content = {"task": "a"}
        websocket.send_json({"type": "task.unwatch", "content": content, "id": 2})
        assert watcher.websocket.wait_json()["type"] == "reply"
        with progress("a"):
            pass
        websocket.assert_no_message()
