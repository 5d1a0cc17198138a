"""The Django app: registers checks, signal receivers and the apps' messages.

In a process that imports Django's test client it sees to it that the client has
``websocket_connect``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

from django.apps import AppConfig
from django.core.signals import request_started
from django.db.backends.signals import connection_created
from django.utils.module_loading import autodiscover_modules

from . import databases

__all__ = ["WebSocketConfig"]

_TEST_CLIENT = "django.test.client"


class WebSocketConfig(AppConfig):
    name = "dwebsocket"
    verbose_name = "WebSockets"

    def ready(self) -> None:
        from . import authentication, checks, login_signals  # noqa: F401

        connection_created.connect(databases.note_connection)
        request_started.connect(authentication.hide_token)
        login_signals.connect()
        autodiscover_modules("messages")
        if _TEST_CLIENT in sys.modules:
            from . import testing  # noqa: F401
        else:
            sys.meta_path.insert(0, _TestClientFinder())


class _TestClientFinder(MetaPathFinder):
    """Imports ``testing`` behind Django's test client.

    Imported by ``ready``, the two would take 1.6 MB and more in each worker.
    """

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        if fullname != _TEST_CLIENT:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path)
        if spec is not None and spec.loader is not None:
            exec_module = spec.loader.exec_module

            def exec_and_extend(module: ModuleType) -> None:
                exec_module(module)
                from . import testing  # noqa: F401

            spec.loader.exec_module = exec_and_extend  # type: ignore[method-assign]
        return spec
