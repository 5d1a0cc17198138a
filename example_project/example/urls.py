"""The root URLconf: the examples, logging in and out, the admin."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.urls import include, path

from .endpoint import SiteEndpoint

urlpatterns = [
    path("", include("examples.urls")),
    path("ws/", SiteEndpoint.as_view(), name="endpoint"),
    path("login/", LoginView.as_view(), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("admin/", admin.site.urls),
]
