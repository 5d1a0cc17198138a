"""The examples of README.rst, run as they stand there."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from docutils.core import publish_doctree

from .clients import connect, handshake
from .servers import ROOT, Farm

README = (ROOT / "README.rst").read_text()


def code_blocks(language: str) -> list[str]:
    pattern = rf"\.\. code-block:: {language}\n\n((?:    .*\n|\n)+)"
    return [textwrap.dedent(block) for block in re.findall(pattern, README)]


def test_is_valid_restructuredtext() -> None:
    publish_doctree(README, settings_overrides={"halt_level": 2, "report_level": 2})


def test_the_commands_are_seen_first() -> None:
    first_screen = README.splitlines()[:25]
    for command in "make demo", "make test":
        assert any(line.startswith(f"    {command} ") for line in first_screen)


def test_links_lead_somewhere() -> None:
    links = re.findall(r"<([^>:]+\.rst)>`__", README)
    links += re.findall(r"\.\. image:: (\S+)", README)
    assert len(links) > 10
    for link in links:
        assert (ROOT / link).is_file(), link


def test_figures_are_those_of_the_measurements() -> None:
    measured = (ROOT / "docs" / "performance.rst").read_text()
    _, _, echo = measured.partition("**32 B, 100 connections**")
    _, _, idle = measured.partition("**Memory of idle connections**")
    rows = re.findall(r"^   \* - (.+)\n     - ([\d.]+)\n     - ([\d.]+)$", README, re.M)
    assert len(rows) == 6
    for name, ratio, memory in rows:
        for table, figure in (echo, ratio), (idle, memory):
            match = re.search(rf"^{re.escape(name)}  +([\d.]+) ", table, re.M)
            assert match, name
            assert match[1] == figure, name


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
