"""gevent-websocket on gevent.pywsgi, without a framework."""

import sys

from gevent import monkey

monkey.patch_all()

from gevent.pywsgi import WSGIServer  # noqa: E402
from geventwebsocket.handler import WebSocketHandler  # noqa: E402


def application(environ, start_response):
    websocket = environ.get("wsgi.websocket")
    if websocket is None:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"Hello"]
    while True:
        message = websocket.receive()
        if message is None:
            return []
        websocket.send(message)


WSGIServer(
    ("127.0.0.1", int(sys.argv[1])),
    application,
    handler_class=WebSocketHandler,
    log=None,
).serve_forever()
