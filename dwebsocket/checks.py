"""System checks.

* ``dwebsocket.E001``: a setting has a value that it can't have
* ``dwebsocket.E002``: a middleware's ``process_view`` comes too late
* ``dwebsocket.E003``: Django was imported before gevent patched the library
* ``dwebsocket.W001``: a setting of dwebsocket 0.5 has no meaning any more
* ``dwebsocket.W002``: a ``WEBSOCKET_`` setting that doesn't exist
* ``dwebsocket.W003``: ``runserver`` is another app's
* ``dwebsocket.W004`` (``--deploy``): groups reach one worker only
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string
from gevent import monkey

from .conf import REMOVED_SETTINGS, find_error
from .conf import settings as our_settings
from .upgrade import are_connections_shared

__all__ = [
    "check_apps",
    "check_groups",
    "check_middleware",
    "check_patching",
    "check_settings",
]

_MIDDLEWARE = "dwebsocket.middleware.WebSocketMiddleware"


@register("dwebsocket")
def check_settings(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    return list(_check_settings())


def _check_settings() -> Iterator[CheckMessage]:
    # override_settings() makes dir() name some twice.
    for name in sorted(set(dir(settings))):
        if not name.startswith("WEBSOCKET_"):
            continue
        if name in REMOVED_SETTINGS:
            yield Warning(
                f"{name} has no meaning any more.",
                hint=REMOVED_SETTINGS[name],
                id="dwebsocket.W001",
            )
            continue
        try:
            error = find_error(
                name.removeprefix("WEBSOCKET_").lower(), getattr(settings, name)
            )
        except KeyError:
            yield Warning(
                f"There is no setting {name}.",
                hint="Look for a misspelling; docs/reference-settings.rst lists all.",
                id="dwebsocket.W002",
            )
            continue
        if error:
            yield Error(
                f"{name} {error}",
                hint="docs/reference-settings.rst describes all settings.",
                id="dwebsocket.E001",
            )


@register("dwebsocket")
def check_middleware(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    if _MIDDLEWARE not in settings.MIDDLEWARE:
        return []
    position = settings.MIDDLEWARE.index(_MIDDLEWARE)
    return [
        Error(
            f"{path} comes after {_MIDDLEWARE}, so its process_view isn't called "
            "for WebSocket requests that the latter answers.",
            hint=f"Move {_MIDDLEWARE} below {path} in MIDDLEWARE.",
            id="dwebsocket.E002",
        )
        for path in settings.MIDDLEWARE[position + 1 :]
        if hasattr(import_string(path), "process_view")
    ]


@register("dwebsocket")
def check_patching(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    if not monkey.is_module_patched("threading") or not are_connections_shared():
        return []
    return [
        Error(
            "Django was imported before gevent patched the standard library, so "
            "all greenlets share one database connection.",
            hint="Call gevent.monkey.patch_all() before anything else is imported, "
            "and don't use gunicorn's --preload.",
            id="dwebsocket.E003",
        )
    ]


@register("dwebsocket")
def check_apps(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    from django.core.management import get_commands

    owner = get_commands().get("runserver")
    if not apps.is_installed("dwebsocket") or owner == "dwebsocket":
        return []
    return [
        Warning(
            f"The runserver command is that of {owner}, which can't serve WebSockets.",
            hint=f'Put "dwebsocket" before "{owner}" in INSTALLED_APPS.',
            id="dwebsocket.W003",
        )
    ]


@register("dwebsocket", deploy=True)
def check_groups(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    try:
        groups = our_settings.groups
    except ImproperlyConfigured:
        return []  # E001
    return [
        Warning(
            f"The backend {alias!r} of WEBSOCKET_GROUPS reaches the connections of one "
            "process only.",
            hint="With several workers, or other processes that send, use "
            "dwebsocket.groups.redis.RedisBackend.",
            id="dwebsocket.W004",
        )
        for alias, config in groups.items()
        if config["BACKEND"] == "dwebsocket.groups.memory.MemoryBackend"
    ]
