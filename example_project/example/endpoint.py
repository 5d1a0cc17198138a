"""The one WebSocket that carries the messages of all apps: see their messages.py."""

from __future__ import annotations

from chat.people import find_person
from django.http import HttpRequest

from dwebsocket.messages import Endpoint


class SiteEndpoint(Endpoint):
    """Knows who has connected, and holds back whoever says too much."""

    max_message_size = 10_000
    rate_limit = {"rate": "5/s", "burst": 20, "over": "error"}

    def connect(self, request: HttpRequest) -> None:
        self.person = find_person(request)
