"""The task monitor of the example project: one process, and four workers with Redis."""

from __future__ import annotations

import json
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait

from .example_page import Page, start_example
from .servers import TIMEOUT, Farm, Server


@pytest.fixture(scope="module", params=["runserver", "redis"])
def server(request: pytest.FixtureRequest, example_farm: Farm) -> Server:
    return start_example(example_farm, request.param)


@pytest.fixture
def page(driver: webdriver.Chrome, server: Server) -> Page:
    driver.delete_all_cookies()
    return Page(driver, server)


def read(page: Page, part: str) -> list[str]:
    """Return the text of a part of each element."""
    texts: list[str] = page.run(
        "return [...document.querySelectorAll('dwebsocket-task')].map((element) =>"
        f"  element.shadowRoot.querySelector('[part={part}]').textContent)"
    )
    return texts


def wait_for_part(page: Page, part: str, *wanted: str) -> None:
    WebDriverWait(page._driver, TIMEOUT).until(
        lambda _: read(page, part) == list(wanted), f"{part} to be {wanted}"
    )


def read_lines(page: Page) -> list[str]:
    lines: list[str] = page.run(
        "return document.querySelector('dwebsocket-task').state.log"
        ".map(({ text }) => text)"
    )
    return lines


def test_task_monitor(page: Page) -> None:
    page.open("/").find('.card[data-example="task-monitor"] a').click()
    assert "class TaskMonitor(TaskView)" in page.wait("#source").text
    page.wait(".tasks-none")
    page.find("#start").click()
    page.wait('dwebsocket-task[state="running"]')
    assert read(page, "label") == ["Import 1"]
    # Another window, and another task.
    first = page.open_window()
    page.open("/task-monitor/").find("#start-failing").click()
    wait_for_part(page, "label", "Import 2", "Import 1")
    page.wait('dwebsocket-task[state="failed"]')
    failed, done = read(page, "outcome")
    assert failed.startswith("Failed: Row ")
    page.wait('dwebsocket-task[state="done"]')
    lines = [f"{number} rows imported" for number in range(10, 101, 10)]
    shown: Any = (failed, "Done: 100 rows")
    wait_for_part(page, "outcome", *shown)
    # After a reload it is the same.
    page.open("/task-monitor/")
    wait_for_part(page, "outcome", *shown)
    page.close_window(first)
    wait_for_part(page, "outcome", "Done: 100 rows")
    wait_for_part(page, "count", "100 of 100")
    assert read_lines(page) == lines, json.dumps(lines)


def test_tasks_are_those_of_one_browser(page: Page, driver: webdriver.Chrome) -> None:
    page.open("/task-monitor/").find("#start").click()
    page.wait("dwebsocket-task")
    driver.delete_all_cookies()
    page.open("/task-monitor/").wait(".tasks-none")
