"""``{% load dwebsocket %}{% dwebsocket_script %}`` puts the client on a page.

``{% dwebsocket_task_script %}`` and ``{% dwebsocket_task "report-42" %}`` show a task.
"""

from __future__ import annotations

from typing import Any

from django import template
from django.forms.utils import flatatt
from django.template import Context
from django.templatetags.static import static
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

__all__ = ["register"]

register = template.Library()


@register.simple_tag
def dwebsocket_script(**attributes: Any) -> SafeString:
    """Return the script element; ``attributes`` are added to it.

    ``True`` is an attribute without a value, as in ``defer=True``; ``None`` and
    ``False`` are none at all.
    """
    return _make_script("dwebsocket.js", attributes)


@register.simple_tag
def dwebsocket_task_script(**attributes: Any) -> SafeString:
    """Return the scripts for ``<dwebsocket-task>``; otherwise like the above."""
    names = ("dwebsocket.js", "dwebsocket-task.js")
    return format_html_join("", "{}", ([_make_script(n, attributes)] for n in names))


@register.simple_tag(takes_context=True)
def dwebsocket_task(context: Context, name: str, **attributes: Any) -> SafeString:
    """Return an element that shows a task, to whom this page is for.

    The task is named by a signed reference; if there is an authenticated user, for this
    user only.  ``url`` is that of ``dwebsocket.tasks.endpoint`` unless given.
    """
    from ..tasks import endpoint, make_reference

    request = context.get("request")
    user = context.get("user") or getattr(request, "user", None)
    url = attributes.pop("url", None) or reverse(endpoint)
    attributes = {"task": make_reference(name, user), "url": url, **attributes}
    return format_html("<dwebsocket-task{}></dwebsocket-task>", flatatt(attributes))


def _make_script(name: str, attributes: dict[str, Any]) -> SafeString:
    source = static(f"dwebsocket/{name}")
    return format_html('<script src="{}"{}></script>', source, flatatt(attributes))
