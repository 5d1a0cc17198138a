"""A strict Content-Security-Policy, as it is on Django 6 by a setting."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse

# No script, style or connection but those of this site: "connect-src" is among them.
POLICY = "default-src 'self'; object-src 'none'; base-uri 'none'"


def restrict_content(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Set the header, except on Django's pages that explain an error."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if not (settings.DEBUG and response.status_code in (404, 500)):
            response.headers["Content-Security-Policy"] = POLICY
        return response

    return middleware
