"""The settings: one property each, read when used, and what is valid in them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_network
from itertools import count
from operator import is_
from typing import Any, NamedTuple

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.functional import empty

from .backlog import DISCONNECT, SLOW_CONSUMER_POLICIES
from .deflate import Options
from .limits import Limits
from .ratelimit import RateLimit, parse_rate_limits

__all__ = [
    "REMOVED_SETTINGS",
    "VIEW_OPTIONS",
    "Settings",
    "TaskSettings",
    "UpgradeSettings",
    "find_error",
    "make_settings",
    "settings",
]

#: Settings of dwebsocket 0.5 that have no meaning any more, and what to do.
REMOVED_SETTINGS = {
    "WEBSOCKET_FACTORY_CLASS": (
        "Remove it: the server is found out by itself.  uWSGI isn't supported; "
        "run gunicorn with -k dwebsocket.workers.WebSocketWorker."
    ),
}


class UpgradeSettings(NamedTuple):
    """The settings for an upgrade, as in ``Settings``."""

    allowed_origins: Sequence[str] | str | None
    subprotocols: Sequence[str]
    max_connections: int | None
    compression: Options | None
    limits: Limits
    rate_limits: Sequence[RateLimit]
    handshake_rate_limits: Sequence[RateLimit]


class TaskSettings(NamedTuple):
    """How tasks tell of themselves: see ``docs/tasks.rst``."""

    #: Aliases of the cache for the state and of the backend for the group.
    cache: str = "default"
    using: str = "default"
    #: Seconds for which the state is kept and a reference is valid; None for ever.
    timeout: int | None = 86400
    #: Seconds between two messages.
    interval: float = 0.25
    #: Lines of the log that are kept.
    log_lines: int = 200


class Settings:
    """What applies to a request: a view's own options, else the settings."""

    def __init__(self, options: Mapping[str, Any] | None = None) -> None:
        self._options = options or {}
        self._number = next(_numbers)
        self._found: list[Any] = []
        self._upgrade: UpgradeSettings | None = None

    def _get(self, name: str, default: Any) -> Any:
        option = name.removeprefix("WEBSOCKET_").lower()
        if option in self._options:
            return self._options[option]
        value = getattr(django_settings, name, default)
        error = find_error(option, value)
        if error:
            raise ImproperlyConfigured(f"{name} {error}")
        return value

    @property
    def accept_all(self) -> bool:
        """Whether every view is called for a WebSocket request."""
        return bool(self._get("WEBSOCKET_ACCEPT_ALL", False))

    @property
    def allowed_origins(self) -> Sequence[str] | str | None:
        """Origins that may connect; None is the request's own host, "*" any."""
        return self._get("WEBSOCKET_ALLOWED_ORIGINS", None)  # type: ignore[no-any-return]

    @property
    def subprotocols(self) -> Sequence[str]:
        """Subprotocols of the server, the preferred first."""
        return self._get("WEBSOCKET_SUBPROTOCOLS", ())  # type: ignore[no-any-return]

    @property
    def max_connections(self) -> int | None:
        """Connections that a process holds; above it upgrades get a 503."""
        return self._get("WEBSOCKET_MAX_CONNECTIONS", None)  # type: ignore[no-any-return]

    @property
    def handler_pool_size(self) -> int | None:
        """Handlers that a process runs at the same time; the others wait."""
        return self._get("WEBSOCKET_HANDLER_POOL_SIZE", 100)  # type: ignore[no-any-return]

    @property
    def compression(self) -> Options | None:
        """How messages are compressed, if the client can; None is not at all."""
        value = self._get("WEBSOCKET_COMPRESSION", False)
        if value == 0:
            return None
        return Options(**value) if isinstance(value, Mapping) else Options()

    @property
    def groups(self) -> Mapping[str, Mapping[str, Any]]:
        """The backends for groups by alias, as in CACHES."""
        return self._get("WEBSOCKET_GROUPS", _DEFAULT_GROUPS)  # type: ignore[no-any-return]

    @property
    def tasks(self) -> TaskSettings:
        """How tasks tell of themselves."""
        return TaskSettings(**self._get("WEBSOCKET_TASKS", {}))

    @property
    def limits(self) -> Limits:
        """What one connection may use."""
        return Limits(
            max_message_size=self._get("WEBSOCKET_MAX_MESSAGE_SIZE", 1048576),
            max_queue=self._get("WEBSOCKET_MAX_QUEUE", 1000),
            send_buffer_size=self._get("WEBSOCKET_SEND_BUFFER_SIZE", 1048576),
            close_timeout=self._get("WEBSOCKET_CLOSE_TIMEOUT", 5),
            ping_interval=self._get("WEBSOCKET_PING_INTERVAL", 20),
            ping_timeout=self._get("WEBSOCKET_PING_TIMEOUT", 20),
            slow_consumer=self._get("WEBSOCKET_SLOW_CONSUMER", DISCONNECT),
        )

    @property
    def rate_limits(self) -> list[RateLimit]:
        """How many messages may come per second, and from whom."""
        return self._get_rate_limits("WEBSOCKET_RATE_LIMIT", "connection")

    @property
    def handshake_rate_limits(self) -> list[RateLimit]:
        """How many connections may be opened per second, and by whom."""
        return self._get_rate_limits("WEBSOCKET_HANDSHAKE_RATE_LIMIT", "address")

    def _get_rate_limits(self, name: str, per: str) -> list[RateLimit]:
        scope = name.removeprefix("WEBSOCKET_").lower()
        if scope in self._options:
            # A view's own, while those of the settings are for all together.
            scope += f" of view {self._number}"
        return parse_rate_limits(self._get(name, None), per=per, scope=scope)

    @property
    def trusted_proxies(self) -> Sequence[str]:
        """Networks of the proxies whose X-Forwarded-For is believed."""
        return self._get("WEBSOCKET_TRUSTED_PROXIES", ())  # type: ignore[no-any-return]

    @property
    def upgrade(self) -> UpgradeSettings:
        """What an upgrade needs of them, checked only when a setting has changed."""
        # Looking up what isn't set takes long in the lazy object.
        loaded = django_settings._wrapped
        source = django_settings if loaded is empty else loaded
        found = [getattr(source, name, _UNSET) for name in _NAMES]
        if self._upgrade is None or not all(map(is_, found, self._found)):
            self._upgrade = UpgradeSettings(
                self.allowed_origins,
                self.subprotocols,
                self.max_connections,
                self.compression,
                self.limits,
                self.rate_limits,
                self.handshake_rate_limits,
            )
            self._found = found
        return self._upgrade


_numbers = count()
settings = Settings()

_DEFAULT_GROUPS = {"default": {"BACKEND": "dwebsocket.groups.memory.MemoryBackend"}}


def make_settings(options: Mapping[str, Any]) -> Settings:
    """Return what applies to a view with its own ``options``.

    Raises TypeError for one that doesn't exist, ValueError for one that is invalid.
    """
    for option, value in options.items():
        if option not in VIEW_OPTIONS:
            known = ", ".join(sorted(VIEW_OPTIONS))
            raise TypeError(f"unknown option {option!r}; there are {known}")
        error = find_error(option, value)
        if error:
            raise ValueError(f"{option} {error}")
    return Settings(options)


def find_error(option: str, value: Any) -> str | None:
    """Return what is wrong with the value of an option, or None.

    ``option`` is the lower-case name without ``WEBSOCKET_``.  Raises KeyError
    for a name that doesn't exist.
    """
    return _VALIDATORS[option](value)


def _check_bool(value: Any) -> str | None:
    return None if value in (True, False) else "must be True or False."


def _check_compression(value: Any) -> str | None:
    if value in (True, False):
        return None
    if not isinstance(value, Mapping):
        return "must be True, False or a dictionary of options."
    for name, option in value.items():
        valid = _COMPRESSION_OPTIONS.get(name)
        if valid is None:
            known = ", ".join(_COMPRESSION_OPTIONS)
            return f"has the unknown option {name!r}; there are {known}."
        if not isinstance(option, int) or option not in valid:
            return f"needs a number from {valid[0]} to {valid[-1]} for {name!r}."
    return None


#: What the fields of ``deflate.Options`` may be.
_COMPRESSION_OPTIONS = {
    "server_context_takeover": range(False, True + 1),
    "client_context_takeover": range(False, True + 1),
    "server_max_window_bits": range(9, 16),
    "client_max_window_bits": range(9, 16),
    "threshold": range(2**31),
    "level": range(1, 10),
    "memory_level": range(1, 10),
}


def _check_count(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        return "must be a positive integer or None."
    return None


def _check_seconds(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "must be a number of seconds or None."
    if not 0 < value < float("inf"):
        return "must be a positive number of seconds, or None for no limit."
    return None


def _check_origins(value: Any) -> str | None:
    if value is None or value == "*":
        return None
    if not isinstance(value, (list, tuple, set, frozenset)):
        return 'must be a list of origins, "*" or None.'
    for origin in value:
        if origin != "*" and not re.fullmatch(r"\w[\w+.-]*://[^/?#\s]+", str(origin)):
            return (
                f"contains {origin!r}, which isn't an origin like "
                '"https://example.com" or "https://*.example.com".'
            )
    return None


def _check_groups(value: Any) -> str | None:
    if not isinstance(value, Mapping) or "default" not in value:
        return 'must be a dictionary with the key "default".'
    for alias, config in value.items():
        if not isinstance(config, Mapping) or "BACKEND" not in config:
            return f'needs a dictionary with the key "BACKEND" for {alias!r}.'
        unknown = set(config) - {"BACKEND", "LOCATION", "OPTIONS"}
        if unknown:
            return f"has the unknown key {min(unknown)!r} for {alias!r}."
    return None


def _check_rate_limit(value: Any) -> str | None:
    try:
        parse_rate_limits(value)
    except ValueError as exc:
        return f"must be a rate, or a list of them: {exc}."
    return None


def _check_handshake_rate_limit(value: Any) -> str | None:
    error = _check_rate_limit(value)
    if error is not None:
        return error
    for limit in parse_rate_limits(value, per="address"):
        if limit.per == "connection" or limit.over != "close":
            return 'must be per "user" or "address", and without "over".'
    return None


def _check_proxies(value: Any) -> str | None:
    if not isinstance(value, (list, tuple)):
        return 'must be a list of networks, or of "unix".'
    for name in value:
        try:
            if name != "unix":
                ip_network(name)
        except ValueError:
            return (
                f"contains {name!r}, which is neither a network like "
                '"10.0.0.0/8" or "127.0.0.1" nor "unix".'
            )
    return None


def _check_slow_consumer(value: Any) -> str | None:
    if value not in SLOW_CONSUMER_POLICIES:
        return f"must be one of {', '.join(SLOW_CONSUMER_POLICIES)}."
    return None


def _check_subprotocols(value: Any) -> str | None:
    if not isinstance(value, (list, tuple)) or not all(
        isinstance(name, str) and re.fullmatch(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", name)
        for name in value
    ):
        return "must be a list of subprotocol names (RFC 9110 tokens)."
    return None


#: How to check those fields of TaskSettings that are numbers.
_TASK_OPTIONS: dict[str, Callable[[Any], str | None]] = {
    "timeout": _check_count,
    "interval": _check_seconds,
    "log_lines": _check_count,
}


def _check_tasks(value: Any) -> str | None:
    if not isinstance(value, Mapping):
        return "must be a dictionary of options."
    unknown = set(value) - set(TaskSettings._fields)
    if unknown:
        known = ", ".join(TaskSettings._fields)
        return f"has the unknown option {min(unknown)!r}; there are {known}."
    for name, check in _TASK_OPTIONS.items():
        option = value.get(name, 1)
        if check(option) or option is None and name != "timeout":
            return f"has a {name!r} that it can't have: {option!r}."
    return None


_VALIDATORS: dict[str, Callable[[Any], str | None]] = {
    "accept_all": _check_bool,
    "allowed_origins": _check_origins,
    "close_timeout": _check_seconds,
    "compression": _check_compression,
    "groups": _check_groups,
    "handler_pool_size": _check_count,
    "handshake_rate_limit": _check_handshake_rate_limit,
    "max_connections": _check_count,
    "max_message_size": _check_count,
    "max_queue": _check_count,
    "ping_interval": _check_seconds,
    "ping_timeout": _check_seconds,
    "rate_limit": _check_rate_limit,
    "send_buffer_size": _check_count,
    "slow_consumer": _check_slow_consumer,
    "subprotocols": _check_subprotocols,
    "tasks": _check_tasks,
    "trusted_proxies": _check_proxies,
}

#: Options that a decorator takes to override the setting for its view.
VIEW_OPTIONS = frozenset(_VALIDATORS) - {
    *("accept_all", "groups", "handler_pool_size", "max_connections"),
    *("tasks", "trusted_proxies"),
}

_NAMES = [f"WEBSOCKET_{option.upper()}" for option in _VALIDATORS]
_UNSET = object()
