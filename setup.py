"""Compiles the hot path with Cython, where there is a compiler.

Metadata is in setup.cfg.  Without a compiler, or with DWEBSOCKET_PURE=1, the package
is the same in pure Python.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from setuptools import Extension, setup


def find_extensions() -> list[Extension]:
    """Return an extension for each module that has a .pxd, its C types."""
    if os.environ.get("DWEBSOCKET_PURE"):
        return []
    from Cython.Build import cythonize

    extensions: list[Extension] = cythonize(
        [
            Extension(
                f"dwebsocket.{path.stem}",
                [f"dwebsocket/{path.stem}.py"],
                # Without what only debuggers read: a fifth of the size.
                extra_compile_args=["-g0"] if os.name == "posix" else [],
            )
            for path in sorted(Path("dwebsocket").glob("*.pxd"))
        ],
        build_dir="build/cython",
        language_level=3,
        compiler_directives={
            # Types are in the .pxd files alone: an annotation of str would refuse
            # its subclasses.
            "annotation_typing": False,
            "boundscheck": False,
            "initializedcheck": False,
        },
    )
    for extension in extensions:
        # Where it can't be built, the source is there.  cythonize() forgets this.
        extension.optional = True
    return extensions


def read_description() -> str:
    """Return README.rst for PyPI, where links into the repository lead nowhere."""
    text = Path("README.rst").read_text(encoding="utf-8")
    text = re.sub(r"^\.\. image:: docs/.*\n(?: +\S.*\n)*\n", "", text, flags=re.M)
    return re.sub(r"`([^`<]+?)\s+<(?!\w+:)[^>]+>`__", r"\1", text)


setup(ext_modules=find_extensions(), long_description=read_description())
