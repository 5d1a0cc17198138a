"""A task as it tells of itself, at most a few times a second.

Rules:

1. Whoever changes something sends it, if the last sending is long enough ago.  What is
   held back is sent by a thread, which isn't started before there is something.
2. What has been sent has been stored before; see ``store``.
3. Nothing that goes wrong with it reaches the work.  Then only the thread tries it,
   and more rarely: it may take long.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Any

from django.conf import settings as django_settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import connections
from gevent import get_hub, monkey

from ..conf import settings
from .logs import Capture, sending
from .store import check_name, publish, read_state, write_state

__all__ = ["DONE", "FAILED", "WAITING", "Task", "TaskError", "end_elsewhere"]

logger = logging.getLogger("dwebsocket")

#: The states: WAITING is for another attempt.
RUNNING, WAITING, DONE, FAILED = "running", "waiting", "done", "failed"
_TYPES = {DONE: "task.done", FAILED: "task.failed"}

#: Characters of a line, or of another text.
_MAX_TEXT = 1000
#: Seconds between attempts while storing or sending fails; at the end, until the next.
_RETRY_INTERVAL = 5
_LAST_RETRIES = (0.2, 1)

_UNSET: Any = object()

#: Type, content and number.
_Message = tuple[str, dict[str, Any], int]


class TaskError(Exception):
    """Its message is for those who watch the task that fails with it."""


class Task:
    """What ``progress`` returns: a block of work.  Its methods are thread-safe.

    The block may be entered once.  An exception in it is told of, and goes on.
    """

    def __init__(
        self,
        name: str,
        total: float | None = None,
        *,
        text: str = "",
        log_level: int | str = logging.INFO,
        loggers: Sequence[str] = ("root",),
        show_error: bool = False,
        excluded: tuple[str, ...] = (),
    ) -> None:
        check_name(name)
        self.name = name
        self._options = settings.tasks
        self._show_error = show_error
        self._capture = Capture(self, log_level, loggers, excluded)
        # Held for a moment, while what follows is changed.
        self._lock = threading.RLock()
        self._state: dict[str, Any] = {
            "task": name,
            "state": None,
            "current": 0,
            "total": total,
            "text": _shorten(text),
            "result": None,
            "error": None,
            "started": None,
            "ended": None,
        }
        self._seq = self._run = self._last_number = 0
        lines = self._options.log_lines
        self._log: deque[dict[str, Any]] = deque(maxlen=lines)
        self._unsent: deque[dict[str, Any]] = deque(maxlen=lines)
        self._has_changed = self._is_pending = False
        # Held while it is stored and sent.
        self._sender = threading.Lock()
        self._next_at = 0.0
        self._is_well = True
        self._helper: threading.Thread | None = None
        self._wake = threading.Event()
        self._is_over = threading.Event()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {self._state['state']}>"

    # The block

    def __enter__(self) -> Task:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.end(DONE)
        else:
            self.end(FAILED, error)

    def start(self, *, goes_on: bool = False) -> None:
        """Begin; ``goes_on`` continues what waits for another attempt."""
        if self._state["state"] is not None:
            raise RuntimeError(f"the task {self.name} has been started already")
        before = self._read()
        with self._lock:
            if goes_on and before is not None and before["state"] == WAITING:
                self._adopt(before)
                self._state.update(current=0, error=None, ended=None)
            else:
                self._begin_after(before)
            self._state["state"] = RUNNING
            self._has_changed = self._is_pending = True
        self._capture.start()
        self._tell()

    def end(self, state: str, error: BaseException | None = None) -> None:
        """End as DONE, FAILED or, for now, WAITING; again does nothing."""
        self._capture.stop()
        with self._lock:
            if self._is_over.is_set():
                return
            self._state.update(state=state, ended=time.time())
            if error is not None:
                self._state["error"] = _describe(error, is_shown=self._show_error)
            self._has_changed = True
            self._is_over.set()
        self._wake.set()
        for pause in _LAST_RETRIES:
            if self._send(wait=True):
                return
            time.sleep(pause)
        self._send(wait=True)

    def abandon(self) -> None:
        """End without telling so: another process does."""
        self._capture.stop()
        self._is_over.set()
        self._wake.set()

    def _begin_after(self, before: dict[str, Any] | None) -> None:
        self._jump(0 if before is None else before["seq"])
        self._run = self._seq + 1
        self._state["started"] = time.time()

    def _adopt(self, before: dict[str, Any]) -> None:
        self._state.update((key, before[key]) for key in self._state)
        self._jump(before["seq"])
        self._run = before["run"]
        self._log.extend(before["log"])
        if self._log:
            self._last_number = self._log[-1]["number"]

    def _jump(self, seq: int) -> None:
        # After all that was sent, also where the last state is lost, or isn't the last:
        # nobody sends a message in a microsecond.
        self._seq = max(seq, int(time.time() * 1_000_000))

    # In the block

    def advance(self, amount: float = 1, *, text: str | None = None) -> None:
        """Add to what is done; ``text`` says what is being done now."""
        with self._lock:
            self._state["current"] += amount
            if text is not None:
                self._state["text"] = _shorten(text)
            self._has_changed = self._is_pending = True
        self._tell()

    def update(
        self,
        *,
        current: float = _UNSET,
        total: float | None = _UNSET,
        text: str = _UNSET,
        result: Any = _UNSET,
    ) -> None:
        """Change what is told; a ``total`` of None isn't known.

        ``result`` is any JSON for those who watch, the address of a file say; raises
        TypeError or ValueError for what isn't.
        """
        changes = {"current": current, "total": total, "text": text, "result": result}
        changes = {key: value for key, value in changes.items() if value is not _UNSET}
        if "text" in changes:
            changes["text"] = _shorten(text)
        if "result" in changes:
            encoded = json.dumps(result, cls=DjangoJSONEncoder, allow_nan=False)
            changes["result"] = json.loads(encoded)
        with self._lock:
            self._state.update(changes)
            self._has_changed = self._is_pending = True
        self._tell()

    def log(
        self, text: str, level: int = logging.INFO, created: float | None = None
    ) -> None:
        """Send a line along; ``level`` and ``created`` are as in a LogRecord."""
        with self._lock:
            self._last_number += 1
            line = {
                "number": self._last_number,
                "time": time.time() if created is None else created,
                "level": logging.getLevelName(level),
                "text": _shorten(text),
            }
            self._log.append(line)
            self._unsent.append(line)
            self._is_pending = True
        self._tell()

    # Sending

    def _tell(self) -> None:
        """Something has changed: send it now, or soon."""
        if self._is_over.is_set():
            return
        if self._is_well and time.monotonic() >= self._next_at:
            self._send()
        if not self._is_pending:
            return
        if self._helper is None:
            with self._lock:
                if self._helper is None:
                    self._helper = threading.Thread(
                        target=self._help, name=f"task {self.name}", daemon=True
                    )
                    self._helper.start()
        if not self._wake.is_set():
            self._wake.set()

    def _help(self) -> None:
        """Send what is held back, as long as the task runs."""
        try:
            while not self._is_over.is_set():
                self._wake.wait()
                self._wake.clear()
                while self._is_pending:
                    delay = self._next_at - time.monotonic()
                    if self._is_over.wait(max(delay, 0)):
                        break
                    if delay <= 0:
                        self._send(wait=True)
        finally:
            # This thread's own.
            connections.close_all()
            _destroy_hub()

    def _send(self, *, wait: bool = False) -> bool:
        """Store and send what has changed; return whether that went well.

        Without ``wait`` nothing happens while another thread does it.
        """
        if not self._sender.acquire(blocking=wait):
            return True
        try:
            with self._lock:
                messages = self._make_messages()
                state = {**self._state, "seq": self._seq, "run": self._run}
                state["log"] = list(self._log)
                self._is_pending = False
            self._is_well = not messages or self._deliver(state, messages)
            if not self._is_well:
                self._has_changed = self._is_pending = True
            interval = self._options.interval if self._is_well else _RETRY_INTERVAL
            self._next_at = time.monotonic() + interval
            return self._is_well
        finally:
            self._sender.release()

    def _make_messages(self) -> list[_Message]:
        """Return types, contents and numbers of what hasn't been sent yet."""
        messages: list[_Message] = []
        if self._unsent:
            self._seq += 1
            messages.append(("task.log", {"lines": list(self._unsent)}, self._seq))
            self._unsent.clear()
        if self._has_changed:
            self._seq += 1
            type_ = _TYPES.get(self._state["state"], "task.progress")
            messages.append((type_, dict(self._state), self._seq))
            self._has_changed = False
        return messages

    def _deliver(self, state: dict[str, Any], messages: list[_Message]) -> bool:
        is_stored = self._try("stored", write_state, state)
        for type_, content, seq in messages:
            send = partial(publish, task=self.name, run=self._run, seq=seq)
            if not self._try("sent", send, type_, content):
                return False
        return is_stored

    def _try(self, what: str, function: Callable[..., None], *args: Any) -> bool:
        # Whatever a cache or an engine raises: the work goes on.
        with sending():
            try:
                function(*args)
            except Exception as exc:
                # Celery throws it, by a signal, into whatever is going on.
                if type(exc).__name__ == "SoftTimeLimitExceeded":
                    raise
                logger.warning("task %s can't be %s: %s", self.name, what, exc)
                return False
        return True

    def _read(self) -> dict[str, Any] | None:
        found: list[dict[str, Any] | None] = [None]
        self._try("read", lambda: found.append(read_state(self.name)))
        return found[-1]


def end_elsewhere(
    name: str, state: str, error: BaseException | None, *, show_error: bool = False
) -> None:
    """End a task that can't do it itself; nothing if it has done so."""
    task = Task(name, loggers=(), show_error=show_error)
    before = task._read()
    if before is None:
        task._begin_after(None)
    elif before["state"] in (DONE, FAILED):
        return
    else:
        task._adopt(before)
    task.end(state, error)


def _describe(error: BaseException, *, is_shown: bool = False) -> dict[str, Any]:
    """Return what those who watch may know of an exception.

    That is its class, and the message if it is a TaskError, ``is_shown``, or with
    DEBUG: others are written for those who have the code.
    """
    is_shown = is_shown or isinstance(error, TaskError) or django_settings.DEBUG
    message = _shorten(str(error)) if is_shown else None
    return {"type": type(error).__name__, "message": message}


def _shorten(text: object) -> str:
    # It may be lazy.
    text = str(text)
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 1] + "…"


def _destroy_hub() -> None:
    """Destroy the thread's hub, which MemoryBackend may have had to make."""
    if not monkey.is_module_patched("threading"):
        get_hub().destroy()
