"""``manage.py runserver`` on gevent, in every other way Django's own.

gevent has to patch the standard library before Django is imported, and when a
command runs, Django is: the process replaces itself with ``python -m
gevent.monkey manage.py runserver ...``.

With the reloader there are two processes, as with Django's: one serves and exits with
3 to be reloaded, the other starts it again and again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
from datetime import datetime
from typing import Any, ClassVar, NoReturn

import gevent
from django.apps import apps
from django.utils import autoreload
from gevent import monkey

from dwebsocket.frames import CloseCode
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

#: The exit status of ``autoreload.trigger_reload``.
_RELOAD = 3


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
    #: A developer waits for the new code.
    stop_timeout = 3
    #: The one of this process.
    current: ClassVar[_Server | None] = None

    def __init__(
        self, address: tuple[str, int], handler_class: type, *, ipv6: bool = False
    ) -> None:
        self.family = socket.AF_INET6 if ipv6 else socket.AF_INET
        super().__init__(address, environ={"wsgi.multithread": True})
        self.init_socket()
        _Server.current = self

    def set_app(self, application: Any) -> None:
        self.application = application


class Command(RunserverCommand):
    help = "Starts a lightweight web server for development, with WebSockets."
    server_cls = _Server  # type: ignore[assignment]

    def run(self, **options: Any) -> None:
        # With the reloader this process only watches over the one that serves.
        if options["use_reloader"] and (
            os.environ.get(autoreload.DJANGO_AUTORELOAD_ENV) != "true"
        ):
            _watch()
        if not monkey.is_module_patched("threading"):
            _restart_patched()
        code = CloseCode.GOING_AWAY
        try:
            super().run(**options)
        except SystemExit as exc:
            if exc.code == _RELOAD:
                code = CloseCode.SERVICE_RESTART
            raise
        finally:
            # Without the reloader it has been stopped.
            if options["use_reloader"] and _Server.current is not None:
                with contextlib.suppress(KeyboardInterrupt):
                    _Server.current.stop(code=code)

    def inner_run(self, *args: Any, **options: Any) -> None:
        # By now the reloader has set a handler of its own.
        _direct_signals()
        super().inner_run(*args, **options)


def _direct_signals() -> None:
    """Have signals end the main greenlet, not whichever runs at the moment."""
    loop = gevent.get_hub().loop
    main: Any = gevent.get_hub().parent
    received: list[int] = []

    def interrupt(number: int) -> None:
        # Ctrl-C reaches this process twice, being passed on by the one that watches;
        # who presses it twice doesn't want to wait.
        is_impatient = number == signal.SIGINT and number in received
        if not received or is_impatient:
            loop.run_callback(main.throw, KeyboardInterrupt)
        received.append(number)

    gevent.signal_handler(signal.SIGTERM, interrupt, signal.SIGTERM)
    # It is ignored in the background of a shell.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        gevent.signal_handler(signal.SIGINT, interrupt, signal.SIGINT)


def _watch() -> NoReturn:
    """Start the process that serves, and again when it ends to be reloaded.

    As ``autoreload.restart_with_reloader``, which kills it when this one is told to
    end, instead of waiting for it.
    """
    arguments = autoreload.get_child_arguments()
    environ = {**os.environ, autoreload.DJANGO_AUTORELOAD_ENV: "true"}
    if getattr(sys.stdout, "write_through", False):
        environ["PYTHONUNBUFFERED"] = "1"  # python -u
    process: subprocess.Popen[bytes] | None = None
    is_ending = False

    def end(number: int, frame: Any) -> None:
        nonlocal is_ending
        is_ending = True
        if process is not None:
            process.terminate()

    signal.signal(signal.SIGTERM, end)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, end)
    while not is_ending:
        process = subprocess.Popen(arguments, env=environ, close_fds=False)
        if is_ending:
            process.terminate()
        status = process.wait()
        if status != _RELOAD and not is_ending:
            sys.exit(status)
    sys.exit(0)


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
