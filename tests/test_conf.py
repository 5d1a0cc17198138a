"""The settings: defaults, overriding, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from dwebsocket.conf import VIEW_OPTIONS, Settings, find_error, settings
from dwebsocket.deflate import Options

DEFAULTS = {
    "accept_all": False,
    "allowed_origins": None,
    "close_timeout": 5,
    "compression": False,
    "handler_pool_size": 100,
    "max_connections": None,
    "max_message_size": 1048576,
    "max_queue": 1000,
    "ping_interval": 20,
    "ping_timeout": 20,
    "send_buffer_size": 1048576,
    "subprotocols": (),
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
    ("handler_pool_size", None),
    ("handler_pool_size", 1),
    ("max_connections", None),
    ("max_connections", 1),
    ("max_message_size", None),
    ("max_message_size", 1),
    ("max_queue", None),
    ("max_queue", 1),
    ("ping_interval", None),
    ("ping_timeout", 0.5),
    ("send_buffer_size", None),
    ("send_buffer_size", 1),
    ("subprotocols", []),
    ("subprotocols", ("chat.v2", "chat")),
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
    ("subprotocols", "chat"),
    ("subprotocols", None),
    ("subprotocols", {"a", "b"}),
    ("subprotocols", [""]),
    ("subprotocols", ["a b"]),
    ("subprotocols", ["a\n"]),
    ("subprotocols", [1]),
]


def read(source: Settings, option: str) -> Any:
    if hasattr(source, option):
        return getattr(source, option)
    return getattr(source.limits, option)


def as_read(option: str, value: Any) -> Any:
    """Return what ``read`` does for a value of a setting."""
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
    if option != "subprotocols":  # the test site has that
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
        *("accept_all", "handler_pool_size", "max_connections")
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
