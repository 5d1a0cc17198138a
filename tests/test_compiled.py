"""The hot path runs compiled or from its source, and tells which."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib import import_module
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

import dwebsocket

from .servers import ROOT

PACKAGE = Path(dwebsocket.__file__).parent
MODULES = sorted(path.stem for path in PACKAGE.glob("*.pxd"))
IS_PURE = bool(os.environ.get("DWEBSOCKET_PURE"))


def test_is_compiled_where_there_is_a_compiler() -> None:
    if IS_PURE:
        assert not dwebsocket.is_compiled()
    elif os.environ.get("CI") and shutil.which("cc"):
        assert dwebsocket.is_compiled()
    else:
        assert dwebsocket.is_compiled() == any(PACKAGE.glob("frames.*.so"))


@pytest.mark.parametrize("module", MODULES)
def test_all_or_none_is_compiled(module: str) -> None:
    path = import_module(f"dwebsocket.{module}").__file__
    assert path is not None
    assert path.endswith(tuple(EXTENSION_SUFFIXES)) == dwebsocket.is_compiled()


@pytest.mark.parametrize(
    "environment, is_built",
    [
        ({"CFLAGS": "-O0"}, shutil.which("cc") is not None),
        ({"CC": "false"}, False),
        ({"DWEBSOCKET_PURE": "1"}, False),
    ],
    ids=["compiler", "no compiler", "pure"],
)
def test_building_needs_no_compiler(
    tmp_path: Path, environment: dict[str, str], is_built: bool
) -> None:
    # One module is enough, and quicker.
    for name in ("setup.py", "setup.cfg", "README.rst"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "dwebsocket").mkdir()
    for name in ("__init__.py", "registry.py", "registry.pxd"):
        shutil.copy(PACKAGE / name, tmp_path / "dwebsocket" / name)
    variables = {k: v for k, v in os.environ.items() if k != "DWEBSOCKET_PURE"}
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build"],
        cwd=tmp_path,
        env={**variables, **environment},
        check=True,
        capture_output=True,
    )
    names = [path.name for path in tmp_path.glob("build/lib*/dwebsocket/registry*")]
    assert "registry.py" in names
    assert any(name.endswith(".so") for name in names) == is_built


def test_the_environment_can_forbid_it() -> None:
    code = "import dwebsocket.frames as f; print(f.is_compiled(), f.__file__)"
    environment = {**os.environ, "DWEBSOCKET_PURE": "1"}
    output = subprocess.check_output(
        [sys.executable, "-c", code], env=environment, text=True
    )
    assert output == f"False {PACKAGE / 'frames.py'}\n"


def test_cython_is_not_needed_to_run() -> None:
    code = (
        "import sys; sys.modules['cython'] = None\n"
        "import dwebsocket.websocket; print(dwebsocket.is_compiled())"
    )
    environment = {**os.environ, "DWEBSOCKET_PURE": "1"}
    output = subprocess.check_output(
        [sys.executable, "-c", code], env=environment, text=True
    )
    assert output == "False\n"
