"""Backends as WEBSOCKET_GROUPS configures them, in a process without connections."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from dwebsocket import GroupError, groups
from dwebsocket.groups.backends import get_backend
from dwebsocket.groups.base import GroupBackend
from dwebsocket.groups.identity import get_process_id, split_id
from dwebsocket.groups.memory import MemoryBackend
from dwebsocket.groups.redis import RedisBackend
from dwebsocket.registry import registry

from .servers import ROOT, free_port

MEMORY = "dwebsocket.groups.memory.MemoryBackend"
REDIS = "dwebsocket.groups.redis.RedisBackend"


def use(backend: str, location: Any = None, **options: Any) -> override_settings:
    config = {"BACKEND": backend, "LOCATION": location, "OPTIONS": options}
    return override_settings(WEBSOCKET_GROUPS={"default": config})


def test_one_of_each_is_made() -> None:
    with override_settings():
        default = get_backend("default")
        assert type(default) is MemoryBackend
        assert get_backend("default") is default
    with override_settings(
        WEBSOCKET_GROUPS={"default": {"BACKEND": REDIS}, "here": {"BACKEND": MEMORY}}
    ):
        redis, here = get_backend("default"), get_backend("here")
        assert (type(redis), redis.alias) == (RedisBackend, "default")
        assert (type(here), here.alias) == (MemoryBackend, "here")
        assert get_backend("here") is here is not default
    assert get_backend("default") is not default


@pytest.mark.parametrize(
    "setting, error",
    [
        ({}, "has no 'other'"),
        ({"other": {"BACKEND": "nowhere.Backend"}}, "nowhere.Backend can't be"),
        ({"other": {"BACKEND": "dwebsocket.Backend"}}, "dwebsocket.Backend can't be"),
        (
            {"other": {"BACKEND": REDIS, "OPTIONS": {"hosts": []}}},
            "'other' has the unknown option 'hosts'",
        ),
    ],
)
def test_what_is_configured_wrongly(setting: dict[str, Any], error: str) -> None:
    setting = {"default": {"BACKEND": MEMORY}, **setting}
    with override_settings(WEBSOCKET_GROUPS=setting):
        with pytest.raises(ImproperlyConfigured, match=error):
            groups.send("a", "b", using="other")


def test_sentinel_needs_a_service() -> None:
    with use(REDIS, sentinels=[("127.0.0.1", free_port())]):
        with pytest.raises(ImproperlyConfigured, match="'service'"):
            groups.send("a", "b")


@pytest.mark.parametrize(
    "options",
    [{}, {"cluster": True}, {"sentinels": [("127.0.0.1", 1)], "service": "main"}],
    ids=["redis", "cluster", "sentinel"],
)
def test_nobody_answers(options: dict[str, Any]) -> None:
    with use(REDIS, f"redis://127.0.0.1:{free_port()}", timeout=0.2, **options):
        for call in (
            lambda: groups.send("a", "b"),
            lambda: groups.send_to("a.b", "c"),
            lambda: groups.send_to_user(1, "b"),
            lambda: groups.close("a"),
            lambda: groups.count("a"),
            lambda: groups.members("a"),
        ):
            with pytest.raises(GroupError, match="Redis") as caught:
                call()
            assert caught.value.__cause__ is not None


def test_memory_says_once_that_nobody_hears(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Other tests have had some in this process.
    monkeypatch.setattr(registry, "opened", 0)
    caplog.set_level(logging.WARNING, "dwebsocket")
    with use(MEMORY):
        for _ in range(3):
            groups.send("a", "b")
    (record,) = caplog.records
    assert "reached nobody" in record.getMessage()


def test_what_isnt_patched_cant_hear() -> None:
    with use(REDIS), pytest.raises(GroupError, match="patched"):
        get_backend("default").make_reachable()


class Recorder(GroupBackend):
    published: list[tuple[str, Any]] = []

    def publish(self, channel: str, envelope: Any) -> None:
        self.published.append((channel, envelope))


def test_a_backend_of_somebody_else() -> None:
    Recorder.published.clear()
    with use(f"{__name__}.Recorder"):
        groups.send("a", "text", key="k", exclude="p.x")
        groups.send_to("p.x", b"binary")
        groups.send_to_user(7, "text")
        groups.send_json("a", {"ä": 1})
        groups.close_user(type("User", (), {"pk": 8})(), 4000, "bye")
    assert Recorder.published == [
        ("g:a", (1, b"text", None, "p.x", "k")),
        ("p:p", (2, b"binary", "p.x", None, None)),
        ("u:7", (1, b"text", None, None, None)),
        ("g:a", (1, b'{"\\u00e4":1}', None, None, None)),
        ("u:8", (8, b"\x0f\xa0bye", None, None, None)),
    ]
    for unknown in (1, b"p.x", object()):
        with pytest.raises(TypeError):
            groups.send("a", "text", exclude=unknown)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            groups.send_to(unknown, "text")  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        groups.send("a", "text", exclude="nobody")


def test_ids() -> None:
    assert get_process_id() == get_process_id()
    assert split_id("a.b.c") == ("a", "b.c")
    for text in ("", "a", ".a", "a.", "a." + "b" * 200):
        with pytest.raises(ValueError):
            split_id(text)


_FORK = """
import os, sys
import django
django.setup()
from dwebsocket.groups.backends import get_backend
from dwebsocket.groups.identity import get_process_id
backend, process_id = get_backend("default"), get_process_id()
if not os.fork():
    assert get_backend("default") is not backend
    assert get_process_id() != process_id
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""


def test_a_fork_starts_anew() -> None:
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", _FORK], check=True, env=environ)
