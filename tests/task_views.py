"""A page that shows a task, and tasks that do what they are told."""

from __future__ import annotations

import json
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template import Context, Template
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from dwebsocket import tasks

_PAGE = """
{% load dwebsocket static %}<!doctype html>
<html lang="en"><title>A task</title>
<script nonce="{{ nonce }}">
  window.events = [];
  for (const name of ["progress", "log", "done", "failed", "refused"]) {
    addEventListener(`task-${name}`, ({ type, target, detail }) => {
      events.push({ type, target: target.id, ...detail });
    });
  }
</script>
{% dwebsocket_task name id="first" label=label %}
{% if request.GET.second %}
{% dwebsocket_task name id="second" %}
<dwebsocket-task id="refused" task="{{ name }}" url="/tasks/"></dwebsocket-task>
{% endif %}
{% dwebsocket_task_script nonce=nonce defer=True %}
<script type="module" nonce="{{ nonce }}">
  import * as module from "{% static 'dwebsocket/dwebsocket-task.module.js' %}";
  window.module = module;
</script>
"""

_tasks: dict[str, tasks.Task] = {}


def task_page(request: HttpRequest, name: str) -> HttpResponse:
    """The page, under a Content-Security-Policy without any style."""
    label = request.GET.get("label")
    context = {"nonce": "abc123", "name": name, "request": request, "label": label}
    html = Template(_PAGE).render(Context(context))
    policy = "default-src 'none'; script-src 'nonce-abc123'; connect-src 'self' ws:"
    return HttpResponse(html, headers={"Content-Security-Policy": policy})


@csrf_exempt
def call(request: HttpRequest, name: str) -> HttpResponse:
    """Call methods of a task, whose names and arguments are in the body."""
    for method, *arguments in json.loads(request.body):
        options: dict[str, Any] = arguments.pop() if arguments else {}
        if method == "new":
            _tasks[name] = tasks.progress(name, **options)
        elif method == "fail":
            _tasks.pop(name).end("failed", tasks.TaskError(options["message"]))
        else:
            getattr(_tasks[name], method)(**options)
    return JsonResponse({})


urlpatterns = [
    path("page/<str:name>/", task_page),
    path("call/<str:name>/", call),
]
