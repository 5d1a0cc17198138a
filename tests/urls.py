"""URLs of the test site."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.staticfiles.views import serve
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt

from dwebsocket import require_websocket, tasks

from . import (
    group_views,
    handlers,
    limit_views,
    login_views,
    readme_views,
    task_views,
    views,
)

compressed = require_websocket(compression=True)
in_context = require_websocket(
    compression={"server_context_takeover": True, "client_context_takeover": True}
)

urlpatterns = [
    path("groups/member/", group_views.member),
    path("compressed/groups/member/", compressed(group_views.member)),
    path("in-context/groups/member/", in_context(group_views.member)),
    path("groups/late/", group_views.late),
    path("groups/slow/", group_views.slow),
    path("groups/call/", group_views.call),
    path("groups/commit/<str:how>/", group_views.commit),
    path("groups/publish/", group_views.publish),
    path("groups/state/", group_views.state),
    path("limits/", include(limit_views)),
    path("logins/", include(login_views)),
    path("admin/", admin.site.urls),
    path("readme/", include(readme_views)),
    path("static/<path:path>", serve, {"insecure": True}),
    path("script-page/", views.script_page),
    path("handlers/", include(handlers)),
    path("status/", views.status),
    path("census/", views.census),
    path("page/", views.page),
    path("slow-page/", views.slow_page),
    path("login-first/", views.login_first),
    path("echo/", views.echo),
    path("echo-big/", views.echo_big),
    path("echo-small/", views.echo_small),
    path("compressed/echo/", compressed(views.echo)),
    path("compressed/slow-reader/", compressed(views.slow_reader)),
    path("in-context/echo/", in_context(views.echo)),
    path("both/", views.both),
    path("visit/", views.visit),
    path("close-at-once/", views.close_at_once),
    path("attribute/", views.attribute),
    path("greeting/<str:name>/", views.Greeting.as_view()),
    path("refuse/<str:how>/", views.refuse),
    path("members/", views.members),
    path("staff/", views.staff),
    path("set-cookies/", views.set_cookies),
    path("keep-session/", views.keep_session),
    path("ask-first/", views.ask_first),
    path("choose/", views.choose),
    path("fail/", views.fail),
    path("fail/<str:name>/", views.fail),
    path("close/", views.close),
    path("nothing/", views.nothing),
    path("sleep/", views.sleep),
    path("linger/", views.linger),
    path("wait/", views.wait),
    path("count/", views.count),
    path("many-senders/", views.many_senders),
    path("flood/", views.flood),
    path("slow-reader/", views.slow_reader),
    path("go/", views.go),
    path("ping/", views.ping),
    path("heartbeat/", views.heartbeat),
    path("impatient/", views.impatient),
    path("environment/", views.environment, name="environment"),
    path("show-messages/", views.show_messages),
    path("attributes/", views.attributes),
    path("required-attribute/", views.required_attribute),
    path("twice/", views.twice),
    path("exempt/", csrf_exempt(views.echo)),
    path("database/", views.database),
    path("query-and-send/", views.query_and_send),
    path("transaction/", views.transaction_while_waiting),
    path("helper/", views.helper),
    path("typed/", views.typed),
    path("task/", include(task_views)),
    path("tasks/", tasks.endpoint),
    path("all-tasks/", tasks.TaskView.as_view(may_watch=views.may_watch)),
]

#: Another URLconf, which a middleware sets on demand.
MOVED = (path("moved/", views.environment, name="environment"),)
