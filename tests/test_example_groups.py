"""Groups in the example project: one process, and four workers with Redis."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver

from .clients import connect
from .example_page import Page, run_python, start_example
from .servers import GUNICORN_ENVIRON, TIMEOUT, Farm, Server, find_program, wait_for


@pytest.fixture(scope="module", params=["runserver", "redis"])
def server(request: pytest.FixtureRequest, example_farm: Farm) -> Server:
    return start_example(example_farm, request.param)


@pytest.fixture
def page(driver: webdriver.Chrome, server: Server) -> Page:
    driver.delete_all_cookies()
    return Page(driver, server)


def test_a_new_dam_is_announced_in_other_windows(page: Page, server: Server) -> None:
    page.open("/notifications/").wait("#dam-count", "in all")
    first = page.open_window()
    # By the form,
    page.open("/notifications/")
    name = f"Hoover {server.port}"
    page.fill("#dam-form", name=name, river="Colorado", height=221)
    page.wait(".messages", f"{name} has been added.")
    assert f"{name} Colorado 221 m" in page.texts("#dams tr")
    page.fill("#dam-form", name=name, river="Colorado", height=221)
    page.wait(".field-error", "already exists")
    second = page.switch(first)
    page.wait(".notice", f"A new dam has been added\n{name}, Colorado, 221 m")
    page.wait("#dams tr", f"{name} Colorado 221 m")
    page.switch(second)
    # by the admin,
    page.open("/admin/login/?next=/admin/examples/dam/add/")
    page.fill("#login-form", username="admin", password="secret")
    added = f"Itaipú {server.port}"
    page.fill("#dam_form", name=added, river="Paraná", height=196)
    page.wait(".messagelist .success")
    page.close_window(first)
    page.wait(".notice", added)
    # once each.
    notices = page.texts(".notice")
    assert [name in notice for notice in notices] == [False, True], notices


def test_topics(page: Page) -> None:
    page.open("/topics/").wait("#subscribe:enabled").click()
    page.wait("#topics [data-topic=news]")
    page.find("#publish").click()
    expected = {"action": "publish", "topic": "news", "data": "Hello, World!"}
    page.wait("#log li[data-kind=received]", json.dumps(expected))
    # It is subscribed again after a pause,
    page.find("#toggle").click()
    page.wait("#live[data-state=closed]")
    page.find("#toggle").click()
    page.wait(f"#log {3 * 'li[data-kind=note] ~ '} li[data-kind=received]", "subscribe")
    # and hears what is published in another window.
    first = page.open_window()
    page.open("/topics/").wait("#publish:enabled")
    page.fill("#topic-form", topic="news", data="From elsewhere")
    page.close_window(first)
    page.wait("#log li[data-kind=received]", "From elsewhere")
    page.send("{")
    page.wait("#log li[data-kind=received]", '{"error":"Not JSON: ')
    page.find("#unsubscribe").click()
    page.wait("#topics", "nothing yet")
    assert page.find("#live").get_attribute("data-state") == "open"


def publish(topic: str, data: object) -> str:
    return json.dumps({"action": "publish", "topic": topic, "data": data})


def subscribe(websocket: Any, topic: str, action: str = "subscribe") -> None:
    command = {"action": action, "topic": topic}
    websocket.send(json.dumps(command))
    assert json.loads(websocket.recv(TIMEOUT)) == command


def test_topics_reach_those_who_have_subscribed(server: Server) -> None:
    with (
        connect(server, "/topics/") as ann,
        connect(server, "/topics/") as bob,
    ):
        subscribe(ann, "news")
        subscribe(ann, "Grüße" * 8)
        subscribe(bob, "news")
        bob.send(publish("news", {"number": 1}))
        for member in (ann, bob):
            message = json.loads(member.recv(TIMEOUT))
            assert message == json.loads(publish("news", {"number": 1}))
        bob.send(publish("Grüße" * 8, None))
        assert json.loads(ann.recv(TIMEOUT))["topic"] == "Grüße" * 8
        subscribe(ann, "news", "unsubscribe")
        bob.send(publish("news", 2))
        assert json.loads(bob.recv(TIMEOUT))["data"] == 2
        bob.send(publish("Grüße" * 8, 3))
        assert json.loads(ann.recv(TIMEOUT))["data"] == 3


@pytest.mark.parametrize(
    "message, error",
    [
        ("", "Not JSON"),
        (b"\xff", "Not JSON"),
        ("[" * 50_000, "recursion"),
        ("null", "an object"),
        ('"subscribe"', "an object"),
        ("{}", "A topic is a string"),
        ('{"action": "subscribe", "topic": 1}', "A topic is a string"),
        ('{"action": "subscribe", "topic": ""}', "A topic is a string"),
        (f'{{"action": "subscribe", "topic": "{41 * "x"}"}}', "1 to 40 characters"),
        ('{"action": "subscribe", "topic": "\\ud800"}', "surrogates"),
        ('{"action": "shout", "topic": "news"}', "An action is"),
        ('{"action": "publish", "topic": "news", "data": NaN}', "not JSON compliant"),
    ],
)
def test_topics_answer_mistakes_with_an_error(
    server: Server, message: str | bytes, error: str
) -> None:
    with connect(server, "/topics/") as websocket:
        websocket.send(message)
        assert error in json.loads(websocket.recv(TIMEOUT))["error"]
        subscribe(websocket, "news")


def test_topics_are_limited(server: Server) -> None:
    with connect(server, "/topics/") as websocket:
        for number in range(20):
            subscribe(websocket, f"topic {number}")
        websocket.send('{"action": "subscribe", "topic": "one more"}')
        answer = json.loads(websocket.recv(TIMEOUT))
        assert answer == {"error": "A connection has at most 20 topics"}
        subscribe(websocket, "topic 0")
        subscribe(websocket, "topic 0", "unsubscribe")
        subscribe(websocket, "one more")


_DRAWING = "return document.getElementById('noise-chart').toDataURL()"


def test_noise_monitor_draws_what_is_published(page: Page, server: Server) -> None:
    page.open("/noise-monitor/").wait_for_number("#noise-count", 2)
    page.wait_for_number("#noise-level", 30)
    drawing = page.run(_DRAWING)
    page.wait_for_number("#noise-count", int(page.find("#noise-count").text) + 2)
    assert page.run(_DRAWING) != drawing
    if "runserver" in server.command:
        wait_for(lambda: count_publishers(server) == 1, "its beginning in the log")
        # The server publishes itself, until the last page is closed.
        page.open("/echo/")
        wait_for(lambda: count_publishers(server) == 0, "the end of it")
        page.back()
        wait_for(lambda: count_publishers(server) == 1, "its beginning in the log")
        page.wait("#live[data-state=open]")


def count_publishers(server: Server) -> int:
    log = server.log
    return log.count("the first page is open") - log.count("the last page is closed")


def test_noise_is_not_published_where_nobody_hears_it() -> None:
    result = run_python("manage.py", "publish_noise")
    assert result.returncode == 1
    assert "set REDIS_URL for the server and for this command" in result.stderr


_ADD = """
from django.db import transaction
from examples.models import Dam
with transaction.atomic():
    Dam.objects.create(name="never built", river="Rhine", height=1)
    transaction.set_rollback(True)
Dam.objects.create(name="added in the shell", river="Rhine", height=2)
"""


def test_redis(example_farm: Farm, driver: webdriver.Chrome) -> None:
    """What is committed in the shell is announced; Ctrl-C ends all parts."""
    find_program("redis-server", "redis-server")
    server = example_farm.start(
        "redis", "example", WEB_CONCURRENCY="1", **GUNICORN_ENVIRON
    )
    found = re.search("REDIS_URL=(unix://(.*))", server.log)
    assert found is not None
    page = Page(driver, server)
    page.open("/notifications/").wait("#dam-count", "in all")
    result = run_python("manage.py", "shell", "-c", _ADD, REDIS_URL=found[1])
    assert result.returncode == 0, result.stderr
    page.wait(".notice", "added in the shell")
    assert len(page.texts(".notice")) == 1
    parts = server.children
    assert len(parts) == 3
    os.kill(server.process.pid, signal.SIGINT)
    assert server.process.wait(TIMEOUT) == 0
    assert not Path(found[2]).exists()
    assert not any(Path(f"/proc/{pid}").exists() for pid in parts)
