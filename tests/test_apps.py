"""The package as Django and Python import it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from django.apps import apps

import dwebsocket
from dwebsocket.apps import WebSocketConfig

from .servers import ROOT

_IMPORT = """
import sys
import dwebsocket
assert set(dwebsocket.__all__) <= set(dir(dwebsocket))
from dwebsocket import ConnectionClosed, HandshakeError, WebSocketError, __version__
{more}
for name in ("django", "gevent", "asgiref"):
    assert (name in sys.modules) is ({wanted}), name
"""


@pytest.mark.parametrize(
    "more, wanted",
    [
        ("", "False"),
        ("import dwebsocket.protocol, dwebsocket.handshake", "False"),
        ("from dwebsocket import WebSocket", "name == 'gevent'"),
        ("import dwebsocket.workers, dwebsocket.server", "name == 'gevent'"),
        # Nothing reads a setting before it is used.
        ("from dwebsocket import accept_websocket, require_websocket", "True"),
        ("from dwebsocket import *", "True"),
    ],
)
def test_import_without_settings(more: str, wanted: str) -> None:
    subprocess.run(
        [sys.executable, "-c", _IMPORT.format(more=more, wanted=wanted)],
        cwd=ROOT,
        env={"PYTHONWARNINGS": "error"},
        check=True,
    )


def test_names() -> None:
    for name in dwebsocket.__all__:
        assert getattr(dwebsocket, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        dwebsocket.nothing  # noqa: B018
    with pytest.raises(ImportError):
        from dwebsocket import nothing  # noqa: F401


def test_config() -> None:
    config = apps.get_app_config("dwebsocket")
    assert type(config) is WebSocketConfig
    assert config.verbose_name == "WebSockets"
    assert not list(config.get_models())


_TEST_CLIENT = """
import sys
{before}
import django
django.setup()
for name in ("django.test.client", "dwebsocket.testing"):
    assert (name in sys.modules) is {is_imported}, name
from django.test import Client, TestCase
assert TestCase.client_class is Client
assert Client.websocket_connect.__module__ == "dwebsocket.testing"
assert "_TestClientFinder" not in str(sys.meta_path)
"""


@pytest.mark.parametrize(
    "before, is_imported", [("", False), ("import django.test", True)]
)
def test_the_test_client_has_the_method_when_it_is_imported(
    before: str, is_imported: bool
) -> None:
    script = _TEST_CLIENT.format(before=before, is_imported=is_imported)
    subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={"PYTHONWARNINGS": "error", "DJANGO_SETTINGS_MODULE": "tests.settings"},
        check=True,
    )
