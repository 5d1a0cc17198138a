"""What Django keeps per request outside of it: to be carried to another greenlet.

Language, time zone, URLconf and script prefix are in ``asgiref.Local``.  Those are
context variables, but since asgiref 3.12 visible to the thread only that set
them, which under gevent is the greenlet.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from django.conf import settings
from django.urls import get_script_prefix, get_urlconf, set_script_prefix, set_urlconf
from django.utils import timezone, translation

__all__ = ["RequestContext"]


class RequestContext(NamedTuple):
    """The values of one request."""

    language: str | None
    zone: Any
    urlconf: Any
    prefix: str

    @classmethod
    def current(cls) -> RequestContext:
        """Return the values of this greenlet."""
        return cls(
            translation.get_language(),
            timezone.get_current_timezone(),
            get_urlconf(settings.ROOT_URLCONF),
            get_script_prefix(),
        )

    def activate(self) -> None:
        """Make them the values of this greenlet; what is the same costs nothing."""
        if self.language is None:
            translation.deactivate_all()
        elif self.language != translation.get_language():
            translation.activate(self.language)
        if self.zone != timezone.get_current_timezone():
            timezone.activate(self.zone)
        if self.urlconf != get_urlconf(settings.ROOT_URLCONF):
            set_urlconf(self.urlconf)
        if self.prefix != get_script_prefix():
            set_script_prefix(self.prefix)
