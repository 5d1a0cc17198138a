"""Pages of the example project that live by others: each with two windows or more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.keys import Keys

from .example_page import Page, start_example
from .servers import Farm, Server


@pytest.fixture(scope="module", params=["runserver", "redis"])
def server(request: pytest.FixtureRequest, example_farm: Farm) -> Server:
    return start_example(example_farm, request.param)


@pytest.fixture
def page(driver: webdriver.Chrome, server: Server) -> Iterator[Page]:
    driver.delete_all_cookies()
    first = driver.current_window_handle
    yield Page(driver, server)
    # Whoever is left in a room, or follows a routine, would be there in the next test.
    driver.switch_to.window(first)
    driver.get("about:blank")
    for handle in set(driver.window_handles) - {first}:
        driver.switch_to.window(handle)
        driver.close()
    driver.switch_to.window(first)


# Chat


def say(page: Page, text: str) -> None:
    page.wait("#say:enabled")
    page.fill("#chat-form", text=text)


def test_chat(page: Page, server: Server, driver: webdriver.Chrome) -> None:
    hello = f"Hello, 世界 {server.port}"
    page.open("/chat/").wait("#people li")
    name = page.find("#me").text
    assert page.texts("#people li") == [name]
    # Another window of the same person,
    first = page.open_window()
    page.open("/chat/").wait("#people li", name)
    # and a window of another one.
    driver.delete_all_cookies()
    second = page.open_window()
    page.open("/chat/").wait("#people li:nth-child(2)")
    other = page.find("#me").text
    assert sorted(page.texts("#people li")) == sorted([name, other])
    say(page, hello)
    third = page.switch(first)
    page.wait("#lines li[data-kind=note]", f"{other} has joined")
    assert len(page.texts("#lines li[data-kind=note]")) == 1
    page.wait("#lines li[data-kind=line]", f"{other} {hello}")
    page.wait("[data-room=lobby]", "2")
    # To another room and back.
    page.switch(third)
    page.find("[data-room=gevent]").click()
    page.wait("[data-room=gevent][aria-current]", "1")
    assert hello not in page.find("#lines").text
    page.find("[data-room=lobby]").click()
    page.wait("#lines li[data-kind=line]", hello)
    page.switch(first)
    page.wait("#lines li[data-kind=note]:last-child", f"{other} has joined")
    assert f"{other} has left" in page.find("#lines").text
    # One of two windows of a person is closed, then the only one.
    page.switch(second)
    page.close_window(third)
    page.close_window(first)
    page.wait("#lines li[data-kind=note]:last-child", f"{other} has left")
    assert page.texts("#people li") == [name]
    page.wait("[data-room=lobby]", "1")


def test_chat_says_what_is_wrong_with_a_line(page: Page) -> None:
    page.open("/chat/")
    say(page, " ")
    page.wait("#chat-error", "This field is required.")
    assert page.find("#chat-form [name=text]").get_attribute("aria-invalid") == "true"
    say(page, "All is well again.")
    page.wait("#lines li[data-kind=line]", "All is well again.")
    page.wait("#chat-form [name=text]:not([aria-invalid])")
    assert page.find("#chat-error").text == ""


def test_chat_goes_on_after_a_pause(page: Page, server: Server) -> None:
    page.open("/chat/").wait("#people li")
    page.find("#toggle").click()
    page.wait("#live[data-state=closed]")
    first = page.open_window()
    page.open("/chat/").wait("#people li")
    meanwhile = f"Said meanwhile {server.port}"
    say(page, meanwhile)
    page.wait("#lines li", meanwhile)
    page.close_window(first)
    assert meanwhile not in page.find("#lines").text
    page.find("#toggle").click()
    page.wait("#lines li", meanwhile)


# Routines

_POSITION = """
const done = arguments[0];
import("/static/routines/routines.js").then(
    ({ getPosition }) => done([getPosition(), Date.now() / 1000]));
"""

#: Seconds that positions may differ, as is promised.
_EXACTNESS = 0.1


def skew_clock(driver: webdriver.Chrome, milliseconds: int) -> None:
    """Have what is opened in this window from now on measure another time."""
    script = f"""
        const now = performance.now.bind(performance);
        performance.now = () => now() + {milliseconds};
    """
    command = "Page.addScriptToEvaluateOnNewDocument"
    driver.execute_cdp_cmd(command, {"source": script})


def test_routines_are_in_time(page: Page, driver: webdriver.Chrome) -> None:
    def get_start() -> Any:
        """Return when the routine began by what this window shows of it."""
        position, time = driver.execute_async_script(_POSITION)
        return time - position

    page.open("/routines/").wait("#play:enabled")
    page.wait("#offset", "give or take")
    # One page whose clock is far off, and which gets the state first of all.
    first = page.open_window()
    skew_clock(driver, 5000)
    page.open("/routines/").wait("#offset", "ahead of the server’s")
    offset = float(page.find("#live").get_attribute("data-offset"))
    assert offset == pytest.approx(-5000, abs=1000 * _EXACTNESS)
    page.find("#seek").send_keys(Keys.HOME)
    page.wait("#now", "Stand up")
    page.wait("#play", "Play").click()
    page.wait("#player[data-playing=true]")
    start = get_start()
    second = page.switch(first)
    page.wait("#play", "Pause")
    assert get_start() == pytest.approx(start, abs=_EXACTNESS)
    # The other one seeks.
    page.find("[data-step='1']").click()
    page.wait("#now", "Stretch your arms")
    sought = get_start()
    assert sought < start - _EXACTNESS
    page.switch(second)
    page.wait("#now", "Stretch your arms")
    assert get_start() == pytest.approx(sought, abs=_EXACTNESS)
    # Who comes late is in time.
    page.open_window()
    page.open("/routines/").wait("#offset", "give or take")
    page.wait("#player[data-playing=true]")
    assert get_start() == pytest.approx(sought, abs=_EXACTNESS)
    # All stop at the same place.
    page.find("#play").click()
    page.wait("#play", "Play")
    position = driver.execute_async_script(_POSITION)[0]
    assert driver.execute_async_script(_POSITION)[0] == position
    for handle in first, second:
        page.switch(handle)
        page.wait("#play", "Play")
        assert driver.execute_async_script(_POSITION)[0] == position


# Cards


def test_cards_of_the_index(page: Page) -> None:
    page.open("/").wait("#cards [data-example=noise-monitor] .card-live", "dB(A)")
    page.wait("#cards [data-example=lower] .card-live", "0 windows")
    page.wait("#cards [data-example=routines] .card-live", "0 windows, at rest")
    first = page.open_window()
    page.open("/lower/").wait("#live[data-state=open]")
    second = page.switch(first)
    page.wait("#cards [data-example=lower] .card-live", "1 window")
    page.switch(second)
    page.open("/chat/").wait("#people li")
    page.switch(first)
    page.wait("#cards [data-example=chat] .card-live", "1 person")
    page.switch(second)
    page.close_window(first)
    page.wait("#cards [data-example=chat] .card-live", "0 people")
    page.wait("#cards [data-example=lower] .card-live", "0 windows")
