"""Progress for the tasks of Celery, by its signals: call ``connect()`` once.

A task is known by its id.  Code that it runs has it as ``current_task()``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from celery import signals, states
from celery.exceptions import TaskRevokedError

from .task import DONE, FAILED, WAITING, Task, end_elsewhere

__all__ = ["connect"]

#: The latter, of Celery's get_task_logger(), doesn't propagate.
_LOGGERS = ("root", "celery.task")
#: They tell of arguments and results.
_EXCLUDED = ("celery.app", "celery.redirected", "celery.worker", "kombu")

_OUTCOMES = {
    states.SUCCESS: DONE,
    states.IGNORED: DONE,
    states.REJECTED: WAITING,
}


def connect(
    only: Callable[[Any], bool] | None = None,
    *,
    log_level: int | str = logging.INFO,
    show_error: bool = False,
) -> None:
    """Have the tasks of this process tell how far they are.

    ``only`` is called with the task and tells whether it is to; None for all.  The
    rest is as for ``progress``.  A later call replaces an earlier one.
    """
    observer = _Observer(only, log_level, show_error)
    for signal, receiver in (
        (signals.task_prerun, observer.on_prerun),
        (signals.task_postrun, observer.on_postrun),
        (signals.task_failure, observer.on_failure),
        (signals.task_retry, observer.on_retry),
        (signals.task_revoked, observer.on_revoked),
    ):
        uid = f"dwebsocket.tasks.celery.{receiver.__name__}"
        signal.disconnect(dispatch_uid=uid)
        signal.connect(receiver, weak=False, dispatch_uid=uid)


class _Observer:
    def __init__(
        self,
        only: Callable[[Any], bool] | None,
        log_level: int | str,
        show_error: bool,
    ) -> None:
        self._only = only
        self._log_level = log_level
        self._show_error = show_error
        # Those that this process runs.
        self._running: dict[str, Task] = {}

    def on_prerun(self, sender: Any, task_id: str, **kwargs: Any) -> None:
        if not self._is_wanted(sender):
            return
        task = Task(
            task_id,
            log_level=self._log_level,
            loggers=_LOGGERS,
            show_error=self._show_error,
            excluded=_EXCLUDED,
        )
        self._running[task_id] = task
        task.start(goes_on=True)

    def on_postrun(
        self, sender: Any, task_id: str, state: str | None = None, **kwargs: Any
    ) -> None:
        task = self._running.pop(task_id, None)
        if task is None:
            return
        if state is None:
            # Terminated, which the process that did it tells of.
            task.abandon()
        else:
            # What failed, or is to be tried again, has told so already.
            task.end(_OUTCOMES.get(state, FAILED))

    def on_failure(
        self, sender: Any, task_id: str, exception: BaseException, **kwargs: Any
    ) -> None:
        self._end(sender, task_id, FAILED, exception)

    def on_retry(
        self, sender: Any, request: Any, reason: Any = None, **kwargs: Any
    ) -> None:
        error = getattr(reason, "exc", None)
        self._end(sender, request.id, WAITING, error)

    def on_revoked(
        self,
        sender: Any,
        request: Any,
        *,
        terminated: bool = False,
        expired: bool = False,
        **kwargs: Any,
    ) -> None:
        why = "terminated" if terminated else "expired" if expired else "revoked"
        self._end(sender, request.id, FAILED, TaskRevokedError(why), is_shown=True)

    def _end(
        self,
        sender: Any,
        task_id: str,
        state: str,
        error: BaseException | None,
        *,
        is_shown: bool = False,
    ) -> None:
        if not self._is_wanted(sender):
            return
        task = self._running.get(task_id)
        if task is not None:
            task.end(state, error)
        else:
            # It was lost with its process, or never begun.
            end_elsewhere(task_id, state, error, show_error=is_shown)

    def _is_wanted(self, task: Any) -> bool:
        return self._only is None or bool(self._only(task))
