"""The JavaScript client: under Node.js, and in a real browser with real servers."""

from __future__ import annotations

import contextlib
import copy
import json
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.support.ui import WebDriverWait

import dwebsocket

from .servers import ROOT, TIMEOUT, Farm, Server, find_node, free_port, wait_for

STATIC = Path(dwebsocket.__file__).parent / "static" / "dwebsocket"
TESTS = sorted((ROOT / "tests" / "javascript").glob("*.test.js"))


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name)
def test_node(path: Path) -> None:
    node, environment = find_node()
    result = subprocess.run(
        [node, "--test", "--test-reporter=tap", str(path)],
        env={**environment, "STATIC": str(STATIC)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT * 3,
    )
    assert result.returncode == 0, result.stdout
    assert "# skipped 0\n" in result.stdout


def read_static(name: str) -> str:
    return (STATIC / name).read_text(encoding="utf-8")


def test_options_are_declared_and_documented() -> None:
    script, declarations = map(read_static, ("dwebsocket.js", "dwebsocket.d.ts"))
    defaults = re.search(r"const DEFAULTS = \{(.*?)\};", script, re.DOTALL)
    options = re.search(r"interface SocketOptions \{(.*?)\n\}", declarations, re.DOTALL)
    assert defaults and options
    names = re.findall(r"^ +(\w+)[:,]", defaults[1], re.MULTILINE)
    assert re.findall(r"^ +(\w+)\?:", options[1], re.MULTILINE) == names
    page = (ROOT / "docs" / "javascript.rst").read_text(encoding="utf-8")
    for name in names:
        assert f"\n``{name}``" in page


# In the browser


class Page:
    """A page with the client, and the socket that it has."""

    def __init__(self, driver: Any, server: Server) -> None:
        self._driver = driver
        driver.set_script_timeout(TIMEOUT)
        driver.get(server.http + "/script-page/")
        self.wait("window.module")

    def run(self, script: str, *arguments: object) -> Any:
        return self._driver.execute_script(script, *arguments)

    def connect(self, url: str, **options: object) -> None:
        """Connect anew; ``closes`` and ``states`` note what happens."""
        self.run(
            """
            window.early?.close();
            window.socket?.close();
            window.closes = [];
            window.states = [];
            window.echoes = [];
            window.socket = dwebsocket.connect(...arguments);
            socket.addEventListener("state", (event) => states.push(event.state));
            socket.addEventListener("close", (event) => {
                const { code, status, final, delay, why } = event;
                closes.push({ code, status, final, delay, why });
            });
            socket.on("echo", (content) => echoes.push(content));
            """,
            url,
            options,
        )

    def wait(self, condition: str) -> Any:
        """Wait for a JavaScript expression to be true; return its value."""
        try:
            return WebDriverWait(self._driver, TIMEOUT, 0.05).until(
                lambda driver: driver.execute_script(f"return {condition}")
            )
        except TimeoutException:
            pytest.fail(
                f"waited in vain for {condition}: "
                f"{self.run('return [window.socket?.state, window.closes]')}"
            )

    def wait_for_state(self, state: str) -> None:
        self.wait(f"socket.state === {state!r}")

    def wait_for_close(self) -> dict[str, Any]:
        """Return how the connection ended that was opened first."""
        close: dict[str, Any] = self.wait("closes[0]")
        return close

    def request(self, content: object) -> Any:
        return self._driver.execute_async_script(
            """
            const done = arguments[1];
            socket.request("echo", arguments[0]).then(done, done);
            """,
            content,
        )

    def go(self, *, online: bool) -> None:
        """Have the browser without network, or with it again."""
        self._driver.execute_cdp_cmd("Network.enable", {})
        self._driver.execute_cdp_cmd(
            "Network.emulateNetworkConditions",
            {
                "offline": not online,
                "latency": 0,
                "downloadThroughput": -1,
                "uploadThroughput": -1,
            },
        )


@pytest.fixture
def server(farm: Farm) -> Server:
    return farm("gunicorn")


@pytest.fixture
def page(driver: Any, server: Server) -> Page:
    driver.delete_all_cookies()
    return Page(driver, server)


@contextlib.contextmanager
def restart(server: Server, directory: Path) -> Iterator[Server]:
    """Start a server that has ended again, on its port."""
    again = Server(
        server.command, server.port, directory, DJANGO_SETTINGS_MODULE="tests.settings"
    )
    try:
        again.wait_until_ready()
        yield again
    finally:
        again.stop()


def test_script_module_and_early_functions(page: Page) -> None:
    """All of one page, which has a Content-Security-Policy."""
    page.wait("window.early?.state === 'open'")
    assert page.run(
        "return ['Socket', 'SocketError', 'connect', 'isFinal', 'push'].every("
        "  (name) => dwebsocket[name] && module[name] === dwebsocket[name])"
        "  && Object.keys(module).length === Object.keys(dwebsocket).length"
        "  && early instanceof module.Socket"
    )


def test_messages(page: Page) -> None:
    page.connect("/typed/")
    page.run("socket.send('echo', { text: 'Grüße, 世界' })")
    assert page.wait("echoes[0]") == {"text": "Grüße, 世界"}
    assert page.request([1, None]) == [1, None]
    page.connect("/echo/")
    page.run(
        """
        window.data = [];
        socket.addEventListener("message", (event) => data.push(event.data));
        socket.sendRaw("text");
        socket.sendRaw(new Blob([new Uint8Array([1, 2])]));
        """
    )
    page.wait("data.length === 2")
    assert page.run("return [data[0], ...new Uint8Array(data[1])]") == ["text", 1, 2]


def test_drain(farm: Farm, driver: Any) -> None:
    server = farm.start("gunicorn")
    page = Page(driver, server)
    page.connect("/typed/", minDelay=1e9, maxDelay=1e9)
    page.wait_for_state("open")
    for count in (1, 2):
        server.process.send_signal(signal.SIGHUP)
        page.wait(f"closes.length === {count}")
        page.wait_for_state("open")
        assert page.request(count) == count
    closes = page.run("return closes")
    assert {close["code"] for close in closes} == {1012}
    assert max(close["delay"] for close in closes) < 1000
    page.run("socket.close()")


class Proxy:
    """Passes TCP connections on, until it is cut."""

    def __init__(self, port: int, upstream: int) -> None:
        self._upstream = upstream
        self._listener = socket.create_server(("127.0.0.1", port))
        self._sockets = [self._listener]
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def _start(self, target: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._upstream))
                self._sockets += [client, server]
                self._start(self._copy, client, server)
                self._start(self._copy, server, client)

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for sock in self._sockets:
            sock.close()


def test_cut(driver: Any, server: Server) -> None:
    behind = copy.copy(server)
    behind.port = free_port()
    proxy = Proxy(behind.port, server.port)
    try:
        page = Page(driver, behind)
        page.connect("/typed/", minDelay=50, maxDelay=200)
        page.wait_for_state("open")
        page.run("socket.request('silence').catch((error) => { lost = error.code; })")
    finally:
        proxy.cut()
    close = page.wait_for_close()
    assert (close["code"], close["final"]) == (1006, False)
    assert page.wait("window.lost") == "connection_lost"
    page.run("socket.send('echo', 'waits')")
    page.wait("closes.length > 1")
    proxy = Proxy(behind.port, server.port)
    try:
        assert page.wait("echoes[0]") == "waits"
        page.run("socket.close()")
    finally:
        proxy.cut()


def test_offline_and_online(page: Page) -> None:
    page.connect("/typed/", minDelay=1e9, maxDelay=1e9)
    page.wait_for_state("open")
    page.go(online=False)
    page.wait_for_state("offline")
    page.run("socket.send('echo', 'waits')")
    page.go(online=True)
    assert page.wait("echoes[0]") == "waits"
    states = page.run("return states")
    assert states == ["open", "offline", "connecting", "open"]


def test_sleep(page: Page) -> None:
    page.connect("/typed/", sleepTime=300, minDelay=1e9, maxDelay=1e9)
    page.wait_for_state("open")
    # As with a computer that sleeps, no timer runs.
    page.run("const end = Date.now() + 500; while (Date.now() < end);")
    close = page.wait_for_close()
    assert "slept" in close["why"]
    page.wait_for_state("open")


@pytest.mark.parametrize(
    "path, status, is_final",
    [
        ("/members/", "redirect", True),
        # This view takes nothing but WebSockets, and refuses by itself.
        ("/staff/", 403, True),
        ("/refuse/403/", 403, True),
        ("/refuse/429/", 429, False),
        ("/refuse/404/", 404, False),
        ("/page/", 200, False),
    ],
)
def test_refused(page: Page, path: str, status: object, is_final: bool) -> None:
    page.connect(path, minDelay=1e9, maxDelay=1e9)
    close = page.wait_for_close()
    assert (close["code"], close["status"]) == (1006, status)
    assert close["final"] == is_final
    if status == 429:
        assert close["delay"] >= 7000
    page.run("socket.close()")


def test_a_page_that_becomes_visible_does_not_wait(page: Page) -> None:
    page.connect("/page/", minDelay=1e9, maxDelay=1e9)
    page.wait_for_state("waiting")
    page.run("document.dispatchEvent(new Event('visibilitychange'))")
    page.wait("closes.length === 2")
    page.run("socket.close()")


def test_a_page_that_is_left_and_come_back_to(
    page: Page, driver: Any, server: Server
) -> None:
    page.connect("/typed/", minDelay=1e9, maxDelay=1e9)
    page.wait_for_state("open")
    page.run("addEventListener('pageshow', (event) => { shown = event.persisted; })")
    before = count_closed(server)
    driver.get(server.http + "/page/")
    # The browser keeps the page, but not its connection.
    wait_for(lambda: count_closed(server) == before + 1, "the end of the connection")
    driver.back()
    assert page.wait("window.shown") is True
    page.wait_for_state("open")
    assert page.request("again") == "again"
    (close,) = page.run("return closes")
    assert (close["final"], close["why"]) == (False, "The page was left.")


def count_closed(server: Server) -> int:
    """Return how many connections were closed without a code."""
    stats = json.loads(server.get("/status/")[2])["stats"]
    return int(stats["closed"].get("1005", 0))


@pytest.mark.parametrize("code, is_final", [(1008, True), (3000, True), (4000, False)])
def test_closed(page: Page, code: int, is_final: bool) -> None:
    page.connect("/typed/")
    page.run("socket.send('close', [arguments[0], 'because'])", code)
    close = page.wait_for_close()
    assert (close["code"], close["final"]) == (code, is_final)
    assert "because" in close["why"]
    page.wait_for_state("closed" if is_final else "open")


def test_restart_with_30_tabs(farm: Farm, driver: Any, tmp_path: Path) -> None:
    server = farm.start("gunicorn")
    page = Page(driver, server)
    page.run("early.close()")
    (first,) = driver.window_handles
    page.run("window.tabs = Array.from({ length: 30 }, () => open(location.href))")
    all_open = "tabs.every((tab) => tab.early?.state === 'open')"
    try:
        page.wait(all_open)
        page.run(
            """
            window.ends = [];
            for (const tab of tabs)
                tab.early.addEventListener("close", (event) => ends.push(event.code));
            """
        )
        server.stop()
        page.wait("ends.length > 30")
        ends = page.run("return ends")
        assert (ends.count(1001), ends.count(1006)) == (30, len(ends) - 30)
        page.run(
            """
            window.replies = [];
            for (const [index, tab] of tabs.entries())
                tab.early.request("echo", index, { timeout: null })
                    .then((reply) => replies.push(reply));
            """
        )
        with restart(server, tmp_path):
            page.wait(all_open)
            page.wait("replies.length === 30")
            assert sorted(page.run("return replies")) == list(range(30))
            page.run("for (const tab of tabs) tab.close()")
    finally:
        for window in driver.window_handles:
            if window != first:
                driver.switch_to.window(window)
                driver.close()
        driver.switch_to.window(first)
