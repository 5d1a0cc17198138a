"""``{% load dwebsocket %}{% dwebsocket_script %}`` puts the client on a page."""

from __future__ import annotations

from typing import Any

from django import template
from django.forms.utils import flatatt
from django.templatetags.static import static
from django.utils.html import format_html
from django.utils.safestring import SafeString

__all__ = ["register"]

register = template.Library()


@register.simple_tag
def dwebsocket_script(**attributes: Any) -> SafeString:
    """Return the script element; ``attributes`` are added to it.

    ``True`` is an attribute without a value, as in ``defer=True``; ``None`` and
    ``False`` are none at all.
    """
    source = static("dwebsocket/dwebsocket.js")
    return format_html('<script src="{}"{}></script>', source, flatatt(attributes))
