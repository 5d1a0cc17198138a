"""The backends of WEBSOCKET_GROUPS: one object of each, made on first use."""

from __future__ import annotations

import os

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from ..conf import settings
from .base import GroupBackend

__all__ = ["get_backend"]

_backends: dict[str, GroupBackend] = {}


def get_backend(alias: str) -> GroupBackend:
    """Return the backend of this process by its alias.

    Raises ImproperlyConfigured for one that WEBSOCKET_GROUPS hasn't got right.
    """
    backend = _backends.get(alias)
    if backend is None:
        config = settings.groups.get(alias)
        if config is None:
            raise ImproperlyConfigured(f"WEBSOCKET_GROUPS has no {alias!r}.")
        try:
            backend_class = import_string(config["BACKEND"])
        except ImportError as exc:
            raise ImproperlyConfigured(
                f"WEBSOCKET_GROUPS: {config['BACKEND']} can't be imported: {exc}"
            ) from exc
        backend = _backends[alias] = backend_class(
            alias, config.get("LOCATION"), config.get("OPTIONS", {})
        )
    return backend


def _on_setting_changed(*, setting: str, **kwargs: object) -> None:
    if setting == "WEBSOCKET_GROUPS":
        for backend in _backends.values():
            backend.close()
        _backends.clear()


setting_changed.connect(_on_setting_changed)
# Memberships, and connections to an engine, are those of one process.
os.register_at_fork(after_in_child=_backends.clear)
