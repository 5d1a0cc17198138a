"""What is logged while a task runs, as lines that who watches it may read."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

__all__ = ["Capture", "TaskHandler", "find_current", "sending"]


class _Task(Protocol):
    def log(self, text: str, level: int, created: float | None = None) -> None: ...


#: The tasks whose blocks this context is in, the innermost last.
_current: ContextVar[tuple[Any, ...]] = ContextVar("dwebsocket.tasks", default=())
#: Whether what is logged comes from sending the log.
_is_sending: ContextVar[bool] = ContextVar("dwebsocket.tasks.sending", default=False)


def find_current() -> Any:
    """Return the task whose block this context is in, the innermost, or None."""
    return next(reversed(_current.get()), None)


@contextmanager
def sending() -> Iterator[None]:
    """Have nothing of what is logged here become lines of a task."""
    token = _is_sending.set(True)
    try:
        yield
    finally:
        _is_sending.reset(token)


class TaskHandler(logging.Handler):
    """A logging handler that sends along all records that it gets.

    Messages only: tracebacks may hold what isn't for everybody.
    """

    def __init__(self, task: _Task, level: int | str = logging.INFO) -> None:
        super().__init__(level)
        self._task = task

    def handle(self, record: logging.LogRecord) -> bool:
        # Not with the lock: sending may wait, and other threads log meanwhile.
        is_passed = bool(self.filter(record))
        if is_passed:
            self.emit(record)
        return is_passed

    def emit(self, record: logging.LogRecord) -> None:
        if _is_sending.get():
            return
        try:
            self._task.log(record.getMessage(), record.levelno, record.created)
        except Exception:
            self.handleError(record)


class Capture(TaskHandler):
    """A task's handler while its block runs: for what is logged in its context.

    ``loggers`` are names; those below propagate to them.  ``excluded`` are what
    names of loggers begin with whose records aren't sent.
    """

    def __init__(
        self,
        task: _Task,
        level: int | str,
        loggers: Sequence[str],
        excluded: tuple[str, ...] = (),
    ) -> None:
        super().__init__(task, level)
        self._loggers = [logging.getLogger(name) for name in loggers]
        self._excluded = excluded
        self._last: logging.LogRecord | None = None

    def start(self) -> None:
        _current.set((*_current.get(), self._task))
        for logger in self._loggers:
            logger.addHandler(self)

    def stop(self) -> None:
        for logger in self._loggers:
            logger.removeHandler(self)
        # Not by a token: it may end in another context, or before an inner one.
        _current.set(tuple(one for one in _current.get() if one is not self._task))
        self.close()

    def emit(self, record: logging.LogRecord) -> None:
        # It may come from two of the loggers.
        if record is self._last or record.name.startswith(self._excluded):
            return
        if self._task in _current.get():
            self._last = record
            super().emit(record)
