"""What is done about an exception that nobody has caught: a close code, and reports."""

from __future__ import annotations

import logging

from django.core.signals import got_request_exception
from django.http import HttpRequest
from gevent import GreenletExit

from .exceptions import ConnectionClosed
from .frames import CloseCode

__all__ = ["find_close_code", "on_one_line", "report"]

logger = logging.getLogger("dwebsocket")


def report(place: str, request: HttpRequest | None) -> None:
    """Log the exception that is being handled, and tell Django's signal of it."""
    logger.exception("Internal error in %s", place, extra={"request": request})
    got_request_exception.send(sender=None, request=request)


def find_close_code(exc: BaseException) -> CloseCode:
    """Return the code to close with when a view ends by an exception."""
    if isinstance(exc, ConnectionClosed):
        return CloseCode.NORMAL_CLOSURE
    if isinstance(exc, GreenletExit):
        return CloseCode.GOING_AWAY
    return CloseCode.INTERNAL_ERROR


def on_one_line(text: str) -> str:
    """Return what a client sent with nothing in it that a log could obey."""
    return text.encode("unicode_escape").decode("ascii")
