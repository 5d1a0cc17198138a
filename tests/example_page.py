"""The example project: its pages as a person uses them, and its commands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from .servers import (
    EXAMPLE,
    GUNICORN_ENVIRON,
    ROOT,
    TIMEOUT,
    Farm,
    Server,
    find_program,
)


def run_python(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the folder of the example project, with its settings."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=EXAMPLE,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "DJANGO_SETTINGS_MODULE": "example.settings",
            **environ,
        },
        capture_output=True,
        text=True,
    )


def start_example(farm: Farm, kind: str) -> Server:
    """Return the example project's server; "redis" has four workers and Redis."""
    if kind == "redis":
        find_program("redis-server", "redis-server")
        return farm.start(kind, "example", **GUNICORN_ENVIRON)
    return farm(kind, "example")


#: Makes the tables, and a user for the admin.
PREPARE = """
import django
django.setup()
from django.contrib.auth.models import User
from django.core.management import call_command
call_command("migrate", verbosity=0)
User.objects.create_superuser("admin", password="secret")
"""

_POLL_INTERVAL = 0.05  # seconds


class Page:
    """One page of the example project, and what a person does on it."""

    def __init__(self, driver: webdriver.Chrome, server: Server) -> None:
        self._driver = driver
        self._server = server
        # What was found may go at once, with its page.
        stale = [StaleElementReferenceException]
        wait = WebDriverWait(driver, TIMEOUT, _POLL_INTERVAL, ignored_exceptions=stale)
        self._wait_until = wait.until

    def open(self, path: str) -> Page:
        self._driver.get(self._server.http + path)
        return self

    def back(self) -> None:
        self._driver.back()

    def find(self, selector: str) -> Any:
        return self._driver.find_element(By.CSS_SELECTOR, selector)

    def wait(self, selector: str, text: str = "") -> Any:
        """Wait for an element that holds a text."""

        def find(driver: webdriver.Chrome) -> Any:
            elements = driver.find_elements(By.CSS_SELECTOR, selector)
            return next((found for found in elements if text in found.text), None)

        return self._wait_until(find, (selector, text))

    def wait_for_number(self, selector: str, least: float) -> None:
        """Wait for an element that holds a number, at least this."""

        def is_there(driver: webdriver.Chrome) -> bool:
            found = re.match(r"[0-9.]+", self.find(selector).text)
            return found is not None and float(found[0]) >= least

        self._wait_until(is_there, (selector, least))

    def run(self, script: str) -> Any:
        return self._driver.execute_script(script)

    def fill(self, form: str, **values: object) -> None:
        """Fill in the fields of a form by their names, and submit it."""
        for name, value in values.items():
            field = self.wait(f"{form} [name={name}]")
            field.clear()
            field.send_keys(str(value))
        self.find(f"{form} :is(button, [type=submit])").click()

    def texts(self, selector: str) -> list[str]:
        return [
            found.text
            for found in self._driver.find_elements(By.CSS_SELECTOR, selector)
        ]

    @property
    def handle(self) -> str:
        """That of the window."""
        return self._driver.current_window_handle

    def open_window(self) -> str:
        """Go on in a new window; return the handle of the one before."""
        handle = self.handle
        self._driver.switch_to.new_window("window")
        return handle

    def close_window(self, handle: str) -> None:
        """Close the window, and go on in another one."""
        self._driver.close()
        self._driver.switch_to.window(handle)

    def switch(self, handle: str) -> str:
        """Go on in another window; return the handle of this one."""
        before = self.handle
        self._driver.switch_to.window(handle)
        return before

    def send(self, text: str) -> None:
        self.wait("#send:enabled")
        field = self.find("#message")
        field.clear()
        field.send_keys(text)
        self.find("#send").click()
