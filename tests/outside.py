"""Copies all but the package, so that the tests run against an installed one.

    python tests/outside.py DIRECTORY

What tests the source tree itself stays behind as well.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

#: Relative to the root.
LEFT_OUT = {"build", "dist", "dwebsocket", "tests/test_packaging.py"}


def _ignore(directory: str, names: list[str]) -> set[str]:
    parent = Path(directory).relative_to(ROOT)
    return {
        name
        for name in names
        if name == "__pycache__"
        or name.startswith(".")
        or name.endswith(".egg-info")
        or (parent / name).as_posix() in LEFT_OUT
    }


def main(target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(ROOT, target, ignore=_ignore)
    command = [sys.executable, "-c", "import dwebsocket; print(dwebsocket.__file__)"]
    found = subprocess.check_output(command, cwd=target, text=True).strip()
    if not Path(found).is_relative_to(sys.prefix):
        sys.exit(f"{found} would be tested, which isn't installed")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
