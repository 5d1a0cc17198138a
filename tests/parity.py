"""The pages of docs/ for those who come from something else: their code as a site.

A page goes point by point; each is a section.  A block of code whose caption is a path
is a part of that file, the parts in their order; other captions are of theirs.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from django.test import override_settings

from .redis_servers import Engine, open_redis
from .servers import ROOT, TIMEOUT, Server, command, free_port

__all__ = ["Block", "Page", "Points", "Site", "open_site"]

_BLOCK = re.compile(
    r"\.\. code-block:: (\w+)\n    :caption: (.+)\n\n((?:    .*\n|\n)+)", re.MULTILINE
)
_TITLE = re.compile(r"^(\S.*)\n-+$", re.MULTILINE)

_SETTINGS = """
import os

SECRET_KEY = "for the tests only"
ROOT_URLCONF = "mysite.urls"
USE_TZ = True
INSTALLED_APPS = [
    "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["DATABASE_PATH"]
    }
}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
ALLOWED_HOSTS = ["*"]
"""
_SERVER = (
    "gunicorn -k dwebsocket.workers.WebSocketWorker -w 2 -b 127.0.0.1:8000 mysite.wsgi"
)
_WSGI = """
import os

from django.core.wsgi import get_wsgi_application

os.environ["DJANGO_SETTINGS_MODULE"] = "mysite.settings"
application = get_wsgi_application()
"""


class Block(NamedTuple):
    language: str
    caption: str
    text: str

    @property
    def is_file(self) -> bool:
        return re.fullmatch(r"[\w/]+\.\w+", self.caption) is not None


class Page:
    """A page; ``points`` are the titles of its sections."""

    def __init__(self, name: str) -> None:
        text = (ROOT / "docs" / name).read_text()
        self.points = _TITLE.findall(text)
        self.blocks = [
            Block(language, caption, textwrap.dedent(body).strip("\n") + "\n")
            for language, caption, body in _BLOCK.findall(text)
        ]
        # Nothing is on the page that isn't looked at.
        assert text.count(".. code-block::") == len(self.blocks)

    @property
    def server(self) -> str:
        """The command that starts the server."""
        for block in self.blocks:
            if block.caption == "Server":
                return block.text.removeprefix("$ ")
        return _SERVER

    def files(self) -> dict[str, str]:
        files: dict[str, str] = {}
        for block in self.blocks:
            if block.is_file:
                files[block.caption] = files.get(block.caption, "") + block.text
        return files


class Points:
    """Tests of the points of a page, by title."""

    def __init__(self) -> None:
        self.tested: list[str] = []

    def __call__(self, title: str) -> Callable[[Any], Any]:
        self.tested.append(title)
        return lambda test: test


class Site:
    """A site of the page's files, with its server."""

    def __init__(self, server: Server, engine: Engine, directory: Path) -> None:
        self.server = server
        self.redis = engine.servers[0]
        self._engine = engine
        self._directory = directory

    def groups(self) -> Any:
        """Return a context manager: in its block this process is one of the site's."""
        return override_settings(WEBSOCKET_GROUPS=self._engine.setting)

    def write(self, name: str, text: str) -> None:
        (self._directory / name).write_text(text)

    def run(self, *arguments: str) -> str:
        """Run Python where the site is; return what it printed, errors and all."""
        result = subprocess.run(
            [sys.executable, *arguments],
            cwd=self._directory,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "DJANGO_SETTINGS_MODULE": "mysite.settings",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=2 * TIMEOUT,
        )
        assert result.returncode == 0, result.stdout
        return result.stdout

    def run_code(self, code: str) -> str:
        """Run code in a process of its own, as in ``manage.py shell``."""
        return self.run("-c", f"import django; django.setup()\n{code}")


@contextlib.contextmanager
def open_site(page: Page, directory: Path) -> Iterator[Site]:
    """Write the files of a page, start Redis and the server that the page names.

    By default that is gunicorn with two workers.
    """
    with open_redis(directory) as engine:
        redis = engine.servers[0]
        port = free_port()
        files = page.files()
        files["mysite/settings.py"] = _SETTINGS + files["mysite/settings.py"]
        files["mysite/wsgi.py"] = _WSGI
        for name, text in files.items():
            path = directory / name
            path.parent.mkdir(exist_ok=True)
            (path.parent / "__init__.py").touch()
            path.write_text(text.replace("127.0.0.1:6379", f"127.0.0.1:{redis.port}"))
        theirs = page.server.replace("8000", str(port))
        server = Server(
            [sys.executable, "-m", *shlex.split(theirs)],
            port,
            directory,
            # What keeps tests brief, and apart.
            GUNICORN_CMD_ARGS=shlex.join(command("gunicorn", port)[7:-1]),
        )
        try:
            server.wait_until_ready()
            yield Site(server, engine, directory)
        finally:
            server.stop()
