"""Long work shown live: in a Celery task, a thread, a management command or a view.

::

    with progress("report-42", total=1000) as task:
        for row in rows:
            ...
            task.advance()

How far it is, what is logged and how it ends goes to the group of those who watch,
and into one of Django's caches for those who come later.  ``endpoint`` is the view by
which pages watch, ``<dwebsocket-task>`` the element that shows it: ``docs/tasks.rst``.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from .logs import TaskHandler, find_current
from .store import make_reference
from .task import Task, TaskError

if TYPE_CHECKING:
    from .views import TaskView, endpoint

__all__ = [
    "Task",
    "TaskError",
    "TaskHandler",
    "TaskView",
    "current_task",
    "endpoint",
    "make_reference",
    "progress",
]


def progress(
    name: str,
    total: float | None = None,
    *,
    text: str = "",
    logger: str | None = "root",
    log_level: int | str = logging.INFO,
    show_error: bool = False,
) -> Task:
    """Return a context manager that shows the work in its block.

    ``name`` is up to 180 bytes of UTF-8; what runs at the same time needs different
    ones.  ``total`` is what ``advance`` adds up to, None if that isn't known; ``text``
    says what is being done.  What the block logs to ``logger``, or below, is sent along
    from ``log_level`` on; None for nothing.  Of an exception the watchers are told the
    class, and the message with ``show_error`` or if it is a TaskError.
    """
    loggers = () if logger is None else (logger,)
    return Task(
        name,
        total,
        text=text,
        loggers=loggers,
        log_level=log_level,
        show_error=show_error,
    )


def current_task() -> Task | None:
    """Return the task of the innermost block that this code runs in, or None."""
    task: Task | None = find_current()
    return task


def __getattr__(name: str) -> Any:
    # Views are there when the apps are loaded, tasks may be imported before.
    if name not in ("TaskView", "endpoint"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import views

    return getattr(views, name)
