"""The page of the chat."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from .forms import ROOMS, LineForm
from .people import find_person


def page(request: HttpRequest) -> HttpResponse:
    """Show the rooms; give a guest a name, which the WebSocket finds in the session."""
    context = {"form": LineForm(), "person": find_person(request), "rooms": ROOMS}
    return render(request, "chat/page.html", context)
