"""The test client, in a process that nothing is patched in, and in others."""

from __future__ import annotations

import gc
import pickle
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse
from django.test import Client, TestCase
from gevent import monkey

from dwebsocket import ConnectionClosed, databases, require_websocket
from dwebsocket.registry import registry
from dwebsocket.testing import (
    ClientWebSocket,
    Refused,
    TimedOut,
    WebSocketClient,
    WebSocketTestMixin,
    connect,
)

from .servers import ROOT, TIMEOUT
from .test_views import load_session

#: Seconds for what is to fail.
SHORT = 0.05


@pytest.fixture
def client() -> WebSocketClient:
    return WebSocketClient()


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    sleep, open_ = time.sleep, registry.open
    yield
    assert registry.open == open_
    assert not databases.shared
    assert time.sleep is sleep


def echo(request: HttpRequest) -> None:
    for message in request.websocket:
        request.websocket.send(message)


# Messages


def test_nothing_is_patched() -> None:
    assert not monkey.is_anything_patched()


@pytest.mark.parametrize("message", ["", "Grüße", b"\x00\xff", "x" * 126, "x" * 65536])
def test_messages(client: WebSocketClient, message: str | bytes) -> None:
    with client.websocket_connect("/echo/") as websocket:
        websocket.send(message)
        assert websocket.wait() == message


def test_many_large_messages(client: WebSocketClient) -> None:
    with client.websocket_connect("/echo/") as websocket:
        for _ in range(20):
            websocket.send(bytes(1024 * 1024))
        for _ in range(20):
            assert websocket.wait() == bytes(1024 * 1024)


def test_json() -> None:
    with connect(require_websocket(echo)) as websocket:
        websocket.send_json({"a": [1, None]}, indent=1)
        assert websocket.wait_json() == {"a": [1, None]}
        websocket.close()
        assert websocket.wait_json() is None


def test_what_is_no_message(client: WebSocketClient) -> None:
    with client.websocket_connect("/echo/") as websocket:
        with pytest.raises(TypeError, match="not int"):
            websocket.send(1)  # type: ignore[arg-type]


def test_iteration_ends_with_the_connection(client: WebSocketClient) -> None:
    with client.websocket_connect("/greeting/ann/") as websocket:
        assert list(websocket) == ["Hello ann", "None"]
        assert websocket.wait() is None
        assert websocket.is_closed() and websocket.close_code == 1000


def test_messages_before_the_close_can_be_read_after_it(
    client: WebSocketClient,
) -> None:
    with client.websocket_connect("/greeting/ann/") as websocket:
        pass
    assert list(websocket) == ["Hello ann", "None"]


def test_no_message(client: WebSocketClient) -> None:
    with client.websocket_connect("/echo/") as websocket:
        websocket.assert_no_message()
        websocket.assert_no_message(timeout=SHORT)
        websocket.send("unexpected")
        with pytest.raises(AssertionError, match="'unexpected'"):
            websocket.assert_no_message()
        assert websocket.wait(timeout=0) == "unexpected"
        websocket.assert_no_message()


def test_pings_go_both_ways(client: WebSocketClient) -> None:
    with client.websocket_connect("/ping/") as websocket:
        websocket.ping(b"mine")
        websocket.send("how long did it take?")
        assert 0 < websocket.wait_json() < TIMEOUT


def test_a_view_that_sends_without_end_is_held_back(client: WebSocketClient) -> None:
    with client.websocket_connect("/flood/") as websocket:
        assert websocket.wait() == b"x" * 65536


def test_a_view_that_reads_nothing_holds_the_test_back() -> None:
    @require_websocket(max_queue=1)
    def view(request: HttpRequest) -> None:
        request.websocket.accept()
        gevent.sleep(TIMEOUT)

    websocket = connect(view)
    websocket.timeout = SHORT
    with pytest.raises(TimedOut, match=r"took no more messages(.|\n)*gevent\.sleep"):
        while True:
            websocket.send(bytes(1024 * 1024))
    with pytest.raises(TimedOut):
        websocket.close()


# What the view has done when the test goes on


def test_the_view_has_done_what_it_can() -> None:
    done = []

    @require_websocket
    def view(request: HttpRequest) -> None:
        request.websocket.accept()
        done.append("connected")
        for message in request.websocket:
            gevent.sleep(0)
            gevent.spawn(done.append, message).join()
        done.append("disconnected")

    with connect(view) as websocket:
        assert done == ["connected"]
        websocket.send("message")
        assert done == ["connected", "message"]
    assert done == ["connected", "message", "disconnected"]


def test_what_one_sends_has_reached_the_other() -> None:
    members: list[Any] = []

    @require_websocket
    def chat(request: HttpRequest) -> None:
        request.websocket.accept()
        members.append(request.websocket)
        for message in request.websocket:
            for member in members:
                member.send(message)

    with connect(chat) as ann, connect(chat) as bob:
        ann.send("hello")
        assert bob.wait(timeout=0) == "hello"
        assert ann.wait(timeout=0) == "hello"


def test_time_sleep_lets_the_test_go_on() -> None:
    @require_websocket
    def ticker(request: HttpRequest) -> None:
        for tick in range(1000):
            request.websocket.send(str(tick))
            time.sleep(0.01)

    with connect(ticker) as websocket:
        assert [websocket.wait() for _ in range(3)] == ["0", "1", "2"]


def test_time_sleep_of_the_tests_own_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)

    @require_websocket
    def view(request: HttpRequest) -> None:
        time.sleep(1000)
        request.websocket.send("rested")

    with connect(view) as websocket:
        assert websocket.wait() == "rested"
    assert slept == [1000]


# Handshakes


def test_subprotocol(client: WebSocketClient) -> None:
    offered = ["chat.v1", "chat.v2"]
    with client.websocket_connect("/echo/", subprotocols=offered) as websocket:
        assert websocket.subprotocol == "chat.v2"
    with client.websocket_connect("/echo/") as websocket:
        assert websocket.subprotocol is None


def test_headers_and_cookies(client: WebSocketClient, database: None) -> None:
    for seen in "12":
        with client.websocket_connect("/set-cookies/") as websocket:
            assert websocket.wait() == seen
            assert websocket.response.status_code == 101
            assert websocket.headers["upgrade"] == "websocket"
            assert len(websocket.headers["Sec-WebSocket-Accept"]) == 28
            assert websocket.headers["X-View"] == "yes"
            assert websocket.headers["X-Marked"] == "101"
    assert client.cookies["marked"].value == "yes"
    cookie = f"sessionid={client.cookies['sessionid'].value}"
    assert load_session(cookie)["seen"] == 2


def test_the_request() -> None:
    @require_websocket
    def view(request: HttpRequest) -> None:
        values = [request.get_full_path(), request.is_secure(), request.get_host()]
        request.websocket.send_json([*values, request.headers["X-Client"]])

    with connect(
        view, "/p/", {"q": "a b"}, secure=True, headers={"X-Client": "yes"}
    ) as websocket:
        expected = ["/p/?q=a+b", True, "testserver", "yes"]
        assert websocket.wait_json() == expected
    with connect(view, "/p/?q=1", HTTP_X_CLIENT="x", SERVER_NAME="other") as websocket:
        assert websocket.wait_json() == ["/p/?q=1", False, "other", "x"]


def test_defaults_of_the_client() -> None:
    with WebSocketClient(SERVER_NAME="other").websocket_connect("/visit/") as websocket:
        assert websocket.wait_json()["HTTP_HOST"] == "other"
    client = WebSocketClient(headers={"Host": "example.com", "Accept-Language": "de"})
    with client.websocket_connect("/environment/") as websocket:
        assert websocket.wait_json()["language"] == "de"
    websocket = client.websocket_connect(
        "/echo/", headers={"Origin": "http://example.com"}
    )
    with websocket:
        websocket.send("same origin")
        assert websocket.wait() == "same origin"


@pytest.mark.parametrize(
    "path, code, text",
    [
        ("/refuse/403/", 403, r"/refuse/403/ was answered with 403 Forbidden"),
        ("/refuse/redirect/", 302, r"302 Found to /elsewhere/"),
        ("/refuse/404/", 404, "404 Not Found"),
        ("/refuse/lookup/", 409, "409 Conflict"),
        ("/no-such-page/", 404, "404 Not Found"),
        ("/page/", 200, "200 OK"),
        ("/echo/?replace-response=1", 418, "418"),
    ],
)
def test_refusals(client: WebSocketClient, path: str, code: int, text: str) -> None:
    websocket = client.websocket_connect(path)
    assert websocket.response.status_code == code
    assert websocket.headers["X-Frame-Options"] == "DENY" or code == 418
    assert websocket.is_closed()
    assert (websocket.close_code, websocket.close_reason) == (None, "")
    assert websocket.subprotocol is None
    assert f"refused {code}" in repr(websocket)
    for use in (websocket.__enter__, websocket.wait, lambda: websocket.send("x")):
        with pytest.raises(Refused, match=text) as caught:
            use()
        assert caught.value.response is websocket.response
    websocket.close()


@pytest.mark.parametrize(
    "headers, code, text",
    [
        ({"Origin": "https://evil.example"}, 403, "origin isn't allowed"),
        ({"Sec-WebSocket-Version": "8"}, 426, "speaks WebSocket version 13"),
    ],
)
def test_refused_handshakes(
    client: WebSocketClient, headers: dict[str, str], code: int, text: str
) -> None:
    websocket = client.websocket_connect("/echo/", headers=headers)
    assert websocket.response.status_code == code
    with pytest.raises(Refused, match=text):
        websocket.wait()


# Closing


def test_the_view_closes(client: WebSocketClient) -> None:
    with client.websocket_connect("/close/") as websocket:
        assert websocket.wait() is None
        assert (websocket.close_code, websocket.close_reason) == (4321, "that's it")
        assert "closed 4321" in repr(websocket)
        with pytest.raises(ConnectionClosed, match="4321"):
            websocket.send("too late")
        with pytest.raises(ConnectionClosed, match="4321"):
            websocket.ping()


@pytest.mark.parametrize("code, reason", [(1000, ""), (4000, "bye"), (None, "")])
def test_the_test_closes(code: int | None, reason: str) -> None:
    seen = []

    @require_websocket
    def view(request: HttpRequest) -> None:
        request.websocket.wait()
        seen.append((request.websocket.close_code, request.websocket.close_reason))

    websocket = connect(view)
    assert not websocket.is_closed() and "open" in repr(websocket)
    with pytest.raises(ValueError):
        websocket.close(1006)
    websocket.close(code, reason)
    websocket.close()
    assert seen == [(code or 1005, reason)]
    assert (websocket.close_code, websocket.close_reason) == seen[0]
    assert websocket.wait() is None


def test_the_connection_is_lost() -> None:
    seen = []

    @require_websocket
    def view(request: HttpRequest) -> None:
        request.websocket.wait()
        seen.append(request.websocket.close_code)

    websocket = connect(view)
    websocket.abort()
    assert seen == [1006] and websocket.close_code == 1006


def test_the_end_of_the_block_waits_for_the_view() -> None:
    ended = []

    @require_websocket
    def view(request: HttpRequest) -> None:
        request.websocket.wait()
        gevent.sleep(SHORT)
        ended.append(True)

    with connect(view):
        pass
    assert ended


def test_an_error_in_the_block_is_what_is_raised() -> None:
    ended = []

    @require_websocket
    def view(request: HttpRequest) -> None:
        try:
            request.websocket.accept()
            gevent.sleep(TIMEOUT)
        finally:
            ended.append(True)

    with pytest.raises(KeyError, match="of the test"):
        with connect(view):
            raise KeyError("of the test")
    assert ended
    with pytest.raises(KeyError):
        with connect(require_websocket(echo)) as websocket:
            websocket.close()
            raise KeyError("after the end")


def test_an_unclosed_connection_is_warned_of(client: WebSocketClient) -> None:
    with pytest.warns(ResourceWarning, match=r"unclosed <.* /echo/ open>"):
        client.websocket_connect("/echo/")
        gc.collect()
    # Its view ends when the hub runs next, and what it shared is given back.
    with client.websocket_connect("/echo/") as websocket:
        websocket.ping()


# Errors of the view


def test_an_error_before_the_upgrade(client: WebSocketClient) -> None:
    with pytest.raises(ZeroDivisionError, match="before the upgrade"):
        client.websocket_connect("/refuse/error/")
    client.raise_request_exception = False
    websocket = client.websocket_connect("/refuse/error/")
    assert websocket.response.status_code == 500


def test_an_error_after_the_upgrade(client: WebSocketClient) -> None:
    with client.websocket_connect("/fail/") as websocket:
        websocket.send("go")
        with pytest.raises(ZeroDivisionError, match="after the upgrade"):
            websocket.wait()
        assert websocket.close_code == 1011
    for use in (
        lambda websocket: websocket.send("more"),
        lambda websocket: websocket.ping(),
        lambda websocket: websocket.assert_no_message(),
        lambda websocket: None,
    ):
        with pytest.raises(ZeroDivisionError):
            with client.websocket_connect("/fail/") as websocket:
                websocket.send("go")
                use(websocket)
    client.raise_request_exception = False
    with client.websocket_connect("/fail/") as websocket:
        websocket.send("go")
        assert websocket.wait() is None
        assert websocket.close_code == 1011


def test_an_error_of_another_view_is_not_raised(client: WebSocketClient) -> None:
    with client.websocket_connect("/echo/") as websocket:
        with client.websocket_connect("/fail/") as failing:
            failing.send("go")
            with pytest.raises(ZeroDivisionError):
                failing.wait()
        websocket.send("still here")
        assert websocket.wait() == "still here"


# What isn't done in time


def test_no_message_in_time(client: WebSocketClient) -> None:
    with client.websocket_connect("/wait/") as websocket:
        websocket.wait()
        websocket.send_json("read")
        websocket.wait()
        with pytest.raises(TimedOut) as caught:
            websocket.wait(timeout=SHORT)
    text = str(caught.value)
    assert text.startswith("the view sent no message in 0.05 s\n")
    assert "has taken 1 of 1 messages, sent 2 and is suspended in:" in text
    assert "views.py" in text and "for message in websocket" in text
    assert "stream.py" not in text and "gevent" not in text


def test_an_answer_that_took_the_view_its_time_is_not_lost() -> None:
    @require_websocket
    def view(request: HttpRequest) -> None:
        for message in request.websocket:
            select.select([], [], [], 2 * SHORT)  # nobody else runs
            request.websocket.send(message)

    with connect(view) as websocket:
        websocket.timeout = SHORT
        websocket.send("computing")
        assert websocket.wait() == "computing"


def test_a_view_that_does_not_decide(client: WebSocketClient) -> None:
    ended = []

    @require_websocket
    def view(request: HttpRequest) -> None:
        try:
            gevent.sleep(TIMEOUT)
        finally:
            ended.append(True)

    with pytest.raises(TimedOut, match=r"neither accepted nor answered(.|\n)*in view"):
        connect(view, timeout=SHORT)
    assert ended


def test_a_view_that_does_not_end() -> None:
    ended = []

    @require_websocket
    def view(request: HttpRequest) -> None:
        try:
            request.websocket.accept()
            gevent.sleep(TIMEOUT)
        finally:
            ended.append(True)

    with pytest.raises(TimedOut, match=r"the view went on in 0\.05 s\n(.|\n)*sleep"):
        with connect(view) as websocket:
            websocket.timeout = SHORT
    assert ended


def test_no_pong_in_time() -> None:
    @require_websocket(max_queue=1)
    def view(request: HttpRequest) -> None:
        request.websocket.wait()
        gevent.sleep(TIMEOUT)

    with pytest.raises(TimedOut, match="no pong came"):
        with connect(view) as websocket:
            websocket.send("1")
            websocket.send("fills the queue")
            websocket.timeout = SHORT
            websocket.ping()


def test_a_close_instead_of_a_pong() -> None:
    @require_websocket(max_queue=1)
    def view(request: HttpRequest) -> None:
        request.websocket.wait()
        gevent.sleep(SHORT)

    with connect(view) as websocket:
        websocket.send("1")
        websocket.send("fills the queue")
        with pytest.raises(ConnectionClosed, match="1000"):
            websocket.ping()


def test_a_timeout_of_the_tests_own() -> None:
    @require_websocket
    def view(request: HttpRequest) -> None:
        gevent.sleep(TIMEOUT)

    with gevent.Timeout(SHORT, False):
        connect(view)
        pytest.fail("it wasn't raised")


# Views alone


def test_connect() -> None:
    @require_websocket
    def view(request: HttpRequest) -> HttpResponse | None:
        if str(request.user) == "eve":
            raise PermissionDenied
        request.websocket.send(f"Hello {request.user}")
        return None

    with connect(view, user="ann") as websocket:
        assert websocket.wait() == "Hello ann"
    assert connect(view, user="eve").response.status_code == 403


# Databases


@pytest.mark.usefixtures("database")
class DatabaseTests(TestCase):
    """In Django's own TestCase, whose client has the method as well."""

    def test_it_is_the_tests_transaction(self) -> None:
        with self.client.websocket_connect("/database/") as websocket:
            websocket.send("bob")
            self.assertTrue(User.objects.filter(username="bob").exists())
            self.assertEqual(websocket.wait(), "1")
            User.objects.create(username="carl")
            websocket.send("dave")
            self.assertEqual(websocket.wait(), "1")
        self.assertFalse(connection.needs_rollback)
        self.assertEqual(User.objects.filter(username__in=["bob", "carl"]).count(), 2)

    def test_nothing_of_another_test_is_there(self) -> None:
        self.assertFalse(User.objects.filter(username="bob").exists())

    test_and_the_other_way_round = test_it_is_the_tests_transaction

    def test_a_transaction_of_the_view(self) -> None:
        with self.client.websocket_connect("/transaction/") as websocket:
            websocket.send("bob")
            self.assertEqual(websocket.wait(), "created")
            websocket.send("roll back")
            self.assertEqual(websocket.wait(), "rolled back")
        self.assertFalse(User.objects.filter(username="bob").exists())

    def test_login(self) -> None:
        websocket = self.client.websocket_connect("/members/")
        self.assertRedirects(
            websocket.response,
            "/login/?next=/members/",
            fetch_redirect_response=False,
        )
        self.client.force_login(User.objects.create(username="bob"))
        with self.client.websocket_connect("/members/") as websocket:
            self.assertEqual(websocket.wait(), "Hello bob")

    def test_what_runs_on_commit(self) -> None:
        committed: list[str] = []

        @require_websocket
        def view(request: HttpRequest) -> None:
            transaction.on_commit(lambda: committed.append("committed"))
            request.websocket.send("done")

        with self.captureOnCommitCallbacks(execute=True), connect(view) as websocket:
            self.assertEqual(websocket.wait(), "done")
        self.assertEqual(committed, ["committed"])


def test_the_connection_stays_open(database: None, client: WebSocketClient) -> None:
    """Without a transaction around the test, as in a TransactionTestCase."""
    connection.ensure_connection()
    before = connection.connection
    with client.websocket_connect("/database/"):
        pass
    assert connection.connection is before
    connection.close()


# Test cases and runners


class MixinTests(WebSocketTestMixin, TestCase):
    databases = frozenset()  # type: ignore[assignment]

    def test_client(self) -> None:
        self.assertIs(type(self.client), WebSocketClient)
        with self.client.websocket_connect("/echo/") as websocket:
            self.assertIs(type(websocket), ClientWebSocket)


def test_failures_can_be_pickled(client: Client) -> None:
    """As parallel runners do, to tell the parent process."""
    websocket = client.websocket_connect("/refuse/403/")
    with pytest.raises(Refused) as caught:
        websocket.wait()
    copy = pickle.loads(pickle.dumps(caught.value))
    assert type(copy) is Refused and str(copy) == str(caught.value)
    assert str(pickle.loads(pickle.dumps(TimedOut("text")))) == "text"


PYTEST = ["pytest", "-p", "no:cacheprovider"]
PYTEST_DJANGO_TESTS = """
import pytest
from django.contrib.auth.models import User
from dwebsocket.testing import connect
from dwebsocket.views import WebSocketView

@pytest.mark.parametrize("name", ["ann", "bob", "carl", "dave"])
def test_database(client, db, name):
    client.force_login(User.objects.create(username="me"))
    with client.websocket_connect("/members/") as websocket:
        assert websocket.wait() == "Hello me"
    with client.websocket_connect("/database/") as websocket:
        websocket.send(name)
        assert User.objects.filter(username=name).exists()
        assert websocket.wait() == "1"
    assert User.objects.count() == 2

def test_handler(db):
    class Creator(WebSocketView):
        def receive(self, message):
            User.objects.create(username=message)

        def disconnect(self, code):
            User.objects.create(username=str(code))

    User.objects.create(username="ann")
    with connect(Creator.as_view()) as websocket:
        websocket.send("bob")
        assert User.objects.filter(username="bob").exists()
    assert User.objects.filter(username="1000").exists()

def test_without_a_database(client):
    with client.websocket_connect("/echo/") as websocket:
        websocket.send("hello")
        assert websocket.wait() == "hello"
"""


@pytest.mark.parametrize(
    "command",
    [[*PYTEST, "-n", "2"], ["gevent.monkey", "--module", *PYTEST]],
    ids=["xdist", "patched"],
)
def test_pytest_django(command: list[str], tmp_path: Path) -> None:
    path = tmp_path / "test_site.py"
    path.write_text(PYTEST_DJANGO_TESTS)
    result = subprocess.run(
        [sys.executable, "-m", *command, path.name],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "DJANGO_SETTINGS_MODULE": "tests.settings"},
        capture_output=True,
        text=True,
    )
    assert "6 passed" in result.stdout, result.stdout + result.stderr
    assert result.returncode == 0
