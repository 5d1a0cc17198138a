"""gunicorn's gevent worker with hand-over and draining.

::

    gunicorn -k dwebsocket.workers.WebSocketWorker mysite.wsgi
"""

from __future__ import annotations

import errno
import gc
import mmap
import os
import signal
import sys
from collections.abc import Callable, Iterable
from typing import Any

import gevent
from gevent import monkey
from gunicorn.workers.ggevent import GeventWorker

from .frames import CloseCode
from .gateway import HANDOVER, stop_receiving
from .registry import registry
from .server import TLSLimit

__all__ = ["WebSocketWorker"]

#: How often the arbiter has loaded its configuration, in memory that the workers
#: share: so they know whether their end is part of a reload.
_loads = mmap.mmap(-1, 8)
_arbiter_pid = os.getpid()

#: Seconds of graceful_timeout that are left for the worker's own end.
_RESERVE = 2
#: Seconds that a connection without a request may still take then.
_HEAD_TIMEOUT_AT_END = 2


class WebSocketWorker(GeventWorker):  # type: ignore[misc]
    """Serves HTTP as ``-k gevent`` does; a WebSocket's greenlet ends at the 101.

    So ``worker_connections`` counts HTTP connections only.

    When the worker has to end, its connections are closed with 1012 (reload,
    ``max_requests``: the client should come back) or 1001 (stop) and their views
    get time to end, within ``graceful_timeout``; upgrade requests get 503.
    """

    #: Seconds for a TLS handshake, and then until the first request line has come,
    #: with its headers; None = no limit.  Later ones have gunicorn's ``keepalive``.
    head_timeout: float | None = 20

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._servers: list[_Server] = []
        # Greenlets of connections without a request, and what they wait with.
        self._heads: dict[Any, tuple[gevent.Timeout, Any]] = {}
        self._is_alive = True
        self._is_told = False
        self._load = _loads[0]
        self._drain: gevent.Greenlet[..., Any] | None = None
        super().__init__(*args, **kwargs)

    @classmethod
    def setup(cls) -> None:
        """gunicorn's arbiter has loaded its configuration."""
        if os.getpid() == _arbiter_pid:
            _loads[0] = (_loads[0] + 1) % 256

    # All ways to the worker's end lead through this attribute: signals, the
    # max_requests setting.
    @property
    def alive(self) -> bool:
        """Whether the worker goes on; becoming false starts the draining."""
        return self._is_alive

    @alive.setter
    def alive(self, value: bool) -> None:
        if self._is_alive and not value:
            self._drain = gevent.spawn(self._close_connections)
            gevent.spawn(self._end_heads)
        self._is_alive = value

    def init_process(self) -> None:
        # The arbiter's handlers are still in place, and would swallow the signal.
        for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT):
            signal.signal(number, lambda *args: os._exit(0))
        super().init_process()

    def handle_exit(self, sig: int, frame: Any) -> None:
        self._is_told = True
        super().handle_exit(sig, frame)

    def _close_connections(self) -> None:
        # gunicorn does it up to a second later, and whoever comes back meanwhile would
        # be refused.
        for server in self._servers:
            server.close()
        is_stop = self._is_told and self._load == _loads[0]
        code = CloseCode.GOING_AWAY if is_stop else CloseCode.SERVICE_RESTART
        timeout = self.cfg.graceful_timeout
        count = registry.open
        if registry.drain(code, "", max(timeout - _RESERVE, timeout / 2)):
            self.log.info("Closed %d WebSockets with %d", count, code)
        else:
            self.log.warning("Some of %d WebSockets did not end in time", count)

    def _end_heads(self) -> None:
        waiting = list(self._heads)
        gevent.sleep(_HEAD_TIMEOUT_AT_END)
        for greenlet in waiting:
            if greenlet in self._heads:
                stop_receiving(self._heads[greenlet][1])

    def server_class(self, listener: Any, *, spawn: Any, **options: Any) -> _Server:
        """gunicorn's way to another server than its own, which has one difference."""
        ssl_args = {key: options[key] for key in options.keys() & {"ssl_context"}}
        server = _Server(listener, worker=self, spawn=spawn, **ssl_args)
        if self.cfg.workers > 1:
            server.max_accept = 1
        self._servers.append(server)
        return server

    def run(self) -> None:
        super().run()
        # HTTP is over; the arbiter has to hear of us as long as it lasts.
        while self._drain is not None and not self._drain.ready():
            self.notify()
            self._drain.join(0.5)

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        # Of an error with this number gunicorn makes no more than a close.
        error = OSError(errno.ENOTCONN, "no request in time")
        greenlet = gevent.getcurrent()
        with gevent.Timeout(self.head_timeout, error) as timer:
            self._heads[greenlet] = timer, client
            try:
                super().handle(listener, client, addr)
            finally:
                self._heads.pop(greenlet, None)

    def timeout_ctx(self) -> gevent.Timeout:
        # gunicorn has ``keepalive``, 2 seconds, for the first request as well.  When
        # thousands connect at once, their requests take longer.
        if gevent.getcurrent() in self._heads:
            return gevent.Timeout(None)
        return super().timeout_ctx()  # type: ignore[no-any-return]

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> Any:
        self._end_head()
        return super().handle_request(listener_name, req, sock, addr)

    def handle_http2(self, *args: Any, **kwargs: Any) -> Any:
        self._end_head()
        return super().handle_http2(*args, **kwargs)

    def _end_head(self) -> None:
        head = self._heads.pop(gevent.getcurrent(), None)
        if head is not None:
            head[0].close()

    def patch(self) -> None:
        if "django.db" in sys.modules and not monkey.is_module_patched("threading"):
            raise RuntimeError(_TOO_LATE)
        super().patch()

    def load_wsgi(self) -> None:
        registry.workers = self.cfg.workers
        super().load_wsgi()
        if not self.cfg.is_ssl:
            self.wsgi: Any = _offer_handover(self.wsgi)
        # The application stays, and is larger than what thousands of connections keep:
        # each full collection, a pause for all of them, would look through it again.
        gc.collect()
        gc.freeze()


class _Server(TLSLimit):
    def __init__(self, listener: Any, worker: WebSocketWorker, **options: Any) -> None:
        self._worker = worker
        self._name = listener.getsockname()
        super().__init__(listener, **options)

    # Connections whose TLS handshake is under way when close() is called need both of
    # this method and the listener's name.
    def handle(self, client: Any, address: Any) -> None:
        self._worker.handle(self, client, address)

    def getsockname(self) -> Any:
        """Return the listener's name, of which alone gunicorn makes use."""
        return self._name

    def get_handshake_timeout(self) -> float | None:
        return self._worker.head_timeout


_TOO_LATE = (
    "Django was imported before gevent could patch the standard library, so all "
    "greenlets would share one database connection. Don't use --preload with this "
    "worker, and don't import Django in the gunicorn configuration; or put "
    "'from gevent import monkey; monkey.patch_all()' at the top of the configuration."
)


def _offer_handover(application: Callable[..., Any]) -> Callable[..., Any]:
    def wsgi(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        environ[HANDOVER] = True
        return application(environ, start_response)  # type: ignore[no-any-return]

    return wsgi
