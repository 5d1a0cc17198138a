"""The settings: defaults, overriding, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from dwebsocket.conf import VIEW_OPTIONS, Settings, TaskSettings, find_error, settings
from dwebsocket.deflate import Options
from dwebsocket.ratelimit import parse_rate_limits

DEFAULTS = {
    "accept_all": False,
    "allowed_origins": None,
    "close_timeout": 5,
    "compression": False,
    "groups": {"default": {"BACKEND": "dwebsocket.groups.memory.MemoryBackend"}},
    "handler_pool_size": 100,
    "handshake_rate_limit": None,
    "max_connections": None,
    "max_message_size": 1048576,
    "max_queue": 1000,
    "ping_interval": 20,
    "ping_timeout": 20,
    "rate_limit": None,
    "send_buffer_size": 1048576,
    "slow_consumer": "disconnect",
    "subprotocols": (),
    "tasks": {},
    "trusted_proxies": (),
}

VALID = [
    ("accept_all", True),
    ("accept_all", False),
    ("allowed_origins", None),
    ("allowed_origins", "*"),
    ("allowed_origins", []),
    ("allowed_origins", ["https://example.com", "http://*.example.com:8000", "*"]),
    ("allowed_origins", ("chrome-extension://abc",)),
    ("allowed_origins", {"http://[::1]:8000"}),
    ("close_timeout", None),
    ("close_timeout", 0.01),
    ("compression", True),
    ("compression", False),
    ("compression", {}),
    ("compression", {"server_context_takeover": True, "level": 9, "threshold": 0}),
    ("compression", {"client_max_window_bits": 9, "memory_level": 1}),
    ("groups", {"default": {"BACKEND": "a.b"}, "other": {"BACKEND": "a.b"}}),
    ("handler_pool_size", None),
    ("handler_pool_size", 1),
    ("handshake_rate_limit", "5/m"),
    ("handshake_rate_limit", [{"rate": "5/m", "per": "user"}, "100/h"]),
    ("max_connections", None),
    ("max_connections", 1),
    ("max_message_size", None),
    ("max_message_size", 1),
    ("max_queue", None),
    ("max_queue", 1),
    ("ping_interval", None),
    ("ping_timeout", 0.5),
    ("rate_limit", []),
    ("rate_limit", "10/s"),
    ("rate_limit", {"rate": "10/s", "burst": 1, "per": "user", "over": "drop"}),
    ("rate_limit", ["10/s", {"rate": "10/s", "per": "address", "over": "error"}]),
    ("send_buffer_size", None),
    ("send_buffer_size", 1),
    ("slow_consumer", "disconnect"),
    ("slow_consumer", "drop_oldest"),
    ("slow_consumer", "drop_newest"),
    ("slow_consumer", "coalesce"),
    ("subprotocols", []),
    ("subprotocols", ("chat.v2", "chat")),
    ("tasks", {}),
    ("tasks", {"cache": "tasks", "using": "tasks", "timeout": None}),
    ("tasks", {"interval": 0.5, "log_lines": 1}),
    ("trusted_proxies", []),
    ("trusted_proxies", ("10.0.0.0/8", "127.0.0.1", "fd00::/8", "::1", "unix")),
]

INVALID = [
    ("accept_all", "yes"),
    ("accept_all", None),
    ("allowed_origins", "https://example.com"),
    ("allowed_origins", ["example.com"]),
    ("allowed_origins", ["https://example.com/"]),
    ("allowed_origins", ["https://example.com/path"]),
    ("allowed_origins", ["https://example.com\n"]),
    ("allowed_origins", [None]),
    ("allowed_origins", 1),
    *(
        (option, value)
        for option in ("max_connections", "max_message_size")
        for value in (0, -1, 1.5, "1", True)
    ),
    ("handler_pool_size", 0),
    ("max_queue", 0),
    ("send_buffer_size", 0),
    ("compression", "yes"),
    ("compression", 2),
    ("compression", None),
    ("compression", ["level"]),
    ("compression", {"window_bits": 15}),
    ("compression", {"level": 0}),
    ("compression", {"level": 6.0}),
    ("compression", {"server_max_window_bits": 8}),
    ("compression", {"client_max_window_bits": 16}),
    ("compression", {"client_context_takeover": "yes"}),
    ("close_timeout", 0),
    ("close_timeout", -1),
    ("close_timeout", "5"),
    ("close_timeout", True),
    ("close_timeout", float("nan")),
    ("groups", None),
    ("groups", "default"),
    ("groups", {}),
    ("groups", {"default": "a.b"}),
    ("groups", {"other": {"BACKEND": "a.b"}}),
    ("groups", {"default": {}}),
    ("groups", {"default": {"BACKEND": "a.b", "TIMEOUT": 1}}),
    ("handshake_rate_limit", "5"),
    ("handshake_rate_limit", {"rate": "5/m", "per": "connection"}),
    ("handshake_rate_limit", {"rate": "5/m", "over": "drop"}),
    ("rate_limit", 10),
    ("rate_limit", {"rate": "10/s", "per": "ip"}),
    ("slow_consumer", None),
    ("slow_consumer", "wait"),
    ("slow_consumer", ["disconnect"]),
    ("trusted_proxies", "127.0.0.1"),
    ("trusted_proxies", ["10.0.0.1/8"]),
    ("trusted_proxies", ["localhost"]),
    ("trusted_proxies", [None]),
    ("subprotocols", "chat"),
    ("subprotocols", None),
    ("subprotocols", {"a", "b"}),
    ("subprotocols", [""]),
    ("subprotocols", ["a b"]),
    ("subprotocols", ["a\n"]),
    ("subprotocols", [1]),
    ("tasks", None),
    ("tasks", {"lines": 3}),
    ("tasks", {"timeout": 0}),
    ("tasks", {"interval": None}),
    ("tasks", {"interval": "1s"}),
    ("tasks", {"log_lines": None}),
    ("tasks", {"log_lines": 0.5}),
]


def read(source: Settings, option: str) -> Any:
    if option.endswith("rate_limit"):
        # Of which view they are is no matter here.
        return [limit._replace(scope="") for limit in getattr(source, f"{option}s")]
    if hasattr(source, option):
        return getattr(source, option)
    return getattr(source.limits, option)


def as_read(option: str, value: Any) -> Any:
    """Return what ``read`` does for a value of a setting."""
    if option.endswith("rate_limit"):
        per = "connection" if option == "rate_limit" else "address"
        return parse_rate_limits(value, per=per)
    if option == "tasks":
        return TaskSettings(**value)
    if option != "compression":
        return value
    if value is False:
        return None
    return Options() if value is True else Options(**value)


@pytest.mark.parametrize("option", DEFAULTS)
def test_default(option: str) -> None:
    name = f"WEBSOCKET_{option.upper()}"
    with override_settings():
        if hasattr(django_settings, name):
            delattr(django_settings, name)
        assert read(settings, option) == as_read(option, DEFAULTS[option])
    assert find_error(option, DEFAULTS[option]) is None


@pytest.mark.parametrize("option, value", VALID)
def test_settings_are_read_when_used(option: str, value: Any) -> None:
    source = Settings()
    with override_settings(**{f"WEBSOCKET_{option.upper()}": value}):
        assert read(source, option) == as_read(option, value)
        assert read(settings, option) == as_read(option, value)
    if option not in ("subprotocols", "trusted_proxies"):  # the test site has them
        assert read(source, option) == as_read(option, DEFAULTS[option])


@pytest.mark.parametrize("option, value", INVALID)
def test_a_bad_value_is_refused(option: str, value: Any) -> None:
    name = f"WEBSOCKET_{option.upper()}"
    with override_settings(**{name: value}):
        pattern = rf"^{name} (must|contains|has|needs) "
        with pytest.raises(ImproperlyConfigured, match=pattern):
            read(settings, option)
    assert find_error(option, value)


@pytest.mark.parametrize(
    "option, value", [case for case in VALID if case[0] in VIEW_OPTIONS]
)
def test_options_of_a_view_come_first(option: str, value: Any) -> None:
    # Even before one that would be refused.
    with override_settings(**{f"WEBSOCKET_{option.upper()}": object()}):
        assert read(Settings({option: value}), option) == as_read(option, value)


def test_an_option_leaves_the_others_alone() -> None:
    with override_settings(WEBSOCKET_MAX_QUEUE=7, WEBSOCKET_MAX_MESSAGE_SIZE=8):
        limits = Settings({"max_message_size": 9}).limits
    assert (limits.max_queue, limits.max_message_size) == (7, 9)


def test_names() -> None:
    assert set(DEFAULTS) - VIEW_OPTIONS == {
        *("accept_all", "groups", "handler_pool_size", "max_connections"),
        *("tasks", "trusted_proxies"),
    }
    for name in ("factory_class", "MAX_QUEUE", ""):
        with pytest.raises(KeyError):
            find_error(name, None)


def test_an_upgrade_sees_settings_change() -> None:
    source = Settings({"max_queue": 9})
    with override_settings(WEBSOCKET_PING_TIMEOUT=20):
        first = source.upgrade
        assert source.upgrade is first
        assert first.limits == source.limits
        for value in (None, 7):
            with override_settings(WEBSOCKET_PING_TIMEOUT=value):
                assert source.upgrade.limits.ping_timeout == value
                assert source.upgrade.limits.max_queue == 9
        assert source.upgrade == first
        with override_settings(WEBSOCKET_ALLOWED_ORIGINS=["example.com"]):
            for _ in range(2):
                with pytest.raises(ImproperlyConfigured):
                    _ = source.upgrade
        django_settings.WEBSOCKET_MAX_CONNECTIONS = 3
        assert source.upgrade.max_connections == 3
        del django_settings.WEBSOCKET_MAX_CONNECTIONS
        assert source.upgrade == first
