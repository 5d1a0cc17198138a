"""Serve an application: ``python -m tests.serve_pywsgi KIND PORT MODULE``.

The kind "tls" takes the file with certificate and key as a fourth argument; "two" is
two servers, the second on a port of its own, which SIGUSR1 stops and starts again.
"""

from __future__ import annotations

import os
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
    elif KIND == "two":
        from dwebsocket.server import WebSocketServer

        server = WebSocketServer(address, application)
        second = WebSocketServer(("127.0.0.1", int(sys.argv[4])), application)
        second.start()

        def toggle() -> None:
            if second.started:
                second.stop()
            else:
                second.start()

        gevent.signal_handler(signal.SIGUSR1, toggle)
    else:
        server = WSGIServer(address, application)
    for name in ("head_timeout", "keepalive_timeout"):
        if name in os.environ:
            setattr(server.handler_class, name, float(os.environ[name]))
    if "stop_timeout" in os.environ:
        server.stop_timeout = float(os.environ["stop_timeout"])
    gevent.signal_handler(signal.SIGTERM, server.stop)
    server.serve_forever()


main()
