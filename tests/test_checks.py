"""The system checks: each fires when it should, and only then."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.core.checks import CheckMessage, registry, run_checks
from django.core.management import get_commands
from django.test import override_settings

from dwebsocket import checks

from .servers import ROOT

OURS = "dwebsocket.middleware.WebSocketMiddleware"
CSRF = "django.middleware.csrf.CsrfViewMiddleware"
HOOK = "tests.middleware.RefusingViewHook"
MARK = "tests.middleware.mark_response"


def ids(messages: list[CheckMessage]) -> list[str]:
    assert all(message.hint and message.msg for message in messages)
    return [str(message.id).removeprefix("dwebsocket.") for message in messages]


def test_nothing_to_complain_about() -> None:
    assert run_checks(tags=["dwebsocket"]) == []


def test_all_are_registered() -> None:
    registered = {
        check.__name__
        for check in registry.registry.get_checks(include_deployment_checks=True)
    }
    assert registered.issuperset(checks.__all__)


@pytest.mark.parametrize(
    "name, value, wanted",
    [
        ("MAX_QUEUE", 0, ["E001"]),
        ("SUBPROTOCOLS", "chat", ["E001"]),
        ("ALLOWED_ORIGINS", ["example.com"], ["E001"]),
        ("MAX_QUEUE", 1, []),
        ("FACTORY_CLASS", "dwebsocket.backends.default.factory", ["W001"]),
        ("MAX_QUEU", 1, ["W002"]),
    ],
)
def test_settings(name: str, value: Any, wanted: list[str]) -> None:
    with override_settings(**{f"WEBSOCKET_{name}": value}):
        messages = checks.check_settings()
    assert ids(messages) == wanted
    assert all(f"WEBSOCKET_{name}" in message.msg for message in messages)


@pytest.mark.parametrize(
    "middleware, late",
    [
        ([CSRF, MARK], []),
        ([CSRF, HOOK, OURS], []),
        ([CSRF, OURS, MARK], []),
        ([OURS, CSRF, MARK, HOOK], [CSRF, HOOK]),
        (["django.contrib.sessions.middleware.SessionMiddleware", OURS], []),
    ],
)
def test_middleware(middleware: list[str], late: list[str]) -> None:
    with override_settings(MIDDLEWARE=middleware):
        messages = checks.check_middleware()
    assert ids(messages) == ["E002"] * len(late)
    for message, path in zip(messages, late, strict=True):
        assert message.msg.startswith(f"{path} comes after {OURS}")
        assert path in message.hint


@pytest.fixture
def fresh_commands() -> Iterator[None]:
    get_commands.cache_clear()
    yield
    get_commands.cache_clear()


@pytest.mark.parametrize(
    "position, owner", [(0, None), (99, "django.contrib.staticfiles")]
)
def test_runserver(fresh_commands: None, position: int, owner: str | None) -> None:
    apps = [app for app in settings.INSTALLED_APPS if app != "dwebsocket"]
    apps.insert(position, "dwebsocket")
    with override_settings(INSTALLED_APPS=apps):
        get_commands.cache_clear()
        messages = checks.check_apps()
    assert ids(messages) == (["W003"] if owner else [])
    assert all(owner in message.msg for message in messages if owner)


MEMORY = {"BACKEND": "dwebsocket.groups.memory.MemoryBackend"}
REDIS = {"BACKEND": "dwebsocket.groups.redis.RedisBackend"}


@pytest.mark.parametrize(
    "groups, wanted",
    [
        (None, ["W004"]),
        ({"default": MEMORY}, ["W004"]),
        ({"default": REDIS}, []),
        ({"default": REDIS, "local": MEMORY}, ["W004"]),
        ({"local": REDIS}, ["E001"]),
    ],
)
def test_groups_of_a_deployment(groups: Any, wanted: list[str]) -> None:
    configured = {} if groups is None else {"WEBSOCKET_GROUPS": groups}
    with override_settings(**configured):
        found = run_checks(tags=["dwebsocket"], include_deployment_checks=True)
        assert ids(found) == wanted
        assert "W004" not in ids(run_checks(tags=["dwebsocket"]))


_PATCHING = """
import sys
order = sys.argv[1]
if "first" in order:
    from gevent import monkey; monkey.patch_all()
if "import" in order:
    import django.db
if "late" in order:
    from gevent import monkey; monkey.patch_all()
import django
django.setup()
from django.core.checks import run_checks
for message in run_checks(tags=["dwebsocket"]):
    print(message.id, message.hint)
"""


@pytest.mark.parametrize(
    "order, wanted",
    [("first, import", ""), ("import", ""), ("import, late", "dwebsocket.E003")],
)
def test_patching(order: str, wanted: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", _PATCHING, order],
        cwd=ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.partition(" ")[0] == wanted
    assert ("monkey.patch_all()" in result.stdout) is bool(wanted)
