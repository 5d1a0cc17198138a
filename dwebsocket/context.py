"""What Django keeps per request outside of it: to be carried to another greenlet.

Language, time zone, URLconf and script prefix are in ``asgiref.Local``.  Those are
context variables, but since asgiref 3.12 visible to the thread only that set
them, which under gevent is the greenlet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import Context, ContextVar
from functools import cache
from typing import Any

from django.conf import settings
from django.urls import get_script_prefix, get_urlconf, set_script_prefix, set_urlconf
from django.utils import timezone, translation

__all__ = ["Setter", "call_setters", "find_setters"]

#: What has to be called in the new greenlet, and with what.
Setter = tuple[Callable[[Any], object], Any]


def find_setters(context: Context) -> tuple[Setter, ...]:
    """Return what gives a new greenlet, with a copy of ``context``, our values.

    ``context`` is that of this greenlet.  What isn't set here, or is what a new
    greenlet has anyway, costs nothing there.
    """
    setters: list[Setter] = []
    # Asking for what isn't set takes long.
    if _may_hold(context, translation.deactivate_all):
        language = translation.get_language()
        if language != settings.LANGUAGE_CODE:
            setters.append((_set_language, language))
    if _may_hold(context, _set_default_zone):
        zone = timezone.get_current_timezone()
        if zone != timezone.get_default_timezone():
            setters.append((_set_zone, zone))
    urlconf = get_urlconf()
    if urlconf is not None and urlconf != settings.ROOT_URLCONF:
        setters.append((set_urlconf, urlconf))
    prefix = get_script_prefix()
    if prefix != "/":
        setters.append((set_script_prefix, prefix))
    return tuple(setters)  # one object where there are none


def call_setters(setters: Iterable[Setter]) -> None:
    """Set the values in the new greenlet."""
    for setter, value in setters:
        setter(value)


def _set_language(language: str | None) -> None:
    if language is None:
        translation.deactivate_all()
    elif language != translation.get_language():
        translation.activate(language)


def _set_zone(zone: Any) -> None:
    if zone != timezone.get_current_timezone():
        timezone.activate(zone)


def _set_default_zone() -> None:
    timezone.activate(timezone.get_default_timezone())


def _may_hold(context: Context, setter: Callable[[], None]) -> bool:
    """Tell whether what ``setter`` sets may be set in a context."""
    variables = _find_variables(setter)
    return not variables or any(variable in context for variable in variables)


@cache
def _find_variables(setter: Callable[[], None]) -> tuple[ContextVar[Any], ...]:
    context = Context()
    context.run(setter)
    return tuple(context)
