"""The example project, driven in a real browser and by command-line clients."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from selenium import webdriver
from selenium.webdriver.support.ui import Select

from .clients import connect
from .example_page import Page
from .servers import EXAMPLE, ROOT, Farm, Server


@pytest.fixture(scope="module", params=["gunicorn", "runserver"])
def server(request: pytest.FixtureRequest, example_farm: Farm) -> Server:
    return example_farm(request.param, "example")


@pytest.fixture
def page(driver: webdriver.Chrome, server: Server) -> Page:
    driver.delete_all_cookies()
    return Page(driver, server)


@pytest.mark.parametrize(
    "name, source",
    [
        ("echo-once", "def echo_once(request"),
        ("echo", "def echo(request"),
        ("lower", "def lower(request"),
        ("members", "def members(request"),
        ("bearer-token", "def bearer_token(request"),
        ("chat", "def enter(message"),
        ("routines", "def set_playback(message"),
        ("notifications", "def notifications(request"),
        ("topics", "def topics(request"),
        ("noise-monitor", "def noise_monitor(request"),
        ("echo-handler", "class EchoHandler(WebSocketView)"),
    ],
)
def test_index_lists_each_example(page: Page, name: str, source: str) -> None:
    page.open("/").find(f'.card[data-example="{name}"] a').click()
    assert source in page.wait("#source").text


@pytest.mark.parametrize("path", ["/echo/", "/echo-handler/"])
def test_echo(page: Page, path: str) -> None:
    page.open(path).wait("#live[data-state=open]")
    page.send("Grüße, 世界")
    page.wait("#log li[data-kind=received] .log-text", "Grüße, 世界")
    page.find("#toggle").click()
    page.wait('#live[data-state=closed][data-close-code="1000"]')
    page.find("#toggle").click()
    page.wait("#live[data-state=open]")


def test_echo_takes_16_mib_and_not_a_byte_more(page: Page) -> None:
    page.open("/echo/").wait("#live[data-state=open]")
    Select(page.find("#size")).select_by_value("16777216")
    page.find("#send-binary").click()
    page.wait('#log li[data-kind=received][data-type=binary][data-size="16777216"]')
    Select(page.find("#size")).select_by_value("16777217")
    page.find("#send-binary").click()
    # It comes back by itself.
    page.wait('#live[data-state=open][data-close-code="1009"]')


def test_echo_once(page: Page) -> None:
    page.open("/echo-once/")
    page.send("only one")
    page.wait("#log li[data-kind=received] .log-text", "only one")
    page.wait('#live[data-state=closed][data-close-code="1000"]')


def test_lower(page: Page) -> None:
    page.open("/lower/")
    page.send("LOUD")
    page.wait("#log li[data-kind=received] .log-text", "loud")
    field = page.find("#http-message")
    field.clear()
    field.send_keys("Over HTTP")
    page.find("#http-get").click()
    page.wait("#log li[data-kind=received] .log-text", "over http")


def test_members_is_refused_by_a_redirect_before_the_upgrade(page: Page) -> None:
    page.open("/members/").wait("#login-notice")
    page.find("#toggle").click()
    page.wait('#live[data-state=closed][data-close-code="1006"]')
    page.wait("#log li[data-kind=error]", "The server sends elsewhere")
    page.find("#demo-login").click()
    page.wait("#log li[data-kind=received] .log-text", "Hello demo")
    page.send("hi")
    page.wait("#log li[data-kind=received] .log-text", "demo said hi")
    page.find("#logout").click()
    page.wait("#login")


def test_a_script_connects_with_a_token(page: Page, server: Server) -> None:
    page.open("/bearer-token/").wait("#login-notice")
    page.find("#toggle").click()
    page.wait("#log li[data-kind=error]", "Log in first.")
    page.find("#demo-login").click()
    page.wait("#log li[data-kind=received] .log-text", "Hello demo, by your token")
    page.send("hi")
    page.wait("#log li[data-kind=received] .log-text", "demo said hi")
    page.find("#toggle").click()
    page.wait('#live[data-state=closed][data-close-code="1000"]')
    assert "bearer." not in server.log


def test_command_line_client(server: Server) -> None:
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "websockets", server.ws + "/echo/"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(b"hello\n")
        output = b""
        while b"< hello" not in output:
            data = process.stdout.read(1000)
            assert data, output
            output += data
        process.stdin.close()
        assert b"Connection closed: 1000" in process.stdout.read()


@pytest.mark.parametrize(
    "start, options",
    [([], ["--parallel", "2"]), (["-m", "gevent.monkey"], [])],
    ids=["parallel", "patched"],
)
def test_its_own_tests(start: list[str], options: list[str]) -> None:
    result = subprocess.run(
        [sys.executable, *start, "manage.py", "test", *options],
        cwd=EXAMPLE,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    count = re.search("Ran ([0-9]+) tests", result.stderr)
    assert count is not None and int(count[1]) > 20


@pytest.mark.parametrize("value", ["1", "{'server_context_takeover': True}"])
def test_compression_by_an_environment_variable(farm: Farm, value: str) -> None:
    server = farm.start("gunicorn", "example", WEBSOCKET_COMPRESSION=value)
    with connect(server, "/echo/", compression="deflate") as websocket:
        agreed = websocket.response.headers["Sec-WebSocket-Extensions"]
        assert ("server_no_context_takeover" in agreed) == (value == "1")
        websocket.send("compressed " * 1000)
        assert websocket.recv() == "compressed " * 1000


@pytest.mark.parametrize(
    "value, expected",
    [
        ("100", 100),
        ("true", True),
        ("['https://a.example']", ["https://a.example"]),
        ("*", "*"),
    ],
)
def test_environment_variables_become_settings(value: str, expected: object) -> None:
    result = subprocess.run(
        [
            *(sys.executable, "-c"),
            "from example import settings; print(repr(settings.WEBSOCKET_ANY))",
        ],
        cwd=EXAMPLE,
        env={"PYTHONPATH": str(ROOT), "WEBSOCKET_ANY": value},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == repr(expected)
