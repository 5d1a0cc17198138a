"""How a connection is got from the server that a request came in by.

WSGI has no word for it, so each server is known by what it puts into the
environ.  A gateway sends the 101 response, finds the socket and what was read
from it too early, and hands both to the connection.  Two kinds of server:

* Ours (``server``, ``workers``) hand the socket over: their greenlet ends.
* Others would close the socket as soon as the response is over, so their
  greenlet stays parked in the body of the response until the view ends.

Read in gevent 24.10-26.9 ``pywsgi.py``, gunicorn 23-27 ``workers/base_async.py``
and ``workers/ggevent.py``, gevent-websocket 0.10.1 ``handler.py``.
"""

from __future__ import annotations

from _socket import SHUT_RD
from _socket import socket as RawSocket
from collections.abc import Iterator
from typing import Any, Protocol

import gevent.socket
from gevent import monkey
from gevent.ssl import SSLSocket

from .exceptions import UnsupportedServer
from .frames import CloseCode, Opcode, encode_close, encode_frame

__all__ = [
    "HANDOVER",
    "SCOPE",
    "Gateway",
    "Handover",
    "Switch",
    "find_gateway",
    "take_socket",
]

#: environ key by which our servers offer to hand the socket over.
HANDOVER = "dwebsocket.handover"
#: environ key for the registry's scope that a server drains when it stops.
SCOPE = "dwebsocket.scope"

_RECOMMENDED = (
    "Use gunicorn -k dwebsocket.workers.WebSocketWorker, or manage.py runserver with "
    '"dwebsocket" before "django.contrib.staticfiles" in INSTALLED_APPS.'
)


class Switch(Protocol):
    """What a gateway sees of the 101 response and the connection behind it."""

    def head(self) -> bytes:
        """Status line and headers as they go over the wire."""

    def finish_request(self) -> None:
        """End the HTTP request: Django sends ``request_finished``."""

    def on_close(self, sock: Any, received: bytes) -> None:
        """Like ``start`` with a socket of our own, when the server closes."""

    def start(self, sock: Any, received: bytes, *, owns_socket: bool) -> None:
        """Start the conversation on a connected socket."""

    def abort(self) -> None:
        """The 101 couldn't be sent: let the view know."""

    def wait(self) -> None:
        """Wait until the view and the connection have ended."""


class Gateway:
    """One server's way; ``respond`` is the iteration over the 101 response."""

    #: The server has sent its own 101 before Django ran.
    is_switched = False
    #: There is no server, but a test in the same process.
    is_test = False

    def respond(self, switch: Switch) -> Iterator[bytes]:
        """Return the response's body; the server iterates over it."""
        raise NotImplementedError

    def refuse(self, reason: str) -> None:
        """The view answered with an HTTP response: nothing to do, mostly."""


class Handover(Gateway):
    """Ours on pywsgi: the handler takes ``switch`` after it has sent the 101."""

    def __init__(self) -> None:
        self.switch: Switch | None = None

    def respond(self, switch: Switch) -> Iterator[bytes]:
        self.switch = switch
        return iter(())


class _Gunicorn(Gateway):
    """gunicorn's gevent worker (``base_async.AsyncWorker.handle_request``).

    It sends a response its own way (before version 24 with chunks, even a 101),
    so the 101 is written here.  A StopIteration out of ``__iter__`` ends the
    request without another word: access log, ``close()``, end of connection.
    """

    def __init__(self, environ: dict[str, Any], sock: Any) -> None:
        self._environ = environ
        self._sock = sock

    def respond(self, switch: Switch) -> Iterator[bytes]:
        sock = self._sock
        sock.sendall(switch.head())
        unreader = self._environ["wsgi.input"].reader.unreader
        received = unreader.buf.getvalue()
        if HANDOVER in self._environ:
            # What the worker closes afterwards is the empty shell.
            switch.on_close(take_socket(sock), received)
        else:
            _park(switch, sock, received)
        raise StopIteration


class _Pywsgi(Gateway):
    """``gevent.pywsgi``, alone or as gunicorn's ``gevent_pywsgi`` worker."""

    def __init__(self, sock: Any, rfile: Any) -> None:
        self._sock = sock
        self._rfile = rfile

    def respond(self, switch: Switch) -> Iterator[bytes]:
        # pywsgi sends the headers along with the first data that isn't empty.
        yield _EmptyButTrue()
        received = read_buffered(self._sock, self._rfile)
        # Its greenlet would take bytes after our end for another request.
        self._rfile.close()
        _park(switch, self._sock, received)


class _GeventWebSocket(Gateway):
    """gevent-websocket's ``WebSocketHandler``: it has sent the 101 already.

    Its own WebSocket object stays unused, but for refusing.
    """

    is_switched = True

    def __init__(self, websocket: Any) -> None:
        self._websocket = websocket

    def respond(self, switch: Switch) -> Iterator[bytes]:
        handler = self._websocket.handler
        try:
            received = read_buffered(handler.socket, handler.rfile)
            _park(switch, handler.socket, received)
        finally:
            # Else it would send a close frame of its own.
            self._websocket.closed = True
        return iter(())

    def refuse(self, reason: str) -> None:
        # Its own close() forgets the code.
        payload = encode_close(CloseCode.POLICY_VIOLATION, reason)
        try:
            self._websocket.handler.socket.sendall(encode_frame(Opcode.CLOSE, payload))
        finally:
            self._websocket.closed = True


class _EmptyButTrue(bytes):
    def __bool__(self) -> bool:
        return True


def find_gateway(environ: dict[str, Any]) -> Gateway:
    """Return the gateway for a request.

    Raises UnsupportedServer, saying which server it is and what to use.
    """
    server = environ.get("SERVER_SOFTWARE", "this server")
    handover = environ.get(HANDOVER)
    websocket = environ.get("wsgi.websocket")
    gateway: Gateway | None = None
    if isinstance(handover, Handover):
        gateway = handover
    elif hasattr(websocket, "handler"):
        gateway = _GeventWebSocket(websocket)
    elif _is_gevent(environ.get("gunicorn.socket")):
        gateway = _Gunicorn(environ, environ["gunicorn.socket"])
    elif "gunicorn.sock" in environ or server.startswith("gevent/"):
        body = environ.get("wsgi.input")
        rfile = getattr(body, "rfile", body)
        sock = getattr(getattr(rfile, "raw", None), "_sock", None)
        if _is_gevent(sock):
            gateway = _Pywsgi(sock, rfile)
    if gateway is None:
        raise UnsupportedServer(
            f"WebSockets don't work on {server}: it doesn't run on gevent or gives "
            f"no access to the connection. {_RECOMMENDED}"
        )
    if not gateway.is_test and not monkey.is_module_patched("threading"):
        raise UnsupportedServer(
            "WebSockets don't work here because gevent hasn't patched the standard "
            "library: all connections would share one database connection. Call "
            "gevent.monkey.patch_all() before anything else is imported."
        )
    return gateway


def take_socket(sock: Any) -> RawSocket:
    """Move the file descriptor out of gevent's socket into a plain one.

    The plain one has no event objects of its own and is closed by nobody else.
    """
    plain = sock._sock  # its attributes are numbers, not enums
    family, type_, proto = plain.family, plain.type, plain.proto
    raw = RawSocket(family, type_, proto, fileno=sock.detach())
    raw.setblocking(False)
    return raw


def read_buffered(sock: Any, rfile: Any) -> bytes:
    """Return what the server's buffered file holds of the socket's input."""
    timeout = sock.gettimeout()
    sock.settimeout(0.0)
    try:
        return rfile.read1() or b""
    except OSError:
        # It would block, or the connection was lost, which its reader will see.
        return b""
    finally:
        sock.settimeout(timeout)


def stop_receiving(sock: Any) -> None:
    """Let the greenlet that reads go on with what has come already, and the end."""
    # Not by gevent's socket, which would forget what has been received.
    raw = RawSocket(fileno=sock.fileno())
    try:
        raw.shutdown(SHUT_RD)
    except OSError:
        pass  # the client has gone
    finally:
        raw.detach()


def _is_gevent(sock: Any) -> bool:
    return isinstance(sock, gevent.socket.socket)


def _park(switch: Switch, sock: Any, received: bytes) -> None:
    switch.finish_request()
    if not isinstance(sock, SSLSocket):
        sock = sock._sock  # the same descriptor, without gevent's waiting
    switch.start(sock, received, owns_socket=False)
    switch.wait()
