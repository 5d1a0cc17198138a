"""``<dwebsocket-task>`` in a real browser, and the tags that put it on a page."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from django.template import Context, Template

from dwebsocket.conf import TaskSettings
from dwebsocket.tasks.store import read_reference

from .servers import ROOT, Farm, Server
from .test_javascript import Page as ScriptPage
from .test_javascript import read_static

_numbers = count()


class Page(ScriptPage):
    """A page with an element for a task of its own."""

    def __init__(self, driver: Any, server: Server) -> None:
        self._driver, self._server = driver, server
        self.name = f"task {next(_numbers)}"

    def open(self, query: str = "label=Report") -> None:
        url = f"{self._server.http}/task/page/{self.name}/?{query}"
        self._driver.get(url)
        self.wait("window.module && document.getElementById('first').state.task")

    def call(self, *calls: Any) -> None:
        """Call methods of the task: names, or names with arguments."""
        named = [[one] if isinstance(one, str) else one for one in calls]
        path = f"/task/call/{self.name.replace(' ', '%20')}/"
        assert self._server.post_json(path, named) == {}

    def part(self, name: str, element: str = "first") -> str:
        """Return an expression for a part of the element."""
        return f"{element}.shadowRoot.querySelector('[part~={name}]')"

    def wait_for_text(self, part: str, text: str) -> None:
        self.wait(f"{self.part(part)}.textContent === {json.dumps(text)}")

    def wait_for_state(self, state: str) -> None:
        self.wait(f"first.getAttribute('state') === {state!r}")

    def read(self, expression: str) -> Any:
        return self.run(f"return {expression}")

    def bar(self) -> list[str | None]:
        """Return what a screen reader is told of the bar."""
        names = ["role", "aria-label", "aria-valuenow", "aria-valuetext"]
        bar = self.part("bar")
        return [self.read(f"{bar}.getAttribute('{name}')") for name in names]

    def lines(self) -> list[str]:
        """Return the lines, without their times."""
        lines = self.read(
            "[...first.shadowRoot.querySelectorAll('li')].map((li) => li.textContent)"
        )
        return [line.partition(" ")[2] for line in lines]

    def events(self) -> list[list[Any]]:
        return self.read("events.map(({ type, live }) => [type, live])")


@pytest.fixture(scope="module")
def server(farm: Farm) -> Server:
    return farm("gunicorn")


@pytest.fixture
def page(driver: Any, server: Server) -> Iterator[Page]:
    yield Page(driver, server)
    driver.get("about:blank")


def test_from_before_it_begins_until_after_it_has_ended(page: Page) -> None:
    page.open()
    page.wait_for_state("unknown")
    page.wait_for_text("outcome", "Not started yet")
    page.wait_for_text("label", "Report")
    assert page.bar() == ["progressbar", "Report", "0", "Not started yet"]
    page.call(["new", {"total": 2000, "text": "Reading"}], "start")
    page.wait_for_state("running")
    page.wait_for_text("text", "Reading")
    page.wait_for_text("outcome", "")
    page.call(
        ["advance", {"amount": 500}],
        ["log", {"text": "<b>first</b>"}],
        ["log", {"text": "second", "level": 30}],
    )
    page.wait_for_text("count", "500 of 2,000")
    assert page.bar() == ["progressbar", "Report", "25", "Running, 500 of 2,000"]
    page.wait(f"{page.part('fill')}.style.width === '25%'")
    lines = ["<b>first</b>", "WARNING second"]
    page.wait("first.state.log.length === 2")
    assert page.lines() == lines
    log = page.part("log")
    assert page.read(f"[{log}.role, {log}.tabIndex, {log}.hidden]") == ["log", 0, False]
    assert page.read(f"{log}.getAttribute('aria-label')") == "Report Log"

    # Whoever comes now sees the same.
    page.open()
    page.wait_for_text("count", "500 of 2,000")
    assert page.lines() == lines
    assert page.events() == [["task-log", False], ["task-progress", False]]

    result = {"url": "/report/42/", "text": "Open it"}
    page.call(["update", {"result": result}], ["end", {"state": "done"}])
    page.wait_for_state("done")
    page.wait_for_text("outcome", "Done: Open it")
    link = page.read("first.shadowRoot.querySelector('a').href")
    assert link == f"{page._server.http}/report/42/"
    assert page.bar()[2:] == ["100", "Done, 500 of 2,000"]
    assert page.events()[-1] == ["task-done", True]
    assert page.read("events.at(-1).result") == result

    page.open()
    page.wait_for_text("outcome", "Done: Open it")
    assert page.lines() == lines
    assert page.events() == [["task-log", False], ["task-done", False]]


def test_failure_and_another_run(page: Page) -> None:
    page.open()
    page.call("new", "start", ["log", {"text": "first"}])
    page.wait_for_state("running")
    # How long it takes isn't known.
    assert page.bar()[2:] == [None, "Running"]
    page.call(["fail", {"message": "Row 7 has no name."}])
    page.wait_for_state("failed")
    page.wait_for_text("outcome", "Failed: Row 7 has no name.")
    assert page.bar()[2:] == ["0", "Failed"]
    assert page.events()[-1] == ["task-failed", True]
    page.call(["new", {"total": 10}], "start", ["log", {"text": "again"}])
    page.wait_for_state("running")
    page.wait_for_text("outcome", "")
    page.wait("first.state.log.length === 1")
    page.wait("first.state.log[0].text === 'again'")
    assert page.lines() == ["again"]
    page.call(["end", {"state": "done"}])
    page.wait_for_state("done")


def test_while_the_connection_is_away(page: Page) -> None:
    page.open()
    page.call(["new", {"total": 10}], "start", ["log", {"text": "before"}])
    page.wait("first.state.log.length")
    page.go(online=False)
    page.wait_for_text("connection", "Connection lost, trying again")
    page.call(["advance", {"amount": 5}], ["log", {"text": "meanwhile"}])
    page.call(["end", {"state": "done"}])
    page.go(online=True)
    page.wait_for_state("done")
    page.wait_for_text("count", "5 of 10")
    page.wait_for_text("connection", "")
    assert page.lines() == ["before", "meanwhile"]


def test_several_elements_on_one_connection(page: Page, server: Server) -> None:
    def count_opened() -> int:
        return int(json.loads(server.get("/status/")[2])["stats"]["opened"])

    before = count_opened()
    page.open("second=1")
    page.wait("second.getAttribute('state') === 'unknown'")
    page.wait("refused.getAttribute('state') === 'refused'")
    assert count_opened() == before + 1
    note = page.part("connection", "refused")
    expected = "This task can’t be shown: You may not watch this task."
    page.wait(f"{note}.textContent === {json.dumps(expected)}")
    assert page.read("events.at(-1).error.code") == "forbidden"
    page.call(["new", {"total": 10}], "start", ["advance", {"amount": 5}])
    page.wait("first.state.current === 5 && second.state.current === 5")
    # One that is gone watches no more, the other does.
    page.run("window.gone = second; second.remove()")
    page.call(["advance", {"amount": 1}])
    page.wait("first.state.current === 6")
    assert page.read("gone.state.state") is None
    page.run("document.body.append(gone)")
    page.wait("gone.state.current === 6")
    page.run("gone.label; gone.setAttribute('label', 'Other')")
    page.wait(f"{page.part('label', 'gone')}.textContent === 'Other'")
    page.call(["end", {"state": "done"}])
    page.wait("first.state.state === 'done' && gone.state.state === 'done'")


def test_on_the_connection_of_the_page(page: Page) -> None:
    page.open()
    page.call(["new", {"total": 10}], "start")
    page.run(
        """
        window.own = document.createElement("dwebsocket-task");
        own.setAttribute("task", first.getAttribute("task"));
        own.socket = dwebsocket.connect("/tasks/");
        document.body.append(own);
        """
    )
    page.wait("own.state.state === 'running'")
    page.run("own.remove()")
    assert page.read("own.socket.state") == "open"
    page.call(["end", {"state": "done"}])


def test_module(page: Page) -> None:
    page.open()
    assert page.read("module.TaskElement === customElements.get('dwebsocket-task')")
    names = page.read("Object.keys(module).sort()")
    assert names == page.read("Object.keys(dwebsocketTask).sort()")
    for name in names:
        assert page.read(f"module.{name} === dwebsocketTask.{name}")


def test_how_it_looks_is_up_to_the_page(page: Page, driver: Any) -> None:
    page.open()
    page.call("new", "start")
    page.wait_for_state("running")
    style = f"getComputedStyle({page.part('fill')})"
    page.run("first.style.setProperty('--dwebsocket-task-color', 'rgb(1, 2, 3)')")
    assert page.read(f"{style}.backgroundColor") == "rgb(1, 2, 3)"
    assert page.read(f"{style}.animationName") == "run"
    motion = {"name": "prefers-reduced-motion", "value": "reduce"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [motion]})
    try:
        assert page.read(f"{style}.animationName") == "none"
    finally:
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    page.run("first.style.color = 'rgb(4, 5, 6)'")
    text = f"getComputedStyle({page.part('outcome')})"
    assert page.read(f"{text}.color") == "rgb(4, 5, 6)"
    page.run("first.hidden = true")
    assert page.read("getComputedStyle(first).display") == "none"
    page.call(["end", {"state": "done"}])


# The tags


def render(tag: str, **context: Any) -> str:
    return Template("{% load dwebsocket %}" + tag).render(Context(context))


def test_tag_of_the_scripts() -> None:
    base = "/static/dwebsocket"
    assert render('{% dwebsocket_task_script nonce="abc" defer=True %}') == (
        f'<script src="{base}/dwebsocket.js" nonce="abc" defer></script>'
        f'<script src="{base}/dwebsocket-task.js" nonce="abc" defer></script>'
    )


class _User:
    pk = 7


@pytest.mark.parametrize("user, others", [(None, "a & b"), (_User(), None)])
def test_tag_of_the_element(user: Any, others: str | None) -> None:
    names = {"name": "a & b", "label": "<Report>"}
    html = render("{% dwebsocket_task name label=label %}", user=user, **names)
    found = re.fullmatch(
        '<dwebsocket-task label="&lt;Report&gt;" task="(.+)" url="/tasks/">'
        "</dwebsocket-task>",
        html,
    )
    assert found is not None
    reference = found[1]
    assert read_reference(reference, "7") == "a & b"
    assert read_reference(reference, None) == others


def test_tag_with_another_url() -> None:
    html = render('{% dwebsocket_task "a" url="/all-tasks/" %}')
    assert ' url="/all-tasks/">' in html


# What is documented


def test_parts_and_properties_are_documented() -> None:
    script, page = read_static("dwebsocket-task.js"), read_docs()
    made = re.findall(r'make\(\s*"\w+",\s*"([\w -]+)"', script)
    parts = {part for names in made for part in names.split()} | {"line-warning"}
    listed = page.partition("* ``::part()``: ")[2].partition("; ``dweb")[0]
    assert set(re.findall("``([a-z-]+)``", listed)) == parts
    for name in re.findall(r"--dwebsocket-task(-[a-z-]+)", script):
        assert f"{name}``" in page


def test_fields_of_the_state_are_declared() -> None:
    script, declared = map(read_static, ("dwebsocket-task.js", "dwebsocket-task.d.ts"))
    nothing = script.partition("const NOTHING = Object.freeze({")[2].partition("}")[0]
    state = declared.partition("interface TaskState<")[2].partition("\n}")[0]
    names = re.findall(r"^ +(\w+):", nothing, re.MULTILINE)
    assert set(re.findall(r"^  readonly (\w+):", state, re.MULTILINE)) == set(names)


def test_defaults_are_documented() -> None:
    block = read_docs().partition("    WEBSOCKET_TASKS = ")[2].partition("\n    }")[0]
    options = ast.literal_eval(f"{block}\n}}")
    assert options == TaskSettings()._asdict()


def read_docs() -> str:
    return (ROOT / "docs" / "tasks.rst").read_text(encoding="utf-8")


def test_scripts_are_ascii() -> None:
    """A server that names no encoding leaves it to the page."""
    for path in (ROOT / "dwebsocket" / "static" / "dwebsocket").glob("*.js"):
        path.read_text(encoding="ascii")
