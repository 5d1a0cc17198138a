from __future__ import annotations

import atexit
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_directory = tempfile.TemporaryDirectory(prefix="dwebsocket-tests-")
# pytest-xdist's processes don't get as far as pytest_unconfigure.
atexit.register(_directory.cleanup)
os.environ["DATABASE_PATH"] = str(Path(_directory.name) / "db.sqlite3")
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"


def pytest_configure() -> None:
    import django

    # A shell has what it runs in the background ignore Ctrl-C, which servers inherit.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    django.setup()


@pytest.fixture(scope="session")
def database() -> None:
    """The database of the test site and of the example, migrated, with users."""
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from django.db import connection

    call_command("migrate", verbosity=0)
    User.objects.create_user("ann", password="secret")
    User.objects.create_superuser("root", password="secret")
    connection.close()


@pytest.fixture(scope="session")
def farm(database: None) -> Iterator:
    from .servers import open_farm

    with open_farm(Path(_directory.name)) as farm:
        yield farm


@pytest.fixture(scope="session")
def example_farm(farm: Any) -> Any:
    """The farm, with the tables of the example project and a user for its admin."""
    from .example_page import PREPARE, run_python

    result = run_python("-c", PREPARE)
    assert result.returncode == 0, result.stderr
    return farm


@pytest.fixture
def members(site: Any) -> Iterator[Any]:
    """Clients of the module's site of groups."""
    from .sites import Members

    with Members(site) as members:
        yield members


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    """A real browser without a window."""
    from .browser import open_browser

    with open_browser() as driver:
        yield driver


@pytest.fixture(scope="module")
def second_driver() -> Iterator[Any]:
    """Another browser, for another user: it has cookies of its own."""
    from .browser import open_browser

    with open_browser() as driver:
        yield driver
