"""Long work that pages watch: here in a thread, elsewhere in Celery or a command."""

from __future__ import annotations

import logging
import random
import threading
import time
from uuid import uuid4

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from dwebsocket.tasks import TaskError, TaskView, progress

logger = logging.getLogger(__name__)

ROWS = 100
SHOWN = 3  # tasks on a page


class TaskMonitor(TaskView):
    """Whoever has a signed reference to a task may watch it: see the template."""


def import_rows(name: str, bad_row: int | None) -> None:
    with progress(name, total=ROWS, text="Importing rows") as task:
        for row in range(1, ROWS + 1):
            time.sleep(random.uniform(0, 0.08))  # what takes so long
            if row == bad_row:
                raise TaskError(f"Row {row} has no name.")
            if row % 10 == 0:
                logger.info("%d rows imported", row)
            task.advance()
        task.update(text="", result=f"{ROWS} rows")


def tasks(request: HttpRequest) -> HttpResponse:
    names = request.session.get("tasks", [])
    if request.method == "POST":
        name = f"import-{uuid4()}"
        bad_row = random.randrange(ROWS // 2, ROWS) if "fail" in request.POST else None
        threading.Thread(target=import_rows, args=[name, bad_row]).start()
        request.session["tasks"] = [name, *names][:SHOWN]
        return redirect("task-monitor")
    return render(request, "examples/task-monitor.html", {"tasks": names, "rows": ROWS})
