"""The examples of README.rst, run as they stand there."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from docutils.core import publish_doctree

from dwebsocket.conf import VIEW_OPTIONS, Settings

from .clients import connect, handshake
from .servers import ROOT, Farm

README = (ROOT / "README.rst").read_text()


def code_blocks(language: str) -> list[str]:
    pattern = rf"\.\. code-block:: {language}\n\n((?:    .*\n|\n)+)"
    return [textwrap.dedent(block) for block in re.findall(pattern, README)]


def test_is_valid_restructuredtext() -> None:
    publish_doctree(README, settings_overrides={"halt_level": 2, "report_level": 2})


@pytest.mark.parametrize("kind", ["gunicorn", "runserver"])
def test_first_view(farm: Farm, kind: str, tmp_path: Path) -> None:
    apps, views, urls = code_blocks("python")
    subprocess.run(
        [sys.executable, "-m", "django", "startproject", "mysite", str(tmp_path)],
        check=True,
        env={"PATH": ""},
    )
    package = tmp_path / "mysite"
    settings = package / "settings.py"
    name = '"dwebsocket",\n'
    assert name in apps
    settings.write_text(
        settings.read_text().replace("INSTALLED_APPS = [", f"INSTALLED_APPS = [{name}")
    )
    (package / "views.py").write_text(views)
    (package / "urls.py").write_text(urls)
    subprocess.run(
        [sys.executable, str(tmp_path / "manage.py"), "migrate", "--verbosity", "0"],
        check=True,
        env={"PATH": "", "PYTHONPATH": str(ROOT)},
    )
    server = farm.start(kind, "mysite", PYTHONPATH=f"{tmp_path}:{ROOT}")
    with connect(server, "/echo/") as websocket:
        websocket.send("Hello")
        assert websocket.recv() == "Hello"
    with connect(server, "/lower/") as websocket:
        websocket.send("LOUD")
        assert websocket.recv() == "loud"
    assert server.get("/lower/?message=LOUD")[2] == "loud"
    sock, received = handshake(server, "/members/")
    sock.close()
    assert received.startswith(b"HTTP/1.1 302 ")


def test_settings_are_all_listed() -> None:
    listed = dict(re.findall(r"``WEBSOCKET_([A-Z_]+)``( \*)?", README))
    of_the_process = {
        *("accept_all", "groups", "handler_pool_size", "max_connections"),
        "trusted_proxies",
    }
    options = VIEW_OPTIONS | of_the_process
    assert {name.lower() for name in listed} - {"factory_class"} == options
    assert {name.lower() for name, star in listed.items() if star} == VIEW_OPTIONS


@pytest.mark.parametrize(
    "name",
    [
        "CLOSE_TIMEOUT",
        "MAX_MESSAGE_SIZE",
        "MAX_QUEUE",
        "PING_INTERVAL",
        "PING_TIMEOUT",
        "SEND_BUFFER_SIZE",
    ],
)
def test_defaults_are_those_of_the_code(name: str) -> None:
    (default,) = re.findall(rf"``WEBSOCKET_{name}`` \*? *(\d+) ", README)
    assert getattr(Settings().limits, name.lower()) == int(default)
