"""What is released holds what it has to, and nothing else.

``make test-dist`` runs the tests against it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import dwebsocket

from .servers import ROOT, find_program

NAME = f"dwebsocket-{dwebsocket.__version__}"

#: What lies about where people have worked.
STRAYS = [
    "build/lib/dwebsocket/removed.py",
    "docs/_build/index.html",
    "dwebsocket/__pycache__/conf.cpython-310.pyc",
    "dwebsocket/frames.cpython-310-x86_64-linux-gnu.so",
    "example_project/db.sqlite3",
    "tests/.coverage",
    "tests/__pycache__/views.cpython-310.pyc",
]


class Release(NamedTuple):
    """The files that were built, and of what."""

    tracked: set[str]
    tree: set[str]
    sdist: Path
    wheel: Path
    output: str


def git(*arguments: str) -> set[str]:
    command = [find_program("git", "git"), "ls-files", "-z", *arguments]
    output = subprocess.check_output(command, cwd=ROOT, text=True)
    return {name for name in output.split("\0") if name and (ROOT / name).is_file()}


def build(*options: str, cwd: Path) -> str:
    return subprocess.run(
        [sys.executable, "-W", "default", "-m", "build", "--no-isolation", *options],
        cwd=cwd,
        env={**os.environ, "DWEBSOCKET_PURE": "1"},
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ).stdout


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    if not (ROOT / ".git").exists():
        pytest.skip("what belongs to a release is what git knows")
    directory = tmp_path_factory.mktemp("release")
    tree = git("--cached", "--others", "--exclude-standard")
    for name in tree:
        target = directory / "tree" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    for name in STRAYS:
        stray = directory / "tree" / name
        stray.parent.mkdir(parents=True, exist_ok=True)
        stray.touch()
    # The wheel is built of what is in the sdist.
    output = build("--outdir", str(directory), cwd=directory / "tree")
    (sdist,) = directory.glob("*.tar.gz")
    (wheel,) = directory.glob("*.whl")
    return Release(git(), tree, sdist, wheel, output)


def files_of_sdist(release: Release) -> set[str]:
    with tarfile.open(release.sdist) as archive:
        names = [member.name for member in archive if member.isfile()]
    assert all(name.startswith(f"{NAME}/") for name in names)
    return {name.removeprefix(f"{NAME}/") for name in names}


def files_of_wheel(release: Release) -> set[str]:
    with zipfile.ZipFile(release.wheel) as archive:
        return set(archive.namelist())


def metadata(release: Release) -> Message:
    with zipfile.ZipFile(release.wheel) as archive:
        return message_from_bytes(archive.read(f"{NAME}.dist-info/METADATA"))


def within_package(names: Iterable[str]) -> set[str]:
    return {name for name in names if name.startswith("dwebsocket/")}


def test_sdist_holds_the_repository(release: Release) -> None:
    files = {
        name
        for name in files_of_sdist(release)
        if name != "PKG-INFO" and not name.startswith("dwebsocket.egg-info/")
    }
    assert release.tracked <= files
    # What isn't committed yet may be there, where it is looked for.
    assert files <= release.tree


def test_wheel_holds_the_package(release: Release) -> None:
    files = files_of_wheel(release)
    package = within_package(files)
    assert within_package(release.tracked) <= package <= within_package(release.tree)
    assert {name for name in files if name not in package} == {
        f"{NAME}.dist-info/{name}"
        for name in ("METADATA", "RECORD", "WHEEL", "licenses/LICENSE", "top_level.txt")
    }


def test_wheel_is_for_any_python(release: Release) -> None:
    assert release.wheel.name == f"{NAME}-py3-none-any.whl"


def test_metadata(release: Release) -> None:
    fields = metadata(release)
    assert fields["Version"] == dwebsocket.__version__
    assert fields["License-Expression"] == "BSD-3-Clause"
    assert fields["Requires-Python"] == ">=3.10"
    assert fields["Description-Content-Type"] == "text/x-rst"


def test_description_has_no_links_into_the_repository(release: Release) -> None:
    payload: Any = metadata(release).get_payload(decode=True)
    description = payload.decode()
    readme = (ROOT / "README.rst").read_text(encoding="utf-8")
    assert "docs/" in readme
    assert "docs/" not in description
    headings = r"^(.+)\n[-=]{3,}$"
    assert re.findall(headings, description, re.M) == re.findall(headings, readme, re.M)
    assert len(description) > 0.8 * len(readme)


def test_description_is_one_that_pypi_shows(release: Release) -> None:
    subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *release[2:4]],
        check=True,
        capture_output=True,
    )


def test_building_warns_of_nothing(release: Release) -> None:
    assert "Warning" not in release.output
    # Lines of MANIFEST.in that include nothing.
    assert "warning: no files found" not in release.output
    assert "warning: no directories found" not in release.output


def test_every_environment_of_tox_is_tested() -> None:
    command = [sys.executable, "-m", "tox", "list", "--no-desc"]
    output = subprocess.check_output(command, cwd=ROOT, text=True)
    workflow = (ROOT / ".github" / "workflows" / "tests.yml").read_text()
    assert set(output.split()) == set(re.findall(r"\benv: ([\w-]+)", workflow))


def test_changes_tell_of_this_version() -> None:
    changes = (ROOT / "CHANGES.rst").read_text()
    assert changes.startswith(f"Changes\n=======\n\n{dwebsocket.__version__} (")
