"""``{% dwebsocket_script %}``."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.contrib.staticfiles import finders
from django.contrib.staticfiles.storage import (
    ManifestStaticFilesStorage,
    staticfiles_storage,
)
from django.core.management import call_command
from django.template import Context, Template
from django.test import override_settings


class ManifestStorage(ManifestStaticFilesStorage):
    support_js_module_import_aggregation = True


def render(tag: str) -> str:
    template = Template("{% load dwebsocket %}" + tag)
    return template.render(Context({"nonce": '"<abc>', "nothing": None}))


@pytest.mark.parametrize(
    "arguments, attributes",
    [
        ("", ""),
        ("defer=True", " defer"),
        ("nonce=nonce", ' nonce="&quot;&lt;abc&gt;"'),
        ("nonce=nothing defer=False", ""),
        ("async=True crossorigin='anonymous'", ' crossorigin="anonymous" async'),
    ],
)
def test_script(arguments: str, attributes: str) -> None:
    source = "/static/dwebsocket/dwebsocket.js"
    expected = f'<script src="{source}"{attributes}></script>'
    assert render("{% dwebsocket_script " + arguments + " %}") == expected


@pytest.mark.parametrize(
    "name",
    [
        "dwebsocket.js",
        "dwebsocket.d.ts",
        "dwebsocket.module.js",
        "dwebsocket.module.d.ts",
        "dwebsocket-task.js",
        "dwebsocket-task.d.ts",
        "dwebsocket-task.module.js",
        "dwebsocket-task.module.d.ts",
    ],
)
def test_static_files_are_found(name: str) -> None:
    assert finders.find(f"dwebsocket/{name}")


def test_hashed_names(tmp_path: Path) -> None:
    storage = "tests.test_templatetags.ManifestStorage"
    with override_settings(
        STATIC_ROOT=str(tmp_path), STORAGES={"staticfiles": {"BACKEND": storage}}
    ):
        call_command("collectstatic", interactive=False, verbosity=0)
        script = staticfiles_storage.url("dwebsocket/dwebsocket.js")
        assert render("{% dwebsocket_script %}") == f'<script src="{script}"></script>'
        assert script != "/static/dwebsocket/dwebsocket.js"
        module = staticfiles_storage.stored_name("dwebsocket/dwebsocket.module.js")
        # Both load the same file.
        assert Path(script).name in (tmp_path / module).read_text()
