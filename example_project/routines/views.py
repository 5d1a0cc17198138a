"""The page of the routines."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from .steps import ROUTINES


def page(request: HttpRequest) -> HttpResponse:
    """Show the steps of the one routine that there is."""
    title, steps = ROUTINES["break"]
    return render(request, "routines/page.html", {"title": title, "steps": steps})
