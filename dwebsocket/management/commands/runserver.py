"""``manage.py runserver`` on gevent, in every other way Django's own.

gevent has to patch the standard library before Django is imported, and when a
command runs, Django is: the process replaces itself with ``python -m
gevent.monkey manage.py runserver ...``.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from datetime import datetime
from typing import Any

import gevent
from django.apps import apps
from django.utils import autoreload
from gevent import monkey

from dwebsocket.server import WebSocketHandler, WebSocketServer

if apps.is_installed("django.contrib.staticfiles"):
    from django.contrib.staticfiles.management.commands.runserver import (
        Command as RunserverCommand,
    )
else:
    from django.core.management.commands.runserver import (  # type: ignore[assignment]
        Command as RunserverCommand,
    )

__all__ = ["Command"]

logger = logging.getLogger("django.server")


class _Handler(WebSocketHandler):
    """Logs like ``django.core.servers.basehttp.WSGIRequestHandler``."""

    def log_request(self) -> None:
        status = abs(self.code or 500)
        level = logging.INFO
        if status >= 500:
            level = logging.ERROR
        elif status >= 400:
            level = logging.WARNING
        logger.log(
            level,
            '"%s" %s %s',
            self.requestline,
            status,
            self.response_length,
            extra={
                "request": self.socket,
                "server_time": datetime.now().strftime("%d/%b/%Y %H:%M:%S"),
                "status_code": status,
            },
        )


class _Server(WebSocketServer):
    """Looks to ``django.core.servers.basehttp.run`` like its ``WSGIServer``."""

    handler_class = _Handler

    def __init__(
        self, address: tuple[str, int], handler_class: type, *, ipv6: bool = False
    ) -> None:
        self.family = socket.AF_INET6 if ipv6 else socket.AF_INET
        super().__init__(address, environ={"wsgi.multithread": True})
        self.init_socket()

    def set_app(self, application: Any) -> None:
        self.application = application


class Command(RunserverCommand):
    help = "Starts a lightweight web server for development, with WebSockets."
    server_cls = _Server  # type: ignore[assignment]

    def run(self, **options: Any) -> None:
        # With the reloader this process only watches over the one that serves.
        is_server = not options["use_reloader"] or (
            os.environ.get(autoreload.DJANGO_AUTORELOAD_ENV) == "true"
        )
        if is_server:
            if not monkey.is_module_patched("threading"):
                _restart_patched()
            _direct_interrupts()
        super().run(**options)


def _direct_interrupts() -> None:
    """Have Ctrl-C end the main greenlet, not whichever runs at the moment."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return  # ignored, in the background of a shell
    main = gevent.getcurrent()

    def interrupt() -> None:
        gevent.get_hub().loop.run_callback(main.throw, KeyboardInterrupt)

    gevent.signal_handler(signal.SIGINT, interrupt)


def _restart_patched() -> None:
    script = sys.argv[0]
    path = os.environ.get("PYTHONPATH")
    # What "python script" puts there, and "python -m" doesn't.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (sys.path[0], path)))
    warnings = [f"-W{option}" for option in sys.warnoptions]
    arguments = ["-m", "gevent.monkey", script, *sys.argv[1:]]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *warnings, *arguments])
