"""``dwebsocket.websocket``: the object that views hold, over real connections.

``Opener`` takes the place of an upgrade; the client's end is ``test_transport``'s.
"""

from __future__ import annotations

import contextlib
import decimal
import json
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from websockets.frames import Close, Opcode

from dwebsocket.exceptions import ConnectionClosed, WebSocketError
from dwebsocket.transport import Transport
from dwebsocket.websocket import WebSocket

from .servers import TIMEOUT
from .test_transport import SHORT, Connection, Peer, open_pair, turn_hub, wait_until


class Opener:
    """Gives a WebSocket its connection, and keeps what was asked for."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.calls: list[tuple[Any, Any]] = []
        self.error: Exception | None = None

    def accept(self, subprotocol: Any, headers: Any) -> Transport:
        self.calls.append((subprotocol, headers))
        if self.error is not None:
            raise self.error
        self.transport.start()
        return self.transport


class Conversation:
    """A WebSocket that isn't accepted yet, and its client."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.peer = connection.peer
        self.opener = Opener(connection.transport)
        self.websocket = WebSocket()
        self.websocket._opener = self.opener

    def wait_for_messages(self, count: int) -> None:
        wait_until(lambda: self.connection.transport.count_messages() == count)


@pytest.fixture
def talk() -> Iterator[Conversation]:
    with gevent.Timeout(TIMEOUT, AssertionError("the time limit is over")):
        sock, peer = open_pair("unix")
        with contextlib.closing(Connection(sock, Peer(peer))) as connection:
            yield Conversation(connection)


@pytest.fixture
def websocket(talk: Conversation) -> WebSocket:
    """The WebSocket of ``talk``, accepted."""
    talk.websocket.accept()
    return talk.websocket


# Opening

#: All that begins the conversation.
METHODS: dict[str, Callable[[WebSocket], Any]] = {
    "accept": lambda websocket: websocket.accept(),
    "wait": lambda websocket: websocket.wait(0),
    "wait_json": lambda websocket: websocket.wait_json(0),
    "read": lambda websocket: websocket.read(),
    "has_messages": lambda websocket: websocket.has_messages(),
    "count_messages": lambda websocket: websocket.count_messages(),
    "next": next,
    "for": lambda websocket: next(iter(websocket)),
    "send": lambda websocket: websocket.send("message"),
    "send_json": lambda websocket: websocket.send_json({}),
    "ping": lambda websocket: websocket.ping(),
    "close": lambda websocket: websocket.close(),
}


@pytest.mark.parametrize("call", METHODS.values(), ids=METHODS)
def test_accepts_once(talk: Conversation, call: Callable[[WebSocket], Any]) -> None:
    talk.peer.send("1", "2")
    call(talk.websocket)
    assert talk.opener.calls == [(None, None)]
    call(talk.websocket)
    assert talk.opener.calls == [(None, None)]
    # The upgrade isn't needed any more.
    assert talk.websocket._opener is None


@pytest.mark.parametrize("call", METHODS.values(), ids=METHODS)
def test_outside_of_a_websocket_view(call: Callable[[WebSocket], Any]) -> None:
    with pytest.raises(WebSocketError, match="isn't in a WebSocket view"):
        call(WebSocket())


def test_before_it_is_accepted(talk: Conversation) -> None:
    websocket = talk.websocket
    assert repr(websocket) == "<WebSocket not accepted>"
    assert websocket.subprotocol is None
    assert not websocket.is_closed()
    assert websocket.close_code is None
    assert websocket.close_reason == ""
    assert websocket.latency is None
    assert websocket.silence is None
    assert iter(websocket) is websocket
    assert talk.opener.calls == []


def test_accept_with_arguments(talk: Conversation) -> None:
    talk.websocket.accept("chat", {"X-Name": "value"})
    talk.websocket.accept()
    assert talk.opener.calls == [("chat", {"X-Name": "value"})]
    for arguments in ({"subprotocol": "chat"}, {"headers": {}}):
        with pytest.raises(ValueError, match="accepted already"):
            talk.websocket.accept(**arguments)


def test_accept_after_a_mistake(talk: Conversation) -> None:
    talk.opener.error = ValueError("not offered")
    with pytest.raises(ValueError, match="not offered"):
        talk.websocket.accept("other")
    talk.opener.error = None
    talk.websocket.send("message")
    assert talk.peer.receive() == "message"


def test_open(websocket: WebSocket) -> None:
    assert repr(websocket) == "<WebSocket open>"
    assert not websocket.is_closed()
    assert websocket.close_code is None
    assert websocket.close_reason == ""
    assert websocket.silence == 0
    assert weakref.ref(websocket)() is websocket


# Reading


@pytest.mark.parametrize("timeout", [None, TIMEOUT, -1, -0.5])
@pytest.mark.parametrize("message", ["text", "", b"binary", b""])
def test_wait(
    talk: Conversation, websocket: WebSocket, message: Any, timeout: float | None
) -> None:
    waiting = gevent.spawn(websocket.wait, timeout)
    turn_hub()
    assert not waiting.dead
    talk.peer.send(message)
    received = waiting.get()
    assert received == message
    assert type(received) is type(message)


@pytest.mark.parametrize("timeout", [0, SHORT])
def test_wait_in_vain(websocket: WebSocket, timeout: float) -> None:
    assert websocket.wait(timeout) is None
    assert websocket.wait(timeout=timeout) is None
    assert not websocket.is_closed()


@pytest.mark.parametrize("timeout", [None, TIMEOUT, 0, -1])
def test_wait_at_the_end(
    talk: Conversation, websocket: WebSocket, timeout: float | None
) -> None:
    talk.peer.send("last")
    talk.peer.close(1000)
    wait_until(websocket.is_closed)
    assert websocket.wait(timeout) == "last"
    assert websocket.wait(timeout) is None


@pytest.mark.parametrize(
    ("message", "value"),
    [
        ('{"a": [1, 2.5, true]}', {"a": [1, 2.5, True]}),
        ('"ä"'.encode(), "ä"),
        ("0", 0),
        ("null", None),
    ],
)
def test_wait_json(
    talk: Conversation, websocket: WebSocket, message: Any, value: Any
) -> None:
    talk.peer.send(message)
    assert websocket.wait_json() == value


def test_wait_json_in_vain(talk: Conversation, websocket: WebSocket) -> None:
    assert websocket.wait_json(0) is None
    assert not websocket.is_closed()
    talk.peer.close()
    assert websocket.wait_json(-1) is None
    assert websocket.is_closed()


@pytest.mark.parametrize(
    "message", ["", "{", "a", b"", b"\xff", b'"\xff"', "[" * 100_000]
)
def test_not_json(talk: Conversation, websocket: WebSocket, message: Any) -> None:
    talk.peer.send(message, "[]")
    with pytest.raises(ValueError):
        websocket.wait_json()
    assert websocket.wait_json() == []


def test_read(talk: Conversation, websocket: WebSocket) -> None:
    fallback = object()
    assert websocket.read() is None
    assert websocket.read(fallback) is fallback
    talk.peer.send("text", "", b"")
    talk.wait_for_messages(3)
    assert [websocket.read(fallback) for _ in range(3)] == ["text", "", b""]
    assert websocket.read(fallback=fallback) is fallback


def test_messages_are_counted(talk: Conversation, websocket: WebSocket) -> None:
    assert not websocket.has_messages()
    assert websocket.count_messages() == 0
    talk.peer.send("1", "2")
    talk.wait_for_messages(2)
    assert websocket.has_messages() is True
    assert websocket.count_messages() == 2
    websocket.read()
    websocket.wait()
    assert websocket.has_messages() is False
    assert websocket.count_messages() == 0


@pytest.mark.parametrize("end", ["close", "end"])
def test_iteration(talk: Conversation, end: str) -> None:
    talk.peer.send("text", "", b"binary", b"")
    getattr(talk.peer, end)()
    # Never None, the connection's end included.
    assert list(talk.websocket) == ["text", "", b"binary", b""]
    assert list(talk.websocket) == []


def test_what_is_read_is_told(talk: Conversation, websocket: WebSocket) -> None:
    told: list[Any] = []
    websocket._on_message = told.append
    assert websocket.wait(0) is None
    talk.peer.send("1", "", "3", b"")
    assert websocket.wait() == "1"
    assert next(websocket) == ""
    assert websocket.wait_json() == 3
    assert websocket.read() == b""
    assert told == ["1", "", "3", b""]


# Sending


def test_send(talk: Conversation, websocket: WebSocket) -> None:
    messages = ["text", "", "ä" * 100_000, b"binary", b""]
    sender = gevent.spawn(lambda: [websocket.send(message) for message in messages])
    assert talk.peer.receive_many(len(messages)) == messages
    sender.get()
    websocket.send(bytearray(b"array"))
    websocket.send(memoryview(b"view"))
    websocket.send_nowait("at once")
    assert talk.peer.receive_many(3) == [b"array", b"view", "at once"]


@pytest.mark.parametrize("message", [None, 1, 1.5, ["a"], {"a": 1}, object()])
def test_not_a_message(talk: Conversation, websocket: WebSocket, message: Any) -> None:
    with pytest.raises(TypeError, match="a message is str or bytes-like"):
        websocket.send(message)
    websocket.send("fine")
    assert talk.peer.receive() == "fine"


class _Encoder(json.JSONEncoder):
    def default(self, o: Any) -> Any:
        return str(o)


@pytest.mark.parametrize(
    ("value", "options", "message"),
    [
        ({"a": [1, None]}, {}, '{"a":[1,null]}'),
        (None, {}, "null"),
        ("ä", {}, '"\\u00e4"'),
        ("ä", {"ensure_ascii": False}, '"ä"'),
        ([1, 2], {"separators": None}, "[1, 2]"),
        (decimal.Decimal("1.5"), {"cls": _Encoder}, '"1.5"'),
    ],
)
def test_send_json(
    talk: Conversation,
    websocket: WebSocket,
    value: Any,
    options: dict[str, Any],
    message: str,
) -> None:
    websocket.send_json(value, **options)
    assert talk.peer.receive() == message


def test_not_for_json(talk: Conversation, websocket: WebSocket) -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        websocket.send_json(object())
    websocket.send("fine")
    assert talk.peer.receive() == "fine"


@pytest.mark.parametrize("payload", [b"", b"x" * 125, bytearray(b"array")])
def test_ping(talk: Conversation, websocket: WebSocket, payload: Any) -> None:
    websocket.ping(payload)
    assert talk.peer.receive() == (Opcode.PING, bytes(payload))
    assert websocket.latency is None
    talk.peer.flush()
    wait_until(lambda: websocket.latency is not None)
    assert 0 <= websocket.latency < TIMEOUT


@pytest.mark.parametrize(
    ("payload", "error"), [("text", TypeError), (b"x" * 126, ValueError)]
)
def test_not_a_ping(websocket: WebSocket, payload: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        websocket.ping(payload)
    assert not websocket.is_closed()


# Closing


def assert_closed(websocket: WebSocket, code: int, reason: str) -> None:
    assert websocket.is_closed()
    assert repr(websocket) == f"<WebSocket closed {code}>"
    assert (websocket.close_code, websocket.close_reason) == (code, reason)
    assert websocket.wait() is None
    assert websocket.read("fallback") == "fallback"
    assert list(websocket) == []
    assert not websocket.has_messages()
    for send in (websocket.send, websocket.send_json):
        # What wait() returned may be sent, and that is no TypeError.
        for message in ("late", None):
            with pytest.raises(ConnectionClosed) as caught:
                send(message)
            assert (caught.value.code, caught.value.reason) == (code, reason)
    with pytest.raises(ConnectionClosed):
        websocket.ping()
    websocket.close(3000, "again")
    websocket.accept()
    assert websocket.close_code == code


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        ((), 1000, ""),
        ((1001,), 1001, ""),
        ((3000, "ü" * 61), 3000, "ü" * 61),
        ((4999, "bye"), 4999, "bye"),
        ((None,), 1005, ""),
    ],
)
def test_close(
    talk: Conversation,
    websocket: WebSocket,
    arguments: tuple[Any, ...],
    code: int,
    reason: str,
) -> None:
    websocket.send("last")
    websocket.close(*arguments)
    assert_closed(websocket, code, reason)
    assert talk.peer.receive_all() == ["last", Close(code, reason)]
    talk.connection.wait_for_end()
    assert_closed(websocket, code, reason)


@pytest.mark.parametrize(
    ("code", "reason"),
    [(1005, ""), (1006, ""), (999, ""), (2999, ""), (5000, ""), (None, "reason")]
    + [(1000, "x" * 124), (1000, "ü" * 62)],
)
def test_not_a_close(websocket: WebSocket, code: int | None, reason: str) -> None:
    with pytest.raises(ValueError):
        websocket.close(code, reason)
    assert not websocket.is_closed()
    assert websocket.close_code is None


@pytest.mark.parametrize(("code", "reason"), [(1000, "done"), (4000, ""), (None, "")])
def test_closed_by_the_client(
    talk: Conversation, websocket: WebSocket, code: int | None, reason: str
) -> None:
    talk.peer.close(code, reason)
    assert websocket.wait() is None
    assert_closed(websocket, code or 1005, reason)


def test_lost(talk: Conversation, websocket: WebSocket) -> None:
    talk.peer.end()
    assert websocket.wait() is None
    assert_closed(websocket, 1006, "")


def test_messages_can_be_read_after_the_end(
    talk: Conversation, websocket: WebSocket
) -> None:
    talk.peer.send("1", "2", "3", "4")
    talk.peer.close(1000)
    wait_until(websocket.is_closed)
    assert websocket.count_messages() == 4
    assert websocket.read() == "1"
    assert websocket.wait_json() == 2
    assert list(websocket) == ["3", "4"]
    assert_closed(websocket, 1000, "")
