#!/usr/bin/env python
"""Serve the example project with gevent.pywsgi alone: `python serve.py [PORT]`."""

from __future__ import annotations

import sys

from gevent import monkey

monkey.patch_all()  # before Django is imported


def main() -> None:
    """Serve on the port given, or on 8000."""
    from example.wsgi import application

    from dwebsocket.server import WebSocketServer

    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    print(f"Serving on http://127.0.0.1:{port}/")
    WebSocketServer(("127.0.0.1", port), application).serve_forever()


if __name__ == "__main__":
    main()
