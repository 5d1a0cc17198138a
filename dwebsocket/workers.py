"""gunicorn's gevent worker with hand-over.

::

    gunicorn -k dwebsocket.workers.WebSocketWorker mysite.wsgi
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

from gevent import monkey
from gunicorn.workers.ggevent import GeventWorker

from .gateway import HANDOVER

__all__ = ["WebSocketWorker"]


class WebSocketWorker(GeventWorker):  # type: ignore[misc]
    """Serves HTTP as ``-k gevent`` does; a WebSocket's greenlet ends at the 101.

    So ``worker_connections`` counts HTTP connections only.
    """

    def patch(self) -> None:
        if "django.db" in sys.modules and not monkey.is_module_patched("threading"):
            raise RuntimeError(_TOO_LATE)
        super().patch()

    def load_wsgi(self) -> None:
        super().load_wsgi()
        if not self.cfg.is_ssl:
            self.wsgi: Any = _offer_handover(self.wsgi)


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
