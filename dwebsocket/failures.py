"""What is done about an exception that nobody has caught: a close code, and reports."""

from __future__ import annotations

import logging

from django.core.signals import got_request_exception
from django.http import HttpRequest
from gevent import GreenletExit

from .exceptions import ConnectionClosed
from .frames import CloseCode

__all__ = ["find_close_code", "report"]

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
