"""A Celery worker's task that sends to groups: ``celery -A tests.publisher.tasks``."""

from __future__ import annotations

import os

import celery
import django

django.setup()

from tests.publisher.publishing import publish_many  # noqa: E402

app = celery.Celery("publisher", broker=os.environ.get("CELERY_BROKER"))


@app.task
def publish(publisher: str, count: int, groups: int) -> None:
    publish_many(publisher, 0, count, groups, "group ")
