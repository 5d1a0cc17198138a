"""Sphinx configuration; ``make docs`` builds the pages into ``docs/_build/html``.

``-t offline`` leaves the inventories of Python's and Django's documentation alone.
"""

from __future__ import annotations

import builtins
import logging
import os
import re
from typing import Any

# What is compiled has no signatures.
os.environ["DWEBSOCKET_PURE"] = "1"

import django  # noqa: E402
from django.conf import settings  # noqa: E402

import dwebsocket.exceptions  # noqa: E402

settings.configure(
    INSTALLED_APPS=[
        "dwebsocket",
        "django.contrib.auth",
        "django.contrib.contenttypes",
    ]
)
django.setup()

project = "dwebsocket"
release = dwebsocket.__version__
html_title = f"{project} {release}"
html_theme = "furo"

extensions = ["sphinx.ext.autodoc", "sphinx.ext.intersphinx"]
exclude_patterns = ["_build"]
highlight_language = "text"
nitpicky = True

autodoc_member_order = "bysource"
autodoc_default_options = {"no-value": True}
autodoc_preserve_defaults = True

if not tags.has("offline"):  # type: ignore[name-defined]  # noqa: F821
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "django": (
            "https://docs.djangoproject.com/en/stable",
            "https://docs.djangoproject.com/en/stable/_objects",
        ),
    }
intersphinx_timeout = 10

#: Names of others, which link to their documentation only if it can be reached.
nitpick_ignore_regex = [
    ("py:.*", r"(collections|django|gevent|gunicorn|json|typing)\..*"),
    ("py:class", "|".join(vars(builtins))),
    # Aliases and variables of types, as they stand in signatures.
    ("py:class", r"Buffer|Unpack|ViewOptions|_P|dwebsocket\.(\w+\.)+_\w+"),
    ("setting", r"(?!WEBSOCKET_).*"),
]


class _Unreachable(logging.Filter):
    """Builds without a network go on: links to others are plain text then."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("failed to reach any of the inventories")


def link_names(
    app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Make links of the settings and exceptions that a docstring names."""
    exceptions = "|".join(dwebsocket.exceptions.__all__)
    for number, line in enumerate(lines):
        line = re.sub(r"(?<![`\w])(WEBSOCKET_[A-Z_]+)\b", r":setting:`\1`", line)
        line = re.sub(rf"(?<![`\w])({exceptions})\b", r":exc:`~dwebsocket.\1`", line)
        lines[number] = line


def setup(app: Any) -> None:
    app.connect("autodoc-process-docstring", link_names)
    for name in "setting", "check", "closecode", "status":
        app.add_object_type(name, name, f"pair: %s; {name}")
    for name in logging.root.manager.loggerDict:
        if name.startswith("sphinx.sphinx.ext.intersphinx"):
            logging.getLogger(name).addFilter(_Unreachable())
