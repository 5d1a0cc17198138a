"""The pages around the WebSocket views: the index, the live pages, the demo login.

Nothing here knows about WebSockets; that part is in `views`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache, wraps
from typing import Any

from django.contrib.auth import get_user_model, login
from django.contrib.auth.hashers import make_password
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.template.loader import select_template
from django.utils.safestring import SafeString, mark_safe
from django.views.decorators.http import require_POST
from django.views.decorators.vary import vary_on_headers
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from . import views
from .catalog import EXAMPLES, Example


def index(request: HttpRequest) -> HttpResponse:
    """Show every example as a card."""
    context = {"examples": EXAMPLES, "source": highlight_source(views.echo_once)}
    return render(request, "examples/index.html", context)


@vary_on_headers("Accept")
def example_page(request: HttpRequest, example: Example) -> HttpResponse:
    """Show the page on which `example` can be tried, with its source."""
    template = select_template([f"examples/{example.name}.html", "examples/page.html"])
    context = {
        "example": example,
        "examples": EXAMPLES,
        "source": highlight_source(example.source),
    }
    return HttpResponse(template.render(context, request))


def with_page(example: Example) -> Callable[..., Any]:
    """Return the view of `example`, with its page for browsers at the same URL.

    Only a browser that is about to show a page asks for text/html by name: its
    WebSockets don't, nor do scripts. These reach the view untouched, as does a
    request with a query string.
    """

    @wraps(example.view)
    def page_or_view(request: HttpRequest) -> Any:
        if "text/html" in request.META.get("HTTP_ACCEPT", "") and not request.GET:
            return example_page(request, example)
        return example.view(request)

    return page_or_view


@require_POST
def demo_login(request: HttpRequest) -> HttpResponse:
    """Log in as the user "demo", who can't log in by password."""
    user, _ = get_user_model().objects.get_or_create(
        username="demo", defaults={"password": make_password(None)}
    )
    login(request, user)
    return redirect("members")


@cache
def highlight_source(view: Callable[..., Any]) -> SafeString:
    """Return the source of `view` as HTML, coloured by the style sheet."""
    source = inspect.getsource(view)
    return mark_safe(highlight(source, PythonLexer(), HtmlFormatter(nowrap=True)))
