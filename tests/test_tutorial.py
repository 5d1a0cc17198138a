"""The tutorial, done command by command and file by file, in two real browsers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.keys import Keys

from .example_page import Page
from .guides import Guide
from .redis_servers import open_redis
from .servers import free_port, wait_for


class Window(Page):
    """A browser window with a page of the tutorial."""

    def visit(self, url: str) -> None:
        self._driver.get(url)

    def reload(self) -> None:
        self._driver.refresh()

    def log_in(self, name: str, password: str) -> None:
        self.fill("#login-form", username=name, password=password)

    def wait_for_state(self, state: str) -> None:
        wait_for(lambda: self.run("return socket.state") == state, state)

    def say(self, text: str) -> None:
        self.wait("[name=text]").send_keys(text, Keys.ENTER)


@pytest.fixture
def guide(tmp_path: Path) -> Iterator[Guide]:
    with open_redis(tmp_path) as engine:
        ports = {"8000": free_port(), "6379": engine.servers[0].port}
        with Guide("tutorial.rst", tmp_path, ports) as guide:
            yield guide


def test_from_startproject_to_several_workers(
    guide: Guide, driver: Any, second_driver: Any
) -> None:
    step = guide.follow_to("Open http://127.0.0.1:8000/, type :kbd:`hello` and press")
    ann, bob = (Window(browser, guide.server) for browser in (driver, second_driver))
    ann.visit(step.urls[0])
    ann.say(step.typed[0])
    ann.wait("li", step.typed[0].upper())
    ann.wait_for_state("open")
    ann.run("window.opened = 0; socket.addEventListener('open', () => ++opened);")
    save_until_reloaded(guide, "chat/views.py")
    wait_for(lambda: ann.run("return opened"), "the client to come back")
    say_until_heard(ann, "again", ann, "AGAIN")

    step = guide.follow_to("Open http://127.0.0.1:8000/rooms/lobby/ and log in as")
    lobby, garden = step.urls
    name, password, other_name, text = step.typed
    ann.visit(lobby)
    ann.log_in(name, password)
    bob.visit(lobby)
    bob.log_in(other_name, password)
    for window in ann, bob:
        window.wait("h1", "lobby")
        window.wait_for_state("open")
    bob.say(text)
    for window in ann, bob:
        window.wait("li", f"{other_name}: {text}")
    bob.visit(garden)
    bob.wait_for_state("open")
    bob.say("Who has watered the roses?")
    bob.wait("li", "roses")
    ann.say("bye")
    ann.wait("li", "ann: bye")
    assert ann.texts("li") == [f"bob: {text}", "ann: bye"]

    guide.follow_to('Load both windows again: "ann, bob" stands above the lines, and')
    ann.visit(lobby)
    bob.visit(lobby)
    for window in ann, bob:
        window.wait("#who", "ann, bob")
    bob.say("")
    bob.wait("output", "This field is required.")
    bob.say("sorry")
    ann.wait("li", "bob: sorry")
    wait_for(lambda: bob.texts("output") == [""], "the complaint to go")
    blank = bob.switch(bob.open_window())
    bob.close_window(blank)
    wait_for(lambda: ann.texts("#who") == ["ann"], "bob to go")

    guide.follow_to("Open http://127.0.0.1:8000/rooms/lobby/ in both windows: the chat")
    ann.visit(lobby)
    bob.visit(lobby)
    ann.wait("#who", "ann, bob")
    # Until the two are with different workers.
    attempts = 0
    while len(find_workers(guide)) < 2:
        attempts += 1
        assert attempts < 30, "both come to the same worker again and again"
        bob.reload()
        bob.wait("#who", "ann, bob")
    say_until_heard(ann, "from any worker", bob)

    guide.follow_to("Stop gunicorn with Ctrl-C: it tells the browsers")
    for window in ann, bob:
        window.wait("li", "the shell: Hello from outside")
    guide.stop()
    for window in ann, bob:
        window.wait_for_state("waiting")
    guide.start()
    for window in ann, bob:
        window.wait_for_state("open")
    say_until_heard(bob, "back again", ann)
    guide.follow_to_end()


def save_until_reloaded(guide: Guide, path: str) -> None:
    """The server doesn't see what is saved before it has looked for the first time."""

    def is_seen() -> bool:
        (guide.directory / path).touch()
        return f"{path} changed, reloading" in guide.server.log

    wait_for(is_seen, "the server to see the change")
    wait_for(lambda: guide.server.log.count("Quit the server") == 2, "its return")


def say_until_heard(
    speaker: Window, text: str, listener: Window, wanted: str = ""
) -> None:
    """What is said while a server or Redis is slow to start may be lost."""

    def is_heard() -> bool:
        speaker.say(text)
        return any((wanted or text) in line for line in listener.texts("li"))

    wait_for(is_heard, text)


def find_workers(guide: Guide) -> set[str]:
    """Return the processes in which the room has members."""
    code = (
        "from dwebsocket.groups import members\n"
        "print('members', *(each.id for each in members('chat.lobby')))"
    )
    printed = guide.run(f'python manage.py shell -c "{code}"')
    ids = printed.partition("members")[2].split()
    return {each.partition(".")[0] for each in ids}
