"""Serve an application with gevent.pywsgi: ``serve_pywsgi KIND PORT MODULE``.

The kind "tls" takes the file with certificate and key as a fourth argument.
"""

from __future__ import annotations

import sys

from gevent import monkey

KIND, PORT, MODULE = sys.argv[1:4]
if KIND != "unpatched":
    monkey.patch_all()

import signal  # noqa: E402
from importlib import import_module  # noqa: E402

import gevent  # noqa: E402
from gevent.pywsgi import WSGIServer  # noqa: E402


def main() -> None:
    address = ("127.0.0.1", int(PORT))
    application = import_module(MODULE).application
    if KIND == "websocket":
        from dwebsocket.server import WebSocketServer

        server = WebSocketServer(address, application)
    elif KIND == "handler":
        from dwebsocket.server import WebSocketHandler

        server = WSGIServer(address, application, handler_class=WebSocketHandler)
    elif KIND == "gevent-websocket":
        from geventwebsocket.handler import WebSocketHandler as OtherHandler

        server = WSGIServer(address, application, handler_class=OtherHandler)
    elif KIND == "tls":
        from dwebsocket.server import WebSocketServer

        server = WebSocketServer(address, application, certfile=sys.argv[4])
    else:
        server = WSGIServer(address, application)
    gevent.signal_handler(signal.SIGTERM, server.stop)
    server.serve_forever()


main()
