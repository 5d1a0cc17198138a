"""The URLs of the examples: one for each, shared by its page and its WebSocket."""

from __future__ import annotations

from django.conf import settings
from django.urls import path

from . import cards, pages, views
from .catalog import EXAMPLES

urlpatterns = [
    path("", pages.index, name="index"),
    path("cards/", cards.cards, name="cards"),
]

urlpatterns += [
    path(f"{example.name}/", pages.with_page(example), name=example.name)
    for example in EXAMPLES
]

urlpatterns += [path("new-token/", views.new_token, name="new-token")]

if settings.DEBUG:
    urlpatterns += [path("login/demo/", pages.demo_login, name="demo-login")]
