"""Type checkers know the package, and find the mistakes in a user's code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import dwebsocket

from .servers import ROOT

PACKAGE = Path(dwebsocket.__file__).parent
SITE = ROOT / "tests" / "typed_site.py"

MYPY_INI = """
[mypy]
strict = True
plugins = mypy_django_plugin.main

[mypy-dwebsocket.*]
# As if it were installed in site-packages.
follow_imports = silent

[mypy.plugins.django-stubs]
django_settings_module = tests.settings
"""


def check(*command: object) -> str:
    result = subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_the_package_says_that_it_is_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()


def test_mypy_checks_a_site(tmp_path: Path) -> None:
    config = tmp_path / "mypy.ini"
    config.write_text(MYPY_INI)
    cache = tmp_path / "cache"
    assert "no issues found in 1 source file" in check(
        "mypy", "--config-file", config, "--cache-dir", cache, SITE
    )


def test_pyright_checks_a_site(tmp_path: Path) -> None:
    config = tmp_path / "pyrightconfig.json"
    options = {
        "include": [str(SITE)],
        # Of an editable installation pyright sees nothing.
        "extraPaths": [str(PACKAGE.parent)],
        "typeCheckingMode": "strict",
        "reportUnnecessaryTypeIgnoreComment": True,
    }
    config.write_text(json.dumps(options))
    assert "0 errors, 0 warnings" in check(
        "basedpyright", "--project", config, "--pythonpath", sys.executable
    )
