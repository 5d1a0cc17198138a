"""Each page of the example project: its width, its contrast, its names and roles."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest
from selenium import webdriver

from .browser import emulate
from .example_page import Page
from .servers import ROOT, Farm

_AXE = (files("axe_core_python") / "axe.min.js").read_text()

#: Keeps what the page's Content-Security-Policy has refused.
_WATCH = """
window.refused = [];
document.addEventListener("securitypolicyviolation",
                          (event) => refused.push(event.violatedDirective));
"""

_CHECK = """
const [only, done] = arguments;
axe.run({ runOnly: only }).then(({ violations }) => done(violations.flatMap(
    ({ id, nodes }) => nodes.map(({ html, failureSummary }) =>
        `${id}: ${html} ${failureSummary}`))));
"""

_HAS_NO_SIDEWAYS_SCROLL = """
const { scrollWidth, clientWidth } = document.documentElement;
return scrollWidth <= clientWidth;
"""


@pytest.fixture(scope="module")
def browser(driver: webdriver.Chrome) -> webdriver.Chrome:
    command = "Page.addScriptToEvaluateOnNewDocument"
    driver.execute_cdp_cmd(command, {"source": _WATCH + _AXE})
    return driver


def test_pages(browser: webdriver.Chrome, example_farm: Farm) -> None:
    page = Page(browser, example_farm("runserver", "example")).open("/")
    examples = page.run(
        "return Array.from(document.querySelectorAll('.card a'), (a) => a.pathname)"
    )
    assert len(examples) > 10
    found = {path: check(browser, page, path) for path in ["/", "/login/", *examples]}
    assert {path: problems for path, problems in found.items() if problems} == {}


def check(browser: webdriver.Chrome, page: Page, path: str) -> list[str]:
    """Return what is wrong with a page."""
    emulate(browser, "light", 400, 900)
    page.open(path)
    page.run("for (const it of document.querySelectorAll('details')) it.open = true")
    problems: list[str] = browser.execute_async_script(
        _CHECK, ["wcag2a", "wcag2aa", "best-practice"]
    )
    if not page.run(_HAS_NO_SIDEWAYS_SCROLL):
        problems.append("scrolls sideways at 400 px")
    emulate(browser, "dark", 1600, 900)
    problems += browser.execute_async_script(_CHECK, ["color-contrast"])
    if not page.run(_HAS_NO_SIDEWAYS_SCROLL):
        problems.append("scrolls sideways at 1600 px")
    # Nothing of it may be against a strict policy.
    problems += page.run("return refused")
    return problems


def test_screenshots_are_small() -> None:
    """Those of the docs, made by ``make screenshots``."""
    docs = ROOT / "docs"
    shown = re.findall(r"image:: (.*)", (docs / "examples.rst").read_text())
    assert len(shown) == 8
    assert max((docs / path).stat().st_size for path in shown) < 60_000
