"""Middlewares that show that a request or response passed through them."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.utils import timezone

GetResponse = Callable[[HttpRequest], HttpResponse]


def mark_response(get_response: GetResponse) -> GetResponse:
    """Set a header and a cookie on every response; replace some on demand."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if "replace-response" in request.GET:
            return HttpResponse("replaced", status=418)
        response["X-Marked"] = str(response.status_code)
        response.set_cookie("marked", "yes")
        return response

    return middleware


def prepare_environment(get_response: GetResponse) -> GetResponse:
    """Set the time zone and the URLconf of a request, on demand."""

    def middleware(request: HttpRequest) -> HttpResponse:
        from .urls import MOVED

        if "moved" in request.GET:
            request.urlconf = MOVED  # type: ignore[attr-defined]
        if "timezone" not in request.GET:
            return get_response(request)
        with timezone.override(request.GET["timezone"]):
            return get_response(request)

    return middleware


def fail_on_demand(get_response: GetResponse) -> GetResponse:
    """Fail before the view is called."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if "fail-in-middleware" in request.GET:
            raise RuntimeError("as asked for")
        return get_response(request)

    return middleware


class ExceptionHook:
    """Answers ``LookupError`` of a view with 409."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(
        self, request: HttpRequest, exception: Exception
    ) -> HttpResponse | None:
        if isinstance(exception, LookupError):
            return HttpResponse("hooked", status=409)
        return None


class RefusingViewHook:
    """Refuses by its ``process_view``, like LoginRequiredMiddleware."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, *args: object) -> HttpResponse | None:
        if "refuse-by-hook" in request.GET:
            return HttpResponse("refused by hook", status=402)
        return None
