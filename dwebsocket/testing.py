"""A client for tests: ``self.client.websocket_connect("/path/")``.

The request runs through Django's test client and the connection through all that a
server would use, over a socket pair: real frames, real close codes.  The view is a
greenlet of this process, which runs whenever the test waits; nothing is patched, and
the view uses the database connections of the test.

Theory of operation: what a test does (connect, send, close ...) returns when gevent's
hub has nothing left to do at once.  So the view has then done all that it can without
waiting for something else, and the test may look at the consequences.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from django.core.handlers.exception import convert_exception_to_response
from django.core.signals import got_request_exception
from django.http import HttpRequest
from django.test.client import Client

from .exceptions import ConnectionClosed
from .frames import Buffer, encode_close
from .gateway import HANDOVER, SCOPE
from .inprocess import InProcess, TimedOut, ViewScope, environment
from .peer import Peer
from .protocol import Message
from .switching import SwitchingProtocols

if TYPE_CHECKING:
    from django.test import SimpleTestCase as _TestCase
else:
    _TestCase = object

__all__ = [
    "TIMEOUT",
    "ClientWebSocket",
    "Refused",
    "TimedOut",
    "WebSocketClient",
    "WebSocketTestMixin",
    "connect",
]

#: Seconds that a test waits for what should happen at once.
TIMEOUT = 5.0


class Refused(AssertionError):
    """The request was answered by ``response``, which isn't a 101."""

    def __init__(self, message: str, response: Any = None) -> None:
        super().__init__(message)
        self.response = response

    def __reduce__(self) -> tuple[Any, ...]:
        # Parallel runners pickle it; the test client's responses can't be.
        return type(self), self.args


class WebSocketClient(Client):
    """Django's test client with ``websocket_connect``, which ``Client`` gets as well.

    For type checkers, or where nothing else imports this module.
    """

    def websocket_connect(
        self,
        path: str,
        data: Mapping[str, Any] | None = None,
        *,
        subprotocols: Sequence[str] = (),
        timeout: float | None = None,
        secure: bool = False,
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> ClientWebSocket:
        """Connect to the view at ``path``, logged in as this client is.

        ``data`` makes the query string, ``subprotocols`` are offered, ``secure`` is
        ``wss``; ``headers`` and ``extra`` (WSGI environ) are as for ``get``.  There is
        no ``Origin`` unless ``headers`` has one.
        ``timeout`` is in seconds, for each thing that is waited for; None is TIMEOUT.

        A refusal raises nothing yet: the response is there to be looked at, and what
        needs a connection raises Refused.  Raises what the view raises before it
        accepts, unless this client has ``raise_request_exception=False``; TimedOut
        if it neither accepts nor answers.
        """
        handshake = {
            "HTTP_HOST": (self.defaults | extra).get("SERVER_NAME", "testserver"),
            "HTTP_UPGRADE": "websocket",
            "HTTP_CONNECTION": "Upgrade",
            "HTTP_SEC_WEBSOCKET_KEY": base64.b64encode(os.urandom(16)).decode(),
            "HTTP_SEC_WEBSOCKET_VERSION": "13",
        }
        if subprotocols:
            handshake["HTTP_SEC_WEBSOCKET_PROTOCOL"] = ", ".join(subprotocols)

        def get(**environ: Any) -> Any:
            for name in handshake.keys() - self.defaults.keys():
                environ[name] = handshake[name]
            environ |= extra
            try:
                return self.get(path, data, secure=secure, headers=headers, **environ)
            finally:
                # assertRedirects fetches the page with the same, but over HTTP.
                self.extra = extra

        return ClientWebSocket(
            get,
            TIMEOUT if timeout is None else timeout,
            raise_view_error=self.raise_request_exception,
        )


Client.websocket_connect = WebSocketClient.websocket_connect  # type: ignore[attr-defined]


class WebSocketTestMixin(_TestCase):
    """For a TestCase: ``self.client`` is a WebSocketClient."""

    client_class = WebSocketClient
    client: WebSocketClient


def connect(
    view: Callable[..., Any],
    path: str = "/",
    data: Mapping[str, Any] | None = None,
    *,
    user: Any = None,
    **options: Any,
) -> ClientWebSocket:
    """Connect to a view without URLconf and middleware, as RequestFactory is used.

    ``user`` becomes ``request.user``; otherwise like ``websocket_connect``.
    """

    def call(request: HttpRequest) -> Any:
        if user is not None:
            request.user = user
        return view(request)

    client = WebSocketClient()
    client.handler._middleware_chain = convert_exception_to_response(call)  # type: ignore[attr-defined]
    return client.websocket_connect(path, data, **options)


class ClientWebSocket:
    """The client's end of a conversation with a view; a context manager.

    Text is ``str``, binary is ``bytes``.  Iteration yields each message and ends when
    the connection has closed.  Leaving the ``with`` block closes the connection and
    waits until the view has ended.

    An exception of the view is raised here, by what next finds the connection closed.

    Attributes: ``response``, the 101 or the refusal; ``headers``, as they go over the
    wire, but the cookies.
    """

    def __init__(
        self, get: Callable[..., Any], timeout: float, *, raise_view_error: bool
    ) -> None:
        self._raise_view_error = raise_view_error
        self._view_error: BaseException | None = None
        self._peer: Peer | None = None
        self._is_dropped = False
        self._scope = ViewScope(timeout)
        environment.enter()
        try:
            self.response = self._handshake(get)
        except BaseException:
            self._drop()
            raise

    def _handshake(self, get: Callable[..., Any]) -> Any:
        gateway = InProcess()
        with self._scope.limit("the view neither accepted nor answered"):
            response = get(**{HANDOVER: gateway, SCOPE: self._scope})
        self._request = response.wsgi_request
        self.headers: Mapping[str, str] = response.headers
        if not isinstance(response, SwitchingProtocols):
            self._drop()
            return response
        self.headers, sock = gateway.open(response)
        self._peer = Peer(sock, self._scope.changed.set)
        got_request_exception.connect(self._on_view_error)
        self._scope.settle()
        return response

    def __repr__(self) -> str:
        if self._peer is None:
            state = f"refused {self.response.status_code}"
        elif self.close_code is None:
            state = "open"
        else:
            state = f"closed {self.close_code}"
        return f"<{type(self).__name__} {self._request.path} {state}>"

    def __enter__(self) -> ClientWebSocket:
        self._connected()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            # What has failed already is what the test is to tell.
            self._drop()

    def __del__(self) -> None:
        if not self._is_dropped and self._peer is not None:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, 2, source=self)
            self._peer.abort()
            environment.leave()

    def send(self, message: str | Buffer) -> None:
        """Send a message: text for a str, binary for a bytes-like object.

        Returns when the view has done with it what it can without waiting for
        something else.  Raises ConnectionClosed, TypeError, and TimedOut if the view
        takes no more messages.
        """
        self._do("the view took no more messages", self._connected().send, message)

    def send_json(self, value: Any, **options: Any) -> None:
        """Send ``value`` as JSON text; ``options`` are those of ``json.dumps``."""
        self.send(json.dumps(value, **options))

    def wait(self, timeout: float | None = None) -> Message | None:
        """Return the next message; None when the connection has closed.

        Raises TimedOut when there is none in ``timeout`` seconds.
        """
        peer = self._connected()
        self._scope.wait_until(
            lambda: peer.messages or peer.is_over, "the view sent no message", timeout
        )
        if peer.messages:
            return peer.take()
        self._check_view()
        return None

    def wait_json(self, timeout: float | None = None) -> Any:
        """Return the next message's JSON value; otherwise like ``wait``."""
        message = self.wait(timeout)
        return None if message is None else json.loads(message)

    def __iter__(self) -> Iterator[Message]:
        return self

    def __next__(self) -> Message:
        message = self.wait()
        if message is None:
            raise StopIteration
        return message

    def assert_no_message(self, timeout: float = 0) -> None:
        """Fail if there is a message, or one comes in ``timeout`` seconds.

        With 0 that is one that the view sends without waiting for something else.
        """
        peer = self._connected()
        if self._scope.is_reached(lambda: peer.messages or peer.is_over, timeout):
            if peer.messages:
                raise AssertionError(f"there is a message: {peer.messages[0]!r:.200}")
            self._check_view()

    def ping(self, payload: bytes = b"") -> None:
        """Send a ping and wait for its pong; those of the view answer themselves."""
        peer = self._connected()
        self._do("the view took no ping", peer.ping, payload)
        self._scope.wait_until(
            lambda: payload in peer.pongs or peer.is_over, "no pong came"
        )
        if payload not in peer.pongs:
            self._check_view()
            assert peer.close_code is not None
            raise ConnectionClosed(peer.close_code, peer.close_reason)
        peer.pongs.remove(payload)

    def close(self, code: int | None = 1000, reason: str = "") -> None:
        """Close the connection and wait until the view has ended.

        Messages that came before can still be read.  Does nothing the second time.
        Raises ValueError for a code or reason that must not be sent; TimedOut if the
        view goes on, which is killed then.
        """
        payload = encode_close(code, reason)
        self._end(lambda peer: peer.close(payload))

    def abort(self) -> None:
        """Drop the connection, as when the network is lost; otherwise like ``close``.

        The view sees the close code 1006.
        """
        self._end(lambda peer: peer.abort())

    def is_closed(self) -> bool:
        """Tell whether the connection is closing or closed, or was refused."""
        return self._peer is None or self._peer.close_code is not None

    @property
    def timeout(self) -> float:
        """Seconds, for each thing that is waited for; may be changed."""
        return self._scope.timeout

    @timeout.setter
    def timeout(self, seconds: float) -> None:
        self._scope.timeout = seconds

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that both sides agreed on, or None."""
        return self.headers.get("Sec-WebSocket-Protocol")

    @property
    def close_code(self) -> int | None:
        """Code of the first close frame, sent or received; None while open.

        1005: it had none; 1006: the connection was lost without one.
        """
        return None if self._peer is None else self._peer.close_code

    @property
    def close_reason(self) -> str:
        """Reason of the first close frame, sent or received."""
        return "" if self._peer is None else self._peer.close_reason

    def _connected(self) -> Peer:
        if self._peer is None:
            raise Refused(_describe(self.response), self.response)
        return self._peer

    def _do(self, failure: str, action: Callable[[Any], None], argument: Any) -> None:
        try:
            with self._scope.limit(failure):
                action(argument)
        except ConnectionClosed:
            self._check_view()
            raise
        self._scope.settle()

    def _on_view_error(self, request: HttpRequest, **kwargs: Any) -> None:
        if request is self._request:
            self._view_error = sys.exc_info()[1]

    def _check_view(self) -> None:
        error, self._view_error = self._view_error, None
        if error is not None and self._raise_view_error:
            raise error

    def _end(self, action: Callable[[Peer], None]) -> None:
        if self._is_dropped:
            return
        peer = self._connected()
        try:
            self._do("the view took no close frame", action, peer)
            self._scope.wait_until(
                lambda: peer.is_over and not self._scope.open, "the view went on"
            )
        finally:
            self._drop()
        self._check_view()

    def _drop(self) -> None:
        """Leave nothing behind: no connection and no view."""
        if self._is_dropped:
            return
        self._is_dropped = True
        if self._peer is not None and not self._peer.is_over:
            self._peer.abort()
        self._scope.end()
        got_request_exception.disconnect(self._on_view_error)
        environment.leave()


def _describe(response: Any) -> str:
    """Say what a request was answered with instead of 101."""
    text = f"{response.request['PATH_INFO']} was answered with {response.status_code}"
    text += f" {response.reason_phrase}"
    if response.has_header("Location"):
        text += f" to {response['Location']}"
    if response.get("Content-Type", "").startswith("text/plain"):
        text += f": {response.content.decode()[:200].rstrip()}"
    return text
