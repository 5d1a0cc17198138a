"""What the cards of the index say of their examples just now."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django.core.cache import cache
from django.dispatch import receiver
from django.http import HttpRequest
from routines.models import Playback

from dwebsocket import WebSocket, groups, require_websocket
from dwebsocket.signals import websocket_opened

from . import noise
from .models import Dam

INTERVAL = 1  # second


@require_websocket
def cards(request: HttpRequest) -> None:
    websocket = request.websocket
    websocket.join(noise.GROUP, slow_consumer="coalesce")
    noise.ensure_publisher()
    sent = None
    while not websocket.is_closed():
        texts = cache.get_or_set("cards", describe_all, INTERVAL)
        if texts != sent:
            websocket.send_json({"cards": texts})
            sent = texts
        websocket.wait(timeout=INTERVAL)


@receiver(websocket_opened)
def count_window(
    websocket: WebSocket, request: HttpRequest | None, **kwargs: Any
) -> None:
    """Have the index know of each example that a browser has open."""
    # Programs, such as the thousands of a benchmark, have no origin.
    if request is not None and "HTTP_ORIGIN" in request.META:
        websocket.join("windows", data=request.resolver_match.url_name)


def describe_all() -> dict[str, str]:
    """Return the texts by the names of the examples."""
    open_windows = Counter(member.data for member in groups.members("windows"))
    texts = {name: count(number, "window") for name, number in open_windows.items()}
    people = {member.data["person"] for member in groups.members("chat")}
    texts["chat"] = count(len(people), "person", "people")
    is_going_on = any(playback.is_going_on() for playback in Playback.objects.all())
    followers = count(groups.count("routine.break"), "window")
    texts["routines"] = f"{followers}, {'playing' if is_going_on else 'at rest'}"
    texts["notifications"] = count(Dam.objects.count(), "dam")
    return texts


def count(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun."""
    return f"{number} {one if number == 1 else many or one + 's'}"
