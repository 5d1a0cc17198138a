"""Progress for the tasks of Celery, by its signals: ``connect()`` in ``celery.py``.

The name of a task is its id.  In the code of the task ``current_task()`` has the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from celery import signals, states

from .task import DONE, FAILED, RUNNING, WAITING, Task, describe, end_elsewhere

__all__ = ["connect"]

#: What "celery.task" doesn't propagate to the root.
_LOGGERS = ("root", "celery.task")
#: They tell of arguments and results.
_EXCLUDED = ("celery.app", "celery.worker", "celery.redirected", "kombu", "amqp")

