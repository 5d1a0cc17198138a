"""What views can do over real connections, under our gunicorn worker."""

from __future__ import annotations

import json
import re
import select
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from .clients import MIB, connect, frame, handshake, log_in, read_until
from .servers import TIMEOUT, Farm, Server, wait_for

#: What makes a GET a proper opening handshake.
UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}
KEY = UPGRADE["Sec-WebSocket-Key"]


@pytest.fixture(scope="module")
def server(farm: Farm) -> Server:
    return farm("gunicorn")


@pytest.fixture(scope="module")
def limited(farm: Farm) -> Server:
    return farm.start(
        "gunicorn", MAX_CONNECTIONS="2", TEST_ALLOWED_HOSTS="127.0.0.1,example.com"
    )


@pytest.fixture(autouse=True)
def log(server: Server) -> Iterator[Any]:
    """What the server logs during a test, which is to be without a traceback."""
    start = len(server.log)

    def log() -> str:
        return server.log[start:]

    yield log
    errors = log().count("ZeroDivisionError: after the upgrade\n")
    assert log().count("Traceback") == errors


def status(server: Server) -> dict[str, Any]:
    return json.loads(server.get("/status/")[2])


def load_session(cookie: str) -> dict[str, Any]:
    from django.contrib.sessions.backends.db import SessionStore
    from django.db import connection

    key = re.search(r"sessionid=(\w+)", cookie)
    assert key
    session = SessionStore(key[1]).load()
    connection.close()
    return session


def receive_all(websocket: Any) -> list[str]:
    return list(websocket)


def head_of(received: bytes) -> tuple[str, list[tuple[str, str]]]:
    """Return status line and headers, whose names are in lower case."""
    first, *lines = received.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    headers = [line.partition(": ") for line in lines]
    return first, [(name.lower(), value) for name, _, value in headers]


# Refusals


@pytest.mark.parametrize(
    "how, code, header, text",
    [
        ("403", 403, ("X-Reason", "because"), "not you"),
        ("429", 429, ("Retry-After", "7"), ""),
        ("redirect", 302, ("Location", "/elsewhere/"), ""),
        ("message", 200, ("Vary", "Accept-Language, Cookie"), "ok"),
        ("404", 404, None, "Not Found"),
        ("denied", 403, None, "403 Forbidden"),
        ("template", 404, None, "Page not found"),
        ("lookup", 409, None, "hooked"),
        ("error", 500, None, "Server Error (500)"),
    ],
)
def test_a_refusal_has_passed_all_middleware(
    server: Server, how: str, code: int, header: tuple[str, str] | None, text: str
) -> None:
    before = status(server)
    actual, headers, body = server.get(f"/refuse/{how}/", UPGRADE)
    assert actual == code
    assert headers["X-Marked"] == str(code)
    assert headers["X-Frame-Options"] == "DENY"
    assert text in body and (text or not body)
    if header:
        assert headers[header[0]] == header[1]
    after = status(server)
    assert after["connections"] == 0
    signals = after["got_request_exception"] - before["got_request_exception"]
    # Django doesn't send it for Http404 and the like.
    assert signals == (how == "error")


def test_cookies_and_session_of_a_refusal_arrive(server: Server) -> None:
    sock, received = handshake(server, "/refuse/message/")
    sock.close()
    cookies = [value for name, value in head_of(received)[1] if name == "set-cookie"]
    assert sorted(cookie.partition("=")[0] for cookie in cookies) == [
        "marked",
        "messages",
        "sessionid",
    ]
    assert load_session(";".join(cookies)) == {"refused": True}


def test_messages_reach_a_websocket_view(server: Server) -> None:
    sock, received = handshake(server, "/refuse/message/")
    sock.close()
    values = [value for name, value in head_of(received)[1] if name == "set-cookie"]
    cookies = {"Cookie": "; ".join(value.partition(";")[0] for value in values)}
    with connect(server, "/show-messages/", additional_headers=cookies) as websocket:
        assert json.loads(websocket.recv()) == ["try later"]
        deleted = websocket.response.headers.get_all("Set-Cookie")
    assert any(cookie.startswith('messages=""') for cookie in deleted)


def test_a_refused_connection_may_be_used_on(server: Server) -> None:
    sock, received = handshake(server, "/refuse/403/")
    with sock:
        assert received.startswith(b"HTTP/1.1 403 ")
        read_until(sock, received, b"not you")
        sock.sendall(b"GET /page/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert b"a page" in read_until(sock, b"", b"a page")


# Users


def test_login_required(server: Server, log: Any) -> None:
    code, headers, _ = server.get("/members/", UPGRADE)
    assert (code, headers["Location"]) == (302, "/login/?next=/members/")
    with connect(server, "/members/", additional_headers=log_in("ann")) as websocket:
        assert receive_all(websocket) == ["Hello ann"]
    assert websocket.close_code == 1000
    from django.contrib.auth.models import User

    user = User.objects.get(username="ann")
    wait_for(lambda: f" user {user.pk}, in 0 messages " in log(), "the log")


def test_permission_required(server: Server) -> None:
    assert server.get("/staff/", UPGRADE)[0] == 403
    assert server.get("/staff/", {**UPGRADE, **log_in("ann")})[0] == 403
    with connect(server, "/staff/", additional_headers=log_in("root")) as websocket:
        assert receive_all(websocket) == ["Hello root"]


# The 101 response


def test_session_and_cookies_arrive_with_the_101(server: Server) -> None:
    with connect(server, "/set-cookies/") as websocket:
        assert receive_all(websocket) == ["1"]
    headers = websocket.response.headers
    assert websocket.response.status_code == 101
    assert (headers["X-View"], headers["X-Marked"]) == ("yes", "101")
    cookies = headers.get_all("Set-Cookie")
    assert sorted(cookie.partition("=")[0] for cookie in cookies) == [
        "marked",
        "sessionid",
    ]
    (session,) = (cookie for cookie in cookies if cookie.startswith("sessionid"))
    assert "HttpOnly" in session
    cookie = {"Cookie": session.partition(";")[0]}
    with connect(server, "/set-cookies/", additional_headers=cookie) as websocket:
        assert receive_all(websocket) == ["2"]
    # The view's later change came after the session was saved.
    assert load_session(session) == {"seen": 2}


@pytest.mark.parametrize("kind", ["gunicorn", "pywsgi-websocket", "pywsgi-stock"])
def test_sessions_are_not_written_at_the_end(farm: Farm, kind: str) -> None:
    from django.contrib.sessions.models import Session
    from django.db import connection

    server = farm(kind)
    with connect(server, "/keep-session/") as websocket:
        cookies = ";".join(websocket.response.headers.get_all("Set-Cookie"))
        assert load_session(cookies) == {"before": True}
        # As if the user logged out meanwhile.
        key = re.search(r"sessionid=(\w+)", cookies)[1]
        assert Session.objects.filter(pk=key).delete()[0] == 1
    wait_for(lambda: "/keep-session/ closed by" in server.log, "the end")
    assert not Session.objects.filter(pk=key).exists()

    with connect(server, "/keep-session/") as websocket:
        cookies = ";".join(websocket.response.headers.get_all("Set-Cookie"))
        assert load_session(cookies) == {"before": True}
        websocket.send("save")
        assert websocket.recv() == "saved"
        assert load_session(cookies) == {"before": True, "after": True}
    connection.close()


@pytest.mark.parametrize("kind", ["gunicorn", "pywsgi-websocket", "pywsgi-stock"])
def test_the_101_has_the_headers_of_a_handshake_and_none_of_a_body(
    farm: Farm, kind: str
) -> None:
    sock, received = handshake(
        farm(kind),
        "/set-cookies/",
        Accept_Encoding="gzip",
        Sec_WebSocket_Protocol="x, chat.v1",
    )
    sock.close()
    first, headers = head_of(received)
    assert first == "HTTP/1.1 101 Switching Protocols"
    names = [name for name, _ in headers]
    assert not any(name.startswith("content-") for name in names), names
    assert "transfer-encoding" not in names
    # Section 1.3 has the answer to this key.
    for header in [
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ("sec-websocket-protocol", "chat.v1"),
    ]:
        assert names.count(header[0]) == 1
        assert header in headers
    assert "sec-websocket-extensions" not in names


@pytest.mark.parametrize(
    "query",
    [
        "header=a%0d%0aX-Injected:%20b",
        "header=a%0aX-Injected:%20b",
        "header=a%0dX-Injected:%20b",
        "header=a%00b",
        *(
            "name=" + quote(name)
            for name in [
                "",
                "X A",
                "X:A",
                "X-Ü",
                "X-A\r\nX-Injected: b\r\nX-B",
                "Sec-WebSocket-Accept",
                "sec-websocket-extensions",
                "Content-Length",
                "Transfer-Encoding",
                "Connection",
                "upgrade",
            ]
        ),
    ],
)
def test_no_header_of_the_view_injects_anything(server: Server, query: str) -> None:
    sock, received = handshake(server, f"/choose/?{query}")
    with sock:
        received = read_until(sock, received, b"\x88\x02\x03\xe8")
    assert b"ValueError: " in received.partition(b"\r\n\r\n")[2]
    names = [name for name, _ in head_of(received)[1]]
    assert not {"x-injected", "x-a", "x-value", "content-length"}.intersection(names)
    assert names.count("sec-websocket-accept") == names.count("connection") == 1


@pytest.mark.parametrize("value", ["plain", "hörbar", "100 €"])
def test_headers_of_the_view_arrive(server: Server, value: str) -> None:
    sock, received = handshake(server, f"/choose/?header={quote(value)}")
    sock.close()
    # Django encodes what isn't latin-1 by RFC 2047.
    wanted = "=?utf-8?b?MTAwIOKCrA==?=" if "€" in value else value
    assert ("x-value", wanted) in head_of(received)[1]


@pytest.mark.parametrize(
    "query, offered, chosen",
    [
        ("", ["chat.v1", "chat.v2"], "chat.v2"),
        ("", ["x", "chat.v1"], "chat.v1"),
        ("", ["x"], None),
        ("", None, None),
        ("?subprotocol=x", ["chat.v1", "x"], "x"),
        ("?subprotocol=chat.v1", ["chat.v1", "chat.v2"], "chat.v1"),
    ],
)
def test_subprotocol(
    server: Server, query: str, offered: list[str] | None, chosen: str | None
) -> None:
    with connect(server, f"/choose/{query}", subprotocols=offered) as websocket:
        assert websocket.subprotocol == chosen
        assert receive_all(websocket) == [str(chosen)]


@pytest.mark.parametrize("offered, chosen", [(["chat.v1"], "chat.v1"), (None, None)])
def test_a_subprotocol_that_the_client_does_not_offer(
    server: Server, offered: list[str] | None, chosen: str | None
) -> None:
    path = "/choose/?subprotocol=other"
    with connect(server, path, subprotocols=offered) as websocket:
        assert websocket.subprotocol == chosen
        assert receive_all(websocket) == [
            "ValueError: the client doesn't offer 'other'",
            str(chosen),
        ]


def test_a_middleware_may_replace_the_101(server: Server) -> None:
    before = status(server)
    code, _, text = server.get("/sleep/?replace-response", UPGRADE)
    assert (code, text) == (418, "replaced")
    wait_for(lambda: status(server)["connections"] == 0, "the view's end")
    after = status(server)
    # accept() has raised: the view went no further, and it wasn't an error.
    assert after["events"] == before["events"]
    assert after["got_request_exception"] == before["got_request_exception"]


# Views


def test_class_based_view(server: Server) -> None:
    with connect(server, "/greeting/Ann/", subprotocols=["greet"]) as websocket:
        assert receive_all(websocket) == ["Hello Ann", "greet"]


@pytest.mark.parametrize(
    "path, messages", [("/nothing/", []), ("/helper/", ["from a helper"])]
)
def test_end_of_a_view_closes(server: Server, path: str, messages: list[str]) -> None:
    with connect(server, path) as websocket:
        assert websocket.response.status_code == 101
        assert receive_all(websocket) == messages
    assert (websocket.close_code, websocket.close_reason) == (1000, "")


def test_a_view_decorated_twice_runs_once(server: Server) -> None:
    with connect(server, "/twice/") as websocket:
        websocket.send("8 bytes.")
        assert websocket.recv() == "8 bytes."
    assert server.get("/twice/")[0] == 400


def test_an_undecorated_view_answers_as_ever(server: Server) -> None:
    assert server.get("/page/", UPGRADE)[::2] == (200, "a page")


def test_error_after_the_upgrade(server: Server, log: Any) -> None:
    before = status(server)
    with connect(server, "/fail/") as websocket:
        websocket.send("x")
        assert receive_all_until_error(websocket) == []
    assert (websocket.close_code, websocket.close_reason) == (1011, "")
    wait_for(lambda: "ZeroDivisionError: after the upgrade\n" in log(), "the log")
    assert "Internal error in the WebSocket view of /fail/\nTraceback" in log()
    after = status(server)
    assert after["got_request_exception"] == before["got_request_exception"] + 1
    assert after["connections"] == 0


def receive_all_until_error(websocket: Any) -> list[str]:
    messages = []
    with pytest.raises(ConnectionClosed):
        while True:
            messages.append(websocket.recv())
    return messages


def test_close_by_the_view(server: Server) -> None:
    with connect(server, "/close/") as websocket:
        assert receive_all_until_error(websocket) == []
    assert (websocket.close_code, websocket.close_reason) == (4321, "that's it")
    assert status(server)["events"][-1] == "closed 4321 that's it"


def test_wait_with_and_without_a_timeout(server: Server) -> None:
    with connect(server, "/wait/") as websocket:
        assert json.loads(websocket.recv()) == [None, False, "nothing"]
        websocket.send('{"a": [1, null, "ü"]}')
        assert websocket.recv() == '{"a":[1,null,"\\u00fc"]}'
        for message in ("", "text", b"", b"binary"):
            websocket.send(message)
            assert websocket.recv() == message
        websocket.close(3000, "bye")
    wait_for(lambda: "ended 3000 bye" in status(server)["events"], "the view's end")


def test_reading_without_waiting(server: Server) -> None:
    with connect(server, "/count/") as websocket:
        for message in ("a", b"b", "c"):
            websocket.send(message)
        assert receive_all(websocket) == ["a", b"b", "c"]


def test_latency_is_that_of_the_ping(server: Server) -> None:
    sock, received = handshake(server, "/ping/")
    with sock:
        read_until(sock, received, b"\x89\x0dare you there")
        sock.sendall(frame(0xA, b"unasked") + frame(1, b"?"))
        assert read_until(sock, b"", b"null") == b"\x81\x04null"
        sock.sendall(frame(0xA, b"are you there") + frame(1, b"?"))
        latency = float(sock.recv(100)[2:])
    assert 0 < latency < TIMEOUT


def test_a_helper_may_be_an_original_readme_view(server: Server) -> None:
    with connect(server, "/readme/echo-once/") as websocket:
        websocket.send("Hello")
        assert receive_all(websocket) == ["Hello"]
    assert server.get("/readme/lower-case/?message=LOUD")[::2] == (200, "loud")
    with connect(server, "/readme/lower-case/") as websocket:
        for message in ("ONE", "Two"):
            websocket.send(message)
            assert websocket.recv() == message.lower()


# The view's greenlet has what the request had


def test_environment_of_the_request(server: Server) -> None:
    path = "/prefix/environment/?timezone=Asia/Tokyo"
    headers = {"Accept-Language": "de", "SCRIPT_NAME": "/prefix", **log_in("ann")}
    with connect(server, path, additional_headers=headers) as websocket:
        assert json.loads(websocket.recv()) == {
            "language": "de",
            "timezone": "Asia/Tokyo",
            "prefix": "/prefix/",
            "url": "/prefix/environment/",
            "body": "",
            "atomic": False,
            "user": "ann",
        }


def test_urlconf_of_the_request(server: Server) -> None:
    with connect(server, "/moved/?moved") as websocket:
        environment = json.loads(websocket.recv())
    assert environment["url"] == "/moved/"
    # And nothing of other requests.
    assert (environment["language"], environment["prefix"]) == ("en", "/")


def test_atomic_requests_holds_for_http_only(server: Server) -> None:
    assert server.get("/both/")[2] == "plain, atomic: True"
    with connect(server, "/environment/") as websocket:
        assert json.loads(websocket.recv())["atomic"] is False


def test_database(server: Server) -> None:
    name = f"user {time.time()}"
    path = "/database/"
    with connect(server, path) as first, connect(server, path) as second:
        for number, websocket in enumerate((first, second)):
            websocket.send(f"{name} {number}")
            assert websocket.recv() == "1"
    assert server.get("/page/")[0] == 200


# Blocking, many greenlets, many bytes


def test_a_sleeping_view_answers_pings_and_notices_the_close(server: Server) -> None:
    start = len(status(server)["events"])
    with connect(server, "/sleep/") as websocket:
        wait_for(lambda: len(status(server)["events"]) > start, "the view's sleep")
        assert websocket.ping().wait(TIMEOUT)
        # All within the 2 seconds.
        assert status(server)["events"][start:] == ["sleeping"]
    assert status(server)["events"][start:] == ["sleeping"]
    assert websocket.close_code == 1000
    wait_for(lambda: len(status(server)["events"]) > start + 1, "the view's end")
    assert status(server)["events"][start + 1 :] == ["woke up, closed: True"]


def test_three_greenlets_send_while_one_waits(server: Server) -> None:
    numbers: dict[str, list[int]] = {"0": [], "1": [], "2": []}
    with connect(server, "/many-senders/") as websocket:
        websocket.send("10000")
        for _ in range(10000):
            sender, number, padding = websocket.recv().split(" ")
            numbers[sender].append(int(number))
            assert padding == "x" * (int(number) * 37 % 3000)
        websocket.send("done")
        assert receive_all(websocket) == []
    assert numbers == {
        "0": list(range(3333)),
        "1": list(range(3333)),
        "2": list(range(3334)),
    }


def test_16_mib_are_echoed_and_one_byte_more_is_refused(server: Server) -> None:
    message = bytes(range(256)) * (16 * MIB // 256)
    with connect(server, "/echo-big/") as websocket:
        websocket.send(message)
        assert websocket.recv() == message
        try:
            websocket.send(message + b"x")
        except ConnectionClosed:
            pass  # seen while sending
        assert receive_all_until_error(websocket) == []
    assert websocket.close_code == 1009


@pytest.mark.parametrize("message", ["12345678901", "12345678€"])
def test_one_byte_more_than_the_limit_of_a_view(server: Server, message: str) -> None:
    with connect(server, "/echo-small/") as websocket:
        websocket.send("1234567890")
        assert websocket.recv() == "1234567890"
        websocket.send(message)
        assert receive_all_until_error(websocket) == []
    assert websocket.close_code == 1009


def test_a_message_that_is_too_big_takes_no_memory(server: Server) -> None:
    assert server.get("/page/")[0] == 200
    before = server.memory
    sock, _ = handshake(server, "/echo-big/")
    with sock:
        sock.sendall(frame(2, bytes(32 * MIB), length=1024 * MIB))
        assert read_until(sock, b"", b"\x03\xf1").startswith(b"\x88")
        assert server.memory - before < 8 * MIB
    wait_for(lambda: status(server)["connections"] == 0, "the end")


def test_a_client_that_never_reads(server: Server) -> None:
    before = server.memory
    sock, _ = handshake(server, "/flood/")
    with sock:
        amounts = [0]

        def is_suspended() -> bool:
            amounts.append(status(server).get("flooded", 0))
            return len(amounts) > 20 and len(set(amounts[-20:])) == 1

        wait_for(is_suspended, "the view's suspension")
        assert 0 < amounts[-1] < 32 * MIB
        assert server.memory - before < 8 * MIB
    wait_for(
        lambda: "flood ended 1006" in status(server)["events"][-1:], "the view's end"
    )
    assert status(server)["flooded"] == amounts[-1]


def test_a_view_that_does_not_read(server: Server) -> None:
    total = 64 * MIB
    data = memoryview(frame(2, bytes(65536)) * (total // 65536) + frame(1, b"end"))
    before = server.memory
    sock, received = handshake(server, "/slow-reader/")
    with sock:
        sock.setblocking(False)
        sent = 0
        # As long as there is room again within a while.
        while sent < len(data) and select.select([], [sock], [], 1)[1]:
            sent += sock.send(data[sent:])
        assert sent < total
        assert server.memory - before < 8 * MIB
        assert server.get("/go/")[0] == 200
        sock.settimeout(TIMEOUT)
        sock.sendall(data[sent:])
        answer = str(total + len("end")).encode()
        assert read_until(sock, b"", answer).startswith(b"\x81\x08")


# The opening handshake by hand


def _handshakes() -> Iterator[Any]:
    def case(name: str, code: int, path: str = "/echo/", **options: Any) -> Any:
        return pytest.param(path, options, code, id=name)

    yield case("proper", 101)
    for method in ("HEAD", "OPTIONS"):
        yield case(method, 400, method=method)
    yield case("POST", 400, "/exempt/", method="POST", Content_Length="0")
    yield case("POST without CSRF token", 403, method="POST", Content_Length="0")
    yield case("HTTP 1.0", 400, version="HTTP/1.0")
    yield case("no host", 400, Host=None)

    for value, code in {
        "upgrade": 101,
        "keep-alive, Upgrade": 101,
        "keep-alive ,\tUPGRADE,x": 101,
        "keep-alive": 400,
        "Upgraded": 400,
        "": 400,
        None: 400,
    }.items():
        yield case(f"Connection {value!r}", code, Connection=value)
    for value, code in {
        "WebSocket": 101,
        "h2c, websocket": 101,
        "h2c": 400,
        "": 400,
        None: 400,
    }.items():
        yield case(f"Upgrade {value!r}", code, Upgrade=value)
    for value in (
        *(None, "", KEY[:-4], KEY[:-1], KEY + "AAAA", "!" + KEY[1:]),
        KEY[:-3] + "===",
        f"{KEY}, {KEY}",
        f"{KEY}\r\nSec-WebSocket-Key: {KEY}",
        f"{KEY}\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        "hörbar",
    ):
        yield case(f"key {value!r}", 400, Sec_WebSocket_Key=value)
    for value in (None, "", "12", "8", "013", "13, 8", "x"):
        yield case(f"version {value!r}", 426, Sec_WebSocket_Version=value)
    twice = "13\r\nSec-WebSocket-Version: 13"
    yield case("version twice", 426, Sec_WebSocket_Version=twice)

    for host, origin, code in [
        ("example.com", "http://example.com", 101),
        ("example.com", "http://EXAMPLE.com:80", 101),
        ("example.com:80", "http://example.com", 101),
        ("example.com:8000", "http://example.com:8000", 101),
        ("example.com", None, 101),
        ("example.com:8000", "http://example.com", 403),
        ("example.com", "http://example.com:8000", 403),
        ("example.com", "http://example.org", 403),
        ("example.com", "http://www.example.com", 403),
        ("example.com", "http://example.com.evil.org", 403),
        ("example.com", "null", 403),
        ("example.com", "", 403),
    ]:
        yield case(f"{origin} on {host}", code, Host=host, Origin=origin)

    twice = "a\r\nSec-WebSocket-Protocol: a"
    for value in ("", ",", "a,,b", "a b", "a, a", 'a"', twice):
        yield case(f"subprotocols {value!r}", 400, Sec_WebSocket_Protocol=value)
    yield case("subprotocols", 101, Sec_WebSocket_Protocol="a, b\t,c")
    for value in ("", "x;", "x; =1", "x; a=", 'x; a="b', 'x; a="b c"', ",x", "x y"):
        yield case(f"extensions {value!r}", 400, Sec_WebSocket_Extensions=value)
    value = 'permessage-deflate; client_max_window_bits, x; a=1; b="c"'
    yield case("extensions", 101, Sec_WebSocket_Extensions=value)

    yield case("body", 400, Content_Length="5", extra=b"hello")
    yield case("chunks", 400, Transfer_Encoding="chunked", extra=b"0\r\n\r\n")
    yield case("empty body", 101, Content_Length="0")


@pytest.mark.parametrize("path, options, code", list(_handshakes()))
def test_handshake(
    server: Server, path: str, options: dict[str, Any], code: int
) -> None:
    sock, received = handshake(server, path, **options)
    sock.close()
    first, headers = head_of(received)
    assert int(first.split(" ")[1]) == code, received
    names = [name for name, _ in headers]
    assert ("sec-websocket-accept" in names) is (code == 101)
    if code == 426:
        assert ("sec-websocket-version", "13") in headers
        assert ("upgrade", "websocket") in headers


def test_plain_http_to_a_view_that_requires_a_websocket(server: Server) -> None:
    code, headers, text = server.get("/echo/")
    assert (code, headers["Upgrade"]) == (400, "websocket")
    assert headers["Content-Type"] == "text/plain; charset=utf-8"
    assert text == "This URL needs a WebSocket connection.\n"


# A server with settings of its own


def test_a_host_that_is_not_allowed(limited: Server) -> None:
    for host, origin, code in [
        ("example.com", None, b"101"),
        ("example.org", None, b"400"),
        ("example.org", "http://example.org", b"400"),
    ]:
        sock, received = handshake(limited, "/echo/", Host=host, Origin=origin)
        sock.close()
        assert received.startswith(b"HTTP/1.1 " + code), received
    assert "Traceback" not in limited.log
    wait_for(lambda: status(limited)["connections"] == 0, "the end")


def test_max_connections(limited: Server) -> None:
    with connect(limited, "/echo/") as first, connect(limited, "/wait/"):
        for _ in range(2):
            with pytest.raises(InvalidStatus) as caught:
                connect(limited, "/echo/")
            response = caught.value.response
            assert response.status_code == 503
            assert response.headers["Retry-After"] == "5"
            assert response.headers["X-Marked"] == "503"
        assert limited.get("/both/")[0] == limited.get("/page/")[0] == 200
        first.send("still there")
        assert first.recv() == "still there"
        first.close()
        wait_for(lambda: status(limited)["connections"] == 1, "the end")
        with connect(limited, "/echo/") as third:
            third.send("now")
            assert third.recv() == "now"
    wait_for(lambda: status(limited)["connections"] == 0, "the end")
    # Refused ones don't count.
    for _ in range(3):
        assert limited.get("/refuse/403/", UPGRADE)[0] == 403
    with connect(limited, "/echo/"), connect(limited, "/echo/"):
        pass
