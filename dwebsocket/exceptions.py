"""All exceptions of the package.

::

    WebSocketError
     +-- HandshakeError        (.status_code 400 | 403 | 426 | 429 | 503, .headers)
     +-- ProtocolError         (.close_code 1002)
     |    +-- InvalidPayload   (.close_code 1007)
     |    +-- MessageTooBig    (.close_code 1009)
     +-- ConnectionClosed      (.code, .reason)
     +-- UnsupportedServer
     +-- GroupError

Mistakes of the calling code are ``TypeError``, ``ValueError`` or Django's
``ImproperlyConfigured``.  Imports nothing of the package.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = [
    "ConnectionClosed",
    "GroupError",
    "HandshakeError",
    "InvalidPayload",
    "MessageTooBig",
    "ProtocolError",
    "UnsupportedServer",
    "WebSocketError",
]


class WebSocketError(Exception):
    """Base of all exceptions of the package."""


class HandshakeError(WebSocketError):
    """The opening handshake is refused with an HTTP response.

    ``status_code`` is the HTTP status, ``headers`` what the response carries
    beside its text, which is ``str(error)``.
    """

    def __init__(
        self,
        message: str,
        *,
        status_code: int = 400,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.headers = dict(headers or {})


class ProtocolError(WebSocketError):
    """The peer broke RFC 6455; the connection is failed with ``close_code``."""

    close_code = 1002


class InvalidPayload(ProtocolError):
    """Text isn't UTF-8 (RFC 6455 section 8.1) or compressed data isn't valid."""

    close_code = 1007


class MessageTooBig(ProtocolError):
    """A message is longer than the limit (RFC 6455 section 10.4)."""

    close_code = 1009


class ConnectionClosed(WebSocketError):
    """Something was to be sent, but the connection is closed or closing.

    ``code`` is the close code (1005: the close frame had none, 1006: there was
    no close frame), ``reason`` the close reason.
    """

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.code} {self.reason}".rstrip()


class UnsupportedServer(WebSocketError):
    """The server doesn't give access to the connection, or isn't cooperative."""


class GroupError(WebSocketError):
    """A message for a group couldn't be handed to the backend, or not for certain."""
