"""URLs of the test site."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt

from . import readme_views, views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("readme/", include(readme_views)),
    path("status/", views.status),
    path("page/", views.page),
    path("login-first/", views.login_first),
    path("echo/", views.echo),
    path("echo-big/", views.echo_big),
    path("echo-small/", views.echo_small),
    path("both/", views.both),
    path("attribute/", views.attribute),
    path("greeting/<str:name>/", views.Greeting.as_view()),
    path("refuse/<str:how>/", views.refuse),
    path("members/", views.members),
    path("staff/", views.staff),
    path("set-cookies/", views.set_cookies),
    path("choose/", views.choose),
    path("fail/", views.fail),
    path("close/", views.close),
    path("nothing/", views.nothing),
    path("sleep/", views.sleep),
    path("wait/", views.wait),
    path("count/", views.count),
    path("many-senders/", views.many_senders),
    path("flood/", views.flood),
    path("slow-reader/", views.slow_reader),
    path("go/", views.go),
    path("ping/", views.ping),
    path("heartbeat/", views.heartbeat),
    path("environment/", views.environment, name="environment"),
    path("show-messages/", views.show_messages),
    path("attributes/", views.attributes),
    path("required-attribute/", views.required_attribute),
    path("twice/", views.twice),
    path("exempt/", csrf_exempt(views.echo)),
    path("database/", views.database),
    path("transaction/", views.transaction_while_waiting),
    path("helper/", views.helper),
]

#: Another URLconf, which a middleware sets on demand.
MOVED = (path("moved/", views.environment, name="environment"),)
