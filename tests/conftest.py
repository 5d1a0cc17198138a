from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_directory = tempfile.TemporaryDirectory(prefix="dwebsocket-tests-")
os.environ["DATABASE_PATH"] = str(Path(_directory.name) / "db.sqlite3")
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"


def pytest_configure() -> None:
    import django

    django.setup()


def pytest_unconfigure() -> None:
    _directory.cleanup()


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
