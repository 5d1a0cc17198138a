"""The pages around the WebSocket views: the index, the live pages, the demo login.

Nothing here knows about WebSockets; that part is in `views`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache, partial, wraps
from itertools import groupby
from pathlib import Path
from typing import Any

from django.contrib.auth import get_user_model, login
from django.contrib.auth.hashers import make_password
from django.contrib.staticfiles import finders
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.template.loader import select_template
from django.utils.safestring import SafeString, mark_safe
from django.views.decorators.http import require_POST
from django.views.decorators.vary import vary_on_headers
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import JavascriptLexer, PythonLexer

from . import cards, views
from .catalog import EXAMPLES, Example


def index(request: HttpRequest) -> HttpResponse:
    """Show every example as a card."""
    context = {
        "source": highlight_source(views.echo_once),
        "cards_source": highlight_source(cards.cards),
    }
    return render(request, "examples/index.html", context)


def describe_examples(request: HttpRequest) -> dict[str, Any]:
    """Tell templates of all examples, and of the one whose URL this is, if it is one's.

    A context processor, so that the page of an example may be any view.
    """
    name = request.resolver_match.url_name if request.resolver_match else None
    example = next((one for one in EXAMPLES if one.name == name), None)
    if example is None:
        return {"examples": EXAMPLES}
    functions = (example.source, *example.more_source)
    sources = [
        (name, mark_safe("\n\n".join(map(highlight_source, ones))))
        for name, ones in groupby(functions, get_file_name)
    ]
    sources += [(Path(one).name, highlight_script(one)) for one in example.scripts]
    return {"example": example, "examples": EXAMPLES, "sources": sources}


def example_page(request: HttpRequest, example: Example) -> HttpResponse:
    """Show the page on which `example` can be tried, with its source."""
    template = select_template([f"examples/{example.name}.html", "examples/page.html"])
    return HttpResponse(template.render({}, request))


def with_page(example: Example) -> Callable[..., Any]:
    """Return the view of `example`, with its page for browsers at the same URL.

    One whose WebSocket is elsewhere is just its page.

    Only a browser that is about to show a page asks for text/html by name: its
    WebSockets don't, nor do scripts. These reach the view untouched, as does a
    request with a query string.
    """

    page = vary_on_headers("Accept")(
        example.page or partial(example_page, example=example)
    )

    if example.url_name:
        return page

    @wraps(example.view)
    def page_or_view(request: HttpRequest) -> Any:
        if "text/html" in request.META.get("HTTP_ACCEPT", "") and not request.GET:
            return page(request)
        return example.view(request)

    return page_or_view


@require_POST
def demo_login(request: HttpRequest) -> HttpResponse:
    """Log in as the user "demo", who can't log in by password."""
    user, _ = get_user_model().objects.get_or_create(
        username="demo", defaults={"password": make_password(None)}
    )
    login(request, user)
    wanted = request.POST.get("example")
    names = [example.name for example in EXAMPLES]
    return redirect(wanted if wanted in names else "members")


@cache
def highlight_source(view: Callable[..., Any]) -> SafeString:
    """Return the source of `view` as HTML, coloured by the style sheet."""
    source = inspect.getsource(view)
    return mark_safe(highlight(source, PythonLexer(), HtmlFormatter(nowrap=True)))


@cache
def highlight_script(name: str) -> SafeString:
    """Return a static file of JavaScript as HTML, in the same colours."""
    source = Path(str(finders.find(name))).read_text()
    return mark_safe(highlight(source, JavascriptLexer(), HtmlFormatter(nowrap=True)))


@cache
def get_file_name(view: Callable[..., Any]) -> str:
    """Return the name of the file in which `view` is."""
    return Path(inspect.getfile(inspect.unwrap(view))).name
