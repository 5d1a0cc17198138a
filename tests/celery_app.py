"""A Celery app whose tasks don't know that they are watched."""

from __future__ import annotations

import logging
import os
import signal
import time
from typing import Any

import celery
import django
from celery.utils.log import get_task_logger

django.setup()

import dwebsocket.tasks.celery  # noqa: E402
from dwebsocket.tasks import current_task  # noqa: E402

app = celery.Celery("watched", broker=os.environ["CELERY_BROKER"])
app.conf.worker_lost_wait = 0.5

dwebsocket.tasks.celery.connect(lambda task: not task.name.endswith(".unwatched"))

logger = logging.getLogger(__name__)
task_logger = get_task_logger(__name__)


@app.task
def read_rows(count: int) -> str:
    for number in range(count):
        logger.info("row %d", number)
    task_logger.warning("That was all.")
    return "a secret"


@app.task
def advance(count: int) -> None:
    task = current_task()
    assert task is not None
    task.update(total=count)
    for _ in range(count):
        task.advance()


@app.task
def fail() -> None:
    raise ValueError("a secret")


@app.task(bind=True)
def try_again(self: Any) -> None:
    logger.info("attempt %d", self.request.retries)
    if not self.request.retries:
        raise self.retry(exc=ValueError("a secret"), countdown=0)


@app.task
def linger() -> None:
    logger.info("lingering")
    time.sleep(1000)


@app.task
def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@app.task
def unwatched() -> None:
    logger.info("Nobody is told.")
