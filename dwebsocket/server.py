"""``gevent.pywsgi`` with hand-over: the server's greenlet ends at the 101.

::

    from gevent import monkey; monkey.patch_all()
    from dwebsocket.server import WebSocketServer
    from mysite.wsgi import application

    WebSocketServer(("", 8000), application).serve_forever()
"""

from __future__ import annotations

from gevent.pywsgi import WSGIHandler, WSGIServer
from gevent.ssl import SSLSocket

from .gateway import HANDOVER, Handover, read_buffered, take_socket

__all__ = ["WebSocketHandler", "WebSocketServer"]


class WebSocketHandler(WSGIHandler):
    """A ``handler_class`` for ``gevent.pywsgi.WSGIServer``.

    TLS sockets can't be moved out of the server: their greenlet stays.
    """

    def handle_one_response(self) -> None:
        if isinstance(self.socket, SSLSocket):
            super().handle_one_response()
            return
        handover = Handover()
        assert self.environ is not None
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


class WebSocketServer(WSGIServer):
    """``gevent.pywsgi.WSGIServer`` with WebSocketHandler."""

    handler_class = WebSocketHandler
