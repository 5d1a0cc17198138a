"""``gevent.pywsgi`` with hand-over, draining and limits for slow clients.

::

    from gevent import monkey; monkey.patch_all()

    import gevent, signal
    from dwebsocket.server import WebSocketServer
    from mysite.wsgi import application

    server = WebSocketServer(("", 8000), application)
    gevent.signal_handler(signal.SIGTERM, server.stop)
    server.serve_forever()

The server's greenlet of a WebSocket ends at the 101.
"""

from __future__ import annotations

import logging
from typing import Any

import gevent
from gevent import Timeout
from gevent.event import Event
from gevent.pool import Pool
from gevent.pywsgi import WSGIHandler, WSGIServer
from gevent.server import StreamServer
from gevent.ssl import SSLSocket

from .frames import CloseCode
from .gateway import (
    HANDOVER,
    SCOPE,
    Handover,
    read_buffered,
    stop_receiving,
    take_socket,
)
from .registry import ServerScope, registry

__all__ = ["TLSLimit", "WebSocketHandler", "WebSocketServer"]

logger = logging.getLogger("dwebsocket")

_REQUEST_TIMEOUT = (
    b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
)


class WebSocketHandler(WSGIHandler):
    """A ``handler_class`` for ``gevent.pywsgi.WSGIServer``.

    TLS sockets can't be moved out of the server: their greenlet stays.
    """

    #: Seconds for a request line with its headers, from the first byte on, and
    #: for the first byte of a new connection; None = no limit.
    head_timeout: float | None = 20
    #: Seconds that a connection may be idle between requests; None = no limit.
    #: Longer than proxies keep theirs, so that they don't send into its end.
    keepalive_timeout: float | None = 75

    _head_timer: Any = None

    def handle_one_request(self) -> Any:
        if not self._wait_for_request():
            return None
        self.requestline = ""
        self._head_timer = timer = Timeout.start_new(self.head_timeout)
        try:
            return super().handle_one_request()
        except Timeout as exc:
            if exc is not timer:
                raise
            # RFC 9110, 15.5.9: "The 408 (Request Timeout) status code indicates that
            # the server did not receive a complete request message within the time
            # that it was prepared to wait."
            self.code, self._orig_status = 408, "408 Request Timeout"
            self.response_length = 0
            return self._orig_status, _REQUEST_TIMEOUT
        finally:
            timer.close()

    def _wait_for_request(self) -> bool:
        """Wait for a first byte; return whether one came."""
        if self.rfile.closed:
            return False
        timeout = self.keepalive_timeout if self._head_timer else self.head_timeout
        idle = self.server.idle if isinstance(self.server, WebSocketServer) else set()
        idle.add(self)
        try:
            # RFC 9112, 9.5: "A client, server, or proxy MAY close the transport
            # connection at any time."  Without a word: a 408 might be taken for the
            # answer to a request that is about to be sent.
            with Timeout(timeout, False):  # type: ignore[arg-type]
                return bool(self.rfile.peek(1))
        except OSError:
            pass  # reset, and nothing was lost
        finally:
            idle.discard(self)
        return False

    def _connection_upgrade_requested(self) -> bool:
        # Told otherwise, pywsgi gives the application the bare connection to read
        # a body from, and then skips as many bytes of the next request again.
        return False

    def handle_one_response(self) -> None:
        self._head_timer.close()
        assert self.environ is not None
        if isinstance(self.server, WebSocketServer):
            self.environ[SCOPE] = self.server.scope
        if isinstance(self.socket, SSLSocket):
            super().handle_one_response()
            return
        handover = Handover()
        self.environ[HANDOVER] = handover
        super().handle_one_response()
        switch = handover.switch
        if switch is None:
            return
        # The code is negative when writing the response failed.
        if self.code != 101:
            switch.abort()
            return
        sock, self.socket = self.socket, None  # type: ignore[assignment]
        received = read_buffered(sock, self.rfile)
        self.close_connection = True
        switch.start(take_socket(sock), received, owns_socket=True)

    def finalize_headers(self) -> None:
        super().finalize_headers()
        if self.code != 101 and not self.server.started:
            # RFC 9112, 9.6: "A sender SHOULD send a Connection header field [...]
            # containing the "close" connection option when it intends to close a
            # connection."
            self.close_connection = True
            headers: list[Any] = self.response_headers  # type: ignore[assignment]
            headers.append((b"Connection", b"close"))


class TLSLimit(StreamServer):
    """Limits the time for the TLS handshake."""

    def get_handshake_timeout(self) -> float | None:
        """Return it in seconds; None = no limit."""
        raise NotImplementedError

    def wrap_socket_and_handle(self, client_socket: Any, address: Any) -> Any:
        wrap_socket: Any = self.__dict__["wrap_socket"]
        ssl_args: Any = self.ssl_args
        try:
            with Timeout(self.get_handshake_timeout(), TimeoutError):
                sock = wrap_socket(client_socket, **ssl_args)
        except OSError as exc:
            logger.debug("no TLS handshake with %s: %s", address, exc)
            return None
        with sock:
            return self.handle(sock, address)


class WebSocketServer(TLSLimit, WSGIServer):
    """``gevent.pywsgi.WSGIServer`` with WebSocketHandler, which drains when stopped."""

    handler_class = WebSocketHandler
    #: Seconds that requests and views have to end when the server stops.
    stop_timeout = 10

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.scope = ServerScope()
        #: Handlers that wait for a request.
        self.idle: set[WebSocketHandler] = set()
        self._stopped: Event | None = None
        super().__init__(*args, **kwargs)

    def get_handshake_timeout(self) -> float | None:
        return getattr(self.handler_class, "head_timeout", None)

    def set_spawn(self, spawn: Any) -> None:
        # stop() waits for the greenlets of a pool only.
        super().set_spawn(Pool() if spawn == "default" else spawn)

    def start(self) -> None:
        if self._stopped is not None:
            # What has to end for it would end new connections as well.
            self._stopped.wait()
            self._stopped = None
            self.scope.is_draining = False
            self.set_spawn(self.pool)
        registry.workers = registry.workers or 1
        super().start()

    def stop(
        self, timeout: float | None = None, *, code: int = CloseCode.GOING_AWAY
    ) -> None:
        """Accept nothing more, let everything end, and return then.

        WebSockets are closed with ``code``.  Views and requests in flight have
        ``timeout`` seconds to end, ``stop_timeout`` by default, and are cut off
        then.  While another call stops the server, a call without ``timeout``
        just waits.
        """
        if self._stopped is None:
            self._stopped = Event()
        elif timeout is None:
            self._stopped.wait()
            return
        stopped = self._stopped
        if timeout is None:
            timeout = self.stop_timeout
        try:
            self.close()
            drain = gevent.spawn(self.scope.drain, code, "", timeout)
            for handler in list(self.idle):
                stop_receiving(handler.socket)
            super().stop(timeout)
            drain.get()
        finally:
            stopped.set()
