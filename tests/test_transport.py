"""``dwebsocket.transport`` over real connections: Unix sockets, TCP and TLS.

The client's end is a ``Peer``: the ``websockets`` package without its I/O, on a
gevent socket that the test reads and writes when it wants to.  Most tests run on
all three kinds of connections.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import logging
import operator
import os
import random
import select
import socket
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import gevent.socket
import gevent.ssl
import pytest
from gevent.hub import Waiter
from greenlet import settrace
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import CLIENT, OPEN
from websockets.protocol import Protocol as ClientProtocol

from dwebsocket.conversation import ViewGreenlet
from dwebsocket.deflate import Deflate, Options, negotiate
from dwebsocket.exceptions import ConnectionClosed
from dwebsocket.limits import Limits
from dwebsocket.protocol import Protocol
from dwebsocket.registry import registry
from dwebsocket.transport import Transport

from .servers import TIMEOUT, find_program

KIB = 1024
MIB = 1024 * KIB

#: What the kernel may hold back in the tests that fill it up.
SMALL_BUFFER = 32 * KIB

#: A unit of time for what is to run out, not to be reached.
SHORT = TIMEOUT / 400

#: Faults of the peer, and the close code that answers them.
FAULTS = {
    "not masked": (b"\x81\x01a", 1002),
    "reserved bit": (b"\xc1\x80abcd", 1002),
    "not UTF-8": (b"\x81\x81\0\0\0\0\xff", 1007),
    "too big": (b"\x82\xff\0\0\0\0\0\x10\0\x01\0\0\0\0", 1009),
}
UNMASKED = FAULTS["not masked"][0]

Content = str | bytes | Close | tuple[Opcode, bytes]


class Peer:
    """The client's end of a connection."""

    def __init__(self, sock: Any) -> None:
        self.sock = sock
        self.protocol = ClientProtocol(CLIENT, state=OPEN, max_size=None)
        self._frames: deque[Frame] = deque()

    # Sending

    def write(self, data: bytes) -> None:
        self.sock.sendall(data)

    def flush(self) -> None:
        """Send what the protocol has: answers to pings and close frames."""
        data = b"".join(self.protocol.data_to_send())
        if data:
            self.write(data)

    def send(self, *messages: str | bytes) -> None:
        """Send messages in one write."""
        self.write(encode(*messages))

    def ping(self, *payloads: bytes) -> None:
        self.write(b"".join(encode_frame(Opcode.PING, data) for data in payloads))

    def close(self, code: int | None = None, reason: str = "") -> None:
        self.protocol.send_close(code, reason)
        self.flush()

    def end(self) -> None:
        """End the stream without a close frame."""
        self.sock.close()

    def reset(self) -> None:
        """End the connection so that the other side gets an error."""
        self.sock.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        self.sock.close()

    # Receiving

    def receive(self) -> Content | None:
        """Return the next frame's content; None at the end of the stream."""
        while not self._frames:
            data = self.sock.recv(64 * KIB)
            if not data:
                return None
            self.protocol.receive_data(data)
            self._frames += self.protocol.events_received()
            if self.protocol.parser_exc is not None:
                raise self.protocol.parser_exc
        return content(self._frames.popleft())

    def receive_many(self, count: int) -> list[Content | None]:
        return [self.receive() for _ in range(count)]

    def receive_all(self) -> list[Content]:
        """Return all until the end of the stream, answering a close frame."""
        contents = []
        while (received := self.receive()) is not None:
            contents.append(received)
            if isinstance(received, Close):
                self.flush()
        return contents


def content(frame: Frame) -> Content:
    assert frame.fin
    if frame.opcode is Opcode.TEXT:
        return str(frame.data, "utf-8")
    if frame.opcode is Opcode.BINARY:
        return bytes(frame.data)
    if frame.opcode is Opcode.CLOSE:
        return Close.parse(frame.data)
    return frame.opcode, bytes(frame.data)


def encode_frame(
    opcode: Opcode, payload: bytes, *, fin: bool = True, rsv: int = 0
) -> bytes:
    first, *rest = Frame(opcode, payload, fin).serialize(mask=True)
    return bytes((first | rsv << 4, *rest))


def encode(*messages: str | bytes) -> bytes:
    """Return the frames of messages as a client sends them."""
    return b"".join(
        encode_frame(Opcode.TEXT, message.encode())
        if isinstance(message, str)
        else encode_frame(Opcode.BINARY, message)
        for message in messages
    )


class Connection:
    """A Transport, the Peer that it talks with, and how often it has ended."""

    def __init__(
        self,
        sock: Any,
        peer: Peer,
        *,
        owns_socket: bool = True,
        deflate: Deflate | None = None,
        **limits: Any,
    ) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.peer = peer
        self.ends = 0
        values = {
            "max_message_size": MIB,
            "max_queue": 1000,
            "send_buffer_size": MIB,
            "close_timeout": TIMEOUT,
            **limits,
        }
        self.transport = Transport(
            sock,
            Limits(**values),
            owns_socket=owns_socket,
            on_end=self._on_end,
            deflate=deflate,
        )

    def _on_end(self) -> None:
        self.ends += 1

    def wait_for_end(self) -> None:
        wait_until(lambda: self.ends)
        turn_hub()
        assert self.ends == 1
        assert not self.transport.is_open

    def close(self) -> None:
        self.transport.abort()
        self.sock.close()
        self.peer.sock.close()


def wait_until(condition: Callable[[], object]) -> None:
    """Let the hub run until ``condition()`` is true."""
    while not condition():
        gevent.sleep(0.001)


def turn_hub(turns: int = 10) -> None:
    """Let all happen that can happen now."""
    for _ in range(turns):
        # The least time lets the hub look at all descriptors.
        gevent.sleep(0.000001)


def settle(value: Callable[[], object]) -> None:
    """Wait until ``value()`` stays as it is."""
    last = object()
    while last != (last := value()):
        turn_hub(20)


def receive_in_greenlet(transport: Transport) -> gevent.Greenlet:
    """Start a greenlet that waits for a message."""
    greenlet = gevent.spawn(transport.receive)
    gevent.sleep(0)
    return greenlet


def receive_forever(transport: Transport) -> gevent.Greenlet:
    """Start a greenlet that waits for each message."""

    def receive() -> None:
        while True:
            transport.receive()

    greenlet = gevent.spawn(receive)
    gevent.sleep(0)
    return greenlet


def fill(transport: Transport) -> tuple[gevent.Greenlet, list[bytes]]:
    """Send until the sender is suspended; return it and what it has queued."""
    sent: list[bytes] = []

    def send() -> None:
        while True:
            message = struct.pack("!I", len(sent)) * KIB
            sent.append(message)
            transport.send(message)

    sender = gevent.spawn(send)
    settle(lambda: len(sent))
    return sender, sent


# Fixtures


@pytest.fixture(autouse=True)
def time_limit() -> Iterator[None]:
    with gevent.Timeout(TIMEOUT, AssertionError("the time limit is over")):
        yield


@pytest.fixture(scope="session")
def tls_contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """The server's and the client's context, with a self-signed certificate."""
    directory = tmp_path_factory.mktemp("tls")
    key, certificate = directory / "key.pem", directory / "certificate.pem"
    _make_certificate(key, certificate)
    server = gevent.ssl.SSLContext(gevent.ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    client = gevent.ssl.SSLContext(gevent.ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(certificate)
    return server, client


def _make_certificate(key: Path, certificate: Path) -> None:
    subprocess.run(
        [
            *(find_program("openssl", "openssl"), "req", "-x509", "-nodes"),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-keyout", str(key), "-out", str(certificate), "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
        ],
        check=True,
        capture_output=True,
    )


def open_pair(
    kind: str,
    contexts: tuple[Any, Any] | None = None,
    buffer_size: int | None = None,
) -> tuple[Any, Any]:
    """Return the server's socket, as a Transport wants it, and the client's.

    ``contexts`` are of TLS; ``buffer_size`` is what the kernel may hold.
    """
    with contextlib.ExitStack() as stack:
        if kind == "unix":
            sock, peer = socket.socketpair()
        else:
            listener = stack.enter_context(socket.socket())
            peer = socket.socket()
            if buffer_size is not None:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_size)
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_size)
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            peer.connect(listener.getsockname())
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock, _ = listener.accept()
    if buffer_size is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_size)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_size)
    peer = _cooperative(peer)
    if kind != "tls":
        sock.setblocking(False)
        return sock, peer
    assert contexts is not None
    server_context, client_context = contexts
    client = gevent.spawn(client_context.wrap_socket, peer, server_hostname="localhost")
    sock = server_context.wrap_socket(_cooperative(sock), server_side=True)
    return sock, client.get()


def _cooperative(sock: socket.socket) -> Any:
    return gevent.socket.socket(
        sock.family, sock.type, sock.proto, fileno=sock.detach()
    )


Connect = Callable[..., Connection]


@pytest.fixture(params=["unix", "tcp", "tls"])
def connect(
    request: pytest.FixtureRequest, tls_contexts: tuple[Any, Any]
) -> Iterator[Connect]:
    """Function that opens a connection; its keywords are those of Connection.

    ``received`` is given to ``start``; with None it isn't started.
    """
    with contextlib.ExitStack() as stack:

        def connect(
            *,
            received: bytes | None = b"",
            buffer_size: int | None = None,
            **options: Any,
        ) -> Connection:
            sock, peer = open_pair(request.param, tls_contexts, buffer_size)
            connection = Connection(sock, Peer(peer), **options)
            stack.callback(connection.close)
            if received is not None:
                connection.transport.start(received)
            return connection

        yield connect


def on(*kinds: str) -> pytest.MarkDecorator:
    """Run a test on these kinds of connections only."""
    return pytest.mark.parametrize("connect", kinds, indirect=True)


# Receiving


def test_messages_arrive_in_order(connect: Connect) -> None:
    connection = connect()
    sizes = [0, 1, 125, 126, 0xFFFF, 0x10000, 300_000] * 2
    messages = [
        bytes([i]) * size if i % 2 else chr(0x100 + i) * size
        for i, size in enumerate(sizes)
    ]
    client = gevent.spawn(connection.peer.send, *messages)
    assert [connection.transport.receive() for _ in sizes] == messages
    client.get()
    assert connection.transport.count_messages() == 0


def test_messages_arrive_in_pieces(connect: Connect) -> None:
    connection = connect()
    stream = (
        encode("short", b"")
        + encode_frame(Opcode.TEXT, "äö".encode()[:3], fin=False)
        + encode_frame(Opcode.PING, b"between")
        + encode_frame(Opcode.CONT, "äö".encode()[3:])
    )
    for position in range(len(stream)):
        connection.peer.write(stream[position : position + 1])
        turn_hub(1)
    assert [connection.transport.receive() for _ in range(3)] == ["short", b"", "äö"]
    assert connection.peer.receive() == (Opcode.PONG, b"between")


@pytest.mark.parametrize("size", [MIB - 2, 300_001])
def test_long_text_that_is_ascii_at_first(connect: Connect, size: int) -> None:
    connection = connect()
    messages = ["x" * size, "x" * (size // 2) + "\xe9" * (size // 4), "x" * size]
    client = gevent.spawn(connection.peer.send, *messages)
    assert [connection.transport.receive() for _ in messages] == messages
    client.get()
    receiver = receive_in_greenlet(connection.transport)
    bad = encode_frame(Opcode.TEXT, b"x" * size + b"\xff")
    client = gevent.spawn(connection.peer.write, bad)
    assert receiver.get() is None
    assert connection.transport.protocol.close_code == 1007
    client.kill()


@on("unix")  # what is written has come at once
def test_all_connections_are_read_before_a_greenlet_goes_on(connect: Connect) -> None:
    connections = [connect() for _ in range(3)]
    transports = [connection.transport for connection in connections]
    seen: list[int] = []

    def look(transport: Transport) -> None:
        transport.receive()
        seen.append(sum(other.count_messages() for other in transports))

    greenlets = [gevent.spawn(look, transport) for transport in transports]
    gevent.sleep(0)
    for connection in connections:
        connection.peer.write(encode("a") + encode("b"))
    gevent.joinall(greenlets)
    # Each has taken one of six.
    assert seen == [5, 4, 3]


class Listener:
    """Takes messages in the hub."""

    def __init__(self, transport: Transport, take: Callable[[Transport], Any]) -> None:
        self._transport = transport
        self._take = take
        transport.listen(self)

    def on_message(self) -> None:
        assert gevent.getcurrent() is gevent.get_hub()
        self._take(self._transport)


@on("unix")
def test_greenlets_go_on_one_from_the_other(connect: Connect) -> None:
    connections = [connect() for _ in range(3)]
    receivers = [receive_forever(connection.transport) for connection in connections]
    switches: list[tuple[Any, Any]] = []
    previous = settrace(lambda event, pair: switches.append(pair))
    try:
        for connection in connections:
            connection.peer.send("a")
        hub = gevent.get_hub()
        turn_hub()
    finally:
        settrace(previous)
    start = next(i for i, (_, target) in enumerate(switches) if target in receivers)
    first, second, third, last = switches[start : start + 4]
    assert first[0] is last[1] is hub
    assert first[1] is second[0]
    assert second[1] is third[0]
    assert third[1] is last[0]
    assert {first[1], second[1], third[1]} == set(receivers)
    gevent.killall(receivers)


@on("unix")
def test_all_who_wait_get_messages_in_their_order(connect: Connect) -> None:
    connections = [connect() for _ in range(5)]
    transports = [connection.transport for connection in connections]
    taken: list[tuple[int, Any]] = []

    def take(transport: Transport) -> None:
        taken.append((transports.index(transport), transport.receive()))

    def take_two(transport: Transport) -> None:
        take(transport)
        take(transport)

    greenlets = [
        gevent.spawn(take_two, transports[0]),
        *(gevent.spawn(take, transports[1]) for _ in range(3)),
        gevent.spawn(take, transports[3]),
        gevent.spawn(take, transports[4]),
    ]
    turn_hub()
    Listener(transports[2], take)
    Listener(transports[3], take)
    for connection in connections:
        connection.peer.send("a", "b")
    gevent.joinall(greenlets[:3] + greenlets[4:])
    # One connection after the other, in whichever order they have been read from.
    assert {
        index: [message for _, message in group]
        for index, group in itertools.groupby(taken, key=operator.itemgetter(0))
    } == {0: ["a", "b"], 1: ["a", "b"], 2: ["a"], 3: ["a", "b"], 4: ["a"]}
    assert len(taken) == 8
    greenlets[3].kill()


@on("unix")
@pytest.mark.parametrize("is_listener", [False, True])
def test_an_error_stops_no_other_connection(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, is_listener: bool
) -> None:
    hub = gevent.get_hub()
    handled: list[Any] = []
    monkeypatch.setattr(hub, "handle_error", lambda *args: handled.append(args))
    connections = [connect() for _ in range(3)]

    def fail(transport: Transport) -> None:
        transport.receive()
        raise MemoryError

    first = receive_forever(connections[0].transport)
    failing: Any
    if is_listener:
        failing = Listener(connections[1].transport, fail)
    else:
        failing = ViewGreenlet(fail, hub)
        hub.loop.run_callback(failing.switch, connections[1].transport)
        turn_hub()
    last = receive_in_greenlet(connections[2].transport)
    for connection in connections:
        connection.peer.send("a")
    assert last.get() == "a"
    assert [(context, kind) for context, kind, _, _ in handled] == [
        (failing, MemoryError)
    ]
    first.kill()


def test_count_messages(connect: Connect) -> None:
    connection = connect()
    transport = connection.transport
    assert transport.count_messages() == 0
    connection.peer.send("a", "b")
    wait_until(lambda: transport.count_messages() == 2)
    assert transport.receive(0) == "a"
    assert transport.count_messages() == 1


def test_waiting_greenlets_get_one_message_each(connect: Connect) -> None:
    connection = connect()
    receivers = [receive_in_greenlet(connection.transport) for _ in range(3)]
    connection.peer.send("a", "b")
    gevent.joinall(receivers, count=2)
    assert [receiver.value for receiver in receivers] == ["a", "b", None]
    assert not receivers[2].dead
    connection.peer.send("c")
    assert receivers[2].get() == "c"


@pytest.mark.parametrize("timeout", [0, SHORT])
def test_receive_gives_up(connect: Connect, timeout: float) -> None:
    connection = connect()
    assert connection.transport.receive(timeout) is None
    assert connection.transport.is_open
    connection.peer.send("late")
    assert connection.transport.receive(TIMEOUT) == "late"


def test_receive_gives_up_while_another_greenlet_gets_messages(
    connect: Connect,
) -> None:
    connection = connect()
    first = receive_in_greenlet(connection.transport)
    second = gevent.spawn(connection.transport.receive, SHORT)
    gevent.sleep(0)
    connection.peer.send("a")
    assert first.get() == "a"
    assert second.get() is None
    assert connection.transport.is_open


def test_timeout_counts_from_the_call(connect: Connect) -> None:
    connection = connect()
    connection.peer.send("a")
    connection.transport.receive()
    # The greenlet was woken from the hub, whose clock stands still meanwhile.
    compute(SHORT * 4)
    start = time.monotonic()
    assert connection.transport.receive(SHORT * 2) is None
    assert time.monotonic() - start > SHORT


def compute(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


@pytest.mark.parametrize("is_message_first", [True, False])
@pytest.mark.parametrize("how", ["kill", "timeout"])
def test_interrupted_receive_loses_no_message(
    connect: Connect, how: str, is_message_first: bool
) -> None:
    connection = connect()

    def receive() -> Any:
        with gevent.Timeout(0 if how == "timeout" else None, False):
            return connection.transport.receive()

    receiver = gevent.spawn(receive)
    if is_message_first:
        connection.peer.send("message")
    if how == "kill":
        gevent.sleep(0)
        receiver.kill(block=False)
    receiver.join()
    if not is_message_first:
        connection.peer.send("message")
    if receiver.value != "message":
        assert connection.transport.receive() == "message"


def test_receive_killed_at_the_end_loses_no_message(connect: Connect) -> None:
    connection = connect(received=None)
    receivers = [receive_in_greenlet(connection.transport) for _ in range(2)]
    close = encode_frame(Opcode.CLOSE, b"\x03\xe8")
    connection.transport.start(encode("message") + close)
    # Thrown after the message has come, and before the greenlets go on.
    receivers[0].kill(block=False)
    gevent.joinall(receivers)
    assert isinstance(receivers[0].value, gevent.GreenletExit)
    assert receivers[1].value == "message"


# Full inbox


@pytest.mark.parametrize(
    ("limits", "most"),
    [
        ({"max_queue": 10}, 10 + 64),
        ({"max_queue": None, "max_message_size": 20 * KIB}, 20 + 64),
        ({"max_message_size": None}, 1000 + 64),
    ],
)
def test_full_inbox_stops_reading(
    connect: Connect, limits: dict[str, Any], most: int
) -> None:
    connection = connect(buffer_size=SMALL_BUFFER, **limits)
    transport = connection.transport
    messages = [struct.pack("!I", i) * (KIB // 4) for i in range(2000)]
    client = gevent.spawn(connection.peer.send, *messages)
    settle(lambda: transport.count_messages())
    # One reading may bring more than the limit.
    assert 0 < transport.count_messages() <= most
    received = []
    for _ in range(5):
        received.append(transport.receive())
        settle(lambda: transport.count_messages())
        assert transport.count_messages() <= most
    assert not client.dead
    received += [transport.receive() for _ in messages[5:]]
    assert received == messages
    client.get()
    connection.peer.close(1000)
    assert transport.receive() is None


def test_inbox_without_limits(connect: Connect) -> None:
    connection = connect(max_queue=None, max_message_size=None)
    messages = [b"x" * KIB] * 1500
    client = gevent.spawn(connection.peer.send, *messages)
    wait_until(lambda: connection.transport.count_messages() == len(messages))
    client.get()


def test_drop_inbox_reads_on(connect: Connect) -> None:
    connection = connect(buffer_size=SMALL_BUFFER, max_queue=10)
    transport = connection.transport
    client = gevent.spawn(connection.peer.send, *([b"x" * KIB] * 300))
    settle(lambda: transport.count_messages())
    assert not client.dead
    while not client.dead:
        transport.drop_inbox()
        gevent.sleep(0)
    client.get()
    connection.peer.send("last")
    while transport.receive() != "last":
        pass
    transport.drop_inbox()
    assert transport.count_messages() == 0


def test_drop_inbox_makes_room(connect: Connect) -> None:
    connection = connect(max_message_size=20 * KIB)
    transport = connection.transport
    for _ in range(3):
        connection.peer.send(*([b"x" * KIB] * 15))
        wait_until(lambda: transport.count_messages() == 15)
        connection.peer.send("read")
        wait_until(lambda: transport.count_messages() == 16)
        transport.drop_inbox()


def test_ending_connection_is_read_on_with_a_full_inbox(connect: Connect) -> None:
    connection = connect(buffer_size=SMALL_BUFFER, max_queue=1)
    client = gevent.spawn(connection.peer.send, "first", *([b"x" * KIB] * 300))
    settle(lambda: connection.transport.count_messages())
    assert not client.dead
    connection.transport.close(1001)
    client.get()
    assert connection.peer.receive_all() == [Close(1001, "")]
    assert connection.transport.receive() == "first"
    connection.wait_for_end()
    assert connection.transport.protocol.close_received


# Early bytes


@pytest.mark.parametrize("cut", range(len(encode("a", b"bc", "")) + 1))
@on("unix", "tls")
def test_received_with_the_handshake(connect: Connect, cut: int) -> None:
    stream = encode("a", b"bc", "")
    connection = connect(received=stream[:cut])
    receiver = receive_in_greenlet(connection.transport)
    connection.peer.write(stream[cut:])
    assert receiver.get() == "a"
    assert connection.transport.receive() == b"bc"
    assert connection.transport.receive() == ""


def test_received_nothing_runs_before_start_returns(connect: Connect) -> None:
    connection = connect(received=None)
    receiver = receive_in_greenlet(connection.transport)
    connection.transport.start(encode("early"))
    assert not receiver.dead
    assert connection.transport.count_messages() == 0
    assert receiver.get() == "early"


def test_received_ping_and_close(connect: Connect) -> None:
    ping = encode_frame(Opcode.PING, b"?")
    close = encode_frame(Opcode.CLOSE, b"\x03\xe9bye")
    connection = connect(received=ping + encode("message") + close)
    assert connection.transport.receive() == "message"
    assert connection.transport.receive() is None
    assert connection.peer.receive_many(3) == [
        (Opcode.PONG, b"?"),
        Close(1001, ""),
        None,
    ]
    connection.wait_for_end()


def test_abort_before_received_is_looked_at(connect: Connect) -> None:
    connection = connect(received=encode("message"))
    connection.transport.abort()
    assert connection.transport.receive() is None
    connection.wait_for_end()


# Sending


def test_messages_are_sent_in_order(connect: Connect) -> None:
    connection = connect(buffer_size=SMALL_BUFFER, send_buffer_size=100 * KIB)
    messages: list[Any] = ["", "ä", b"", b"x" * 126, "y" * 0x10000, b"z" * 300_000]
    client = gevent.spawn(connection.peer.receive_many, 2 * len(messages) + 2)
    for message in [*messages, *messages]:
        connection.transport.send(message)
    connection.transport.send(bytearray(b"array"))
    connection.transport.send(memoryview(b"view"))
    assert client.get() == [*messages, *messages, b"array", b"view"]


@pytest.mark.parametrize("send_buffer_size", [0, 10 * KIB, None])
def test_one_waits_and_three_send(
    connect: Connect, send_buffer_size: int | None
) -> None:
    connection = connect(buffer_size=SMALL_BUFFER, send_buffer_size=send_buffer_size)
    rng = random.Random(1)
    outgoing = {
        name: [name * rng.choice((1, 100, 2000, 70_000)) for _ in range(30)]
        for name in "abc"
    }

    def send(messages: list[str]) -> None:
        for message in messages:
            connection.transport.send(message)

    receiver = receive_in_greenlet(connection.transport)
    senders = [gevent.spawn(send, messages) for messages in outgoing.values()]
    received = connection.peer.receive_many(90)
    for sender in senders:
        sender.get()
    for name, messages in outgoing.items():
        assert [message for message in received if message[0] == name] == messages
    connection.peer.send("reply")
    assert receiver.get() == "reply"


def test_many_frames_wait(connect: Connect) -> None:
    connection = connect(buffer_size=SMALL_BUFFER, send_buffer_size=None)
    messages = [str(i) for i in range(10_000)]
    for message in messages:
        connection.transport.send(message)
    assert connection.peer.receive_many(len(messages)) == messages
    # The outbox is empty, and used again.
    connection.transport.send("more")
    assert connection.peer.receive() == "more"


def test_short_frames_take_as_much_as_their_bytes(connect: Connect) -> None:
    connection = connect(buffer_size=SMALL_BUFFER, send_buffer_size=None)
    transport = connection.transport
    count = 0
    while not transport.outbox_size:
        transport.send("first")
        count += 1
    messages = ["x" * (i % 3) for i in range(20_000)]
    messages[7000:7000] = ["long" * 100, "longer" * 1000]
    tracemalloc.start()
    try:
        for message in messages:
            transport.send(message)
        assert tracemalloc.get_traced_memory()[0] < 2 * transport.outbox_size
    finally:
        tracemalloc.stop()
    connection.peer.ping(b"meanwhile")
    turn_hub()
    received = connection.peer.receive_many(count + len(messages) + 1)
    received.remove((Opcode.PONG, b"meanwhile"))
    assert received == ["first"] * count + messages


@pytest.mark.parametrize("what", ["message", "close", "pong"])
@on("unix")
def test_socket_is_full_and_nothing_queued(connect: Connect, what: str) -> None:
    connection = connect(buffer_size=SMALL_BUFFER)
    count = 0
    with contextlib.suppress(BlockingIOError):
        while connection.sock.send(b"\x81\x02hi"):
            count += 1
    expected: dict[str, Content] = {
        "message": "last",
        "close": Close(1000, ""),
        "pong": (Opcode.PONG, b"?"),
    }
    if what == "message":
        connection.transport.send("last")
    elif what == "close":
        connection.transport.close()
    else:
        connection.peer.ping(b"?")
        turn_hub()
    assert connection.peer.receive_many(count) == ["hi"] * count
    assert connection.peer.receive() == expected[what]


@pytest.mark.parametrize("before", [0, 1])
@on("unix")
def test_pong_does_not_stand_in_a_long_message(connect: Connect, before: int) -> None:
    connection = connect(buffer_size=SMALL_BUFFER)
    count = 0
    with contextlib.suppress(BlockingIOError):
        while connection.sock.send(b"\x81\x02hi"):
            count += 1
    messages = ["x"] * before + ["y" * 100 * KIB]
    for message in messages:
        connection.transport.send(message)
    connection.peer.ping(b"?")
    turn_hub()
    received = connection.peer.receive_many(count + before + 2)
    received.remove((Opcode.PONG, b"?"))
    assert received == ["hi"] * count + messages


def test_send_waits_above_the_limit(connect: Connect) -> None:
    connection = connect(buffer_size=SMALL_BUFFER, send_buffer_size=100 * KIB)
    sender, sent = fill(connection.transport)
    assert 100 * KIB < len(b"".join(sent)) < 100 * KIB + 8 * SMALL_BUFFER
    count = len(sent)
    # Sent, all of it, even if the sender is interrupted.
    sender.kill()
    assert connection.peer.receive_many(count) == sent


def test_send_resumes(connect: Connect) -> None:
    connection = connect(buffer_size=SMALL_BUFFER, send_buffer_size=100 * KIB)
    sender, sent = fill(connection.transport)
    count = len(sent)
    received = []
    while len(sent) < count * 3:
        received.append(connection.peer.receive())
    sender.kill()
    connection.transport.close()
    received += connection.peer.receive_all()
    assert received == [*sent, Close(1000, "")]


def test_senders_take_turns(connect: Connect) -> None:
    connection = connect(buffer_size=SMALL_BUFFER, send_buffer_size=10 * KIB)
    sender, sent = fill(connection.transport)
    others = [gevent.spawn(connection.transport.send, name) for name in "abc"]
    gevent.sleep(0)
    # The first goes on sending, but not before those who wait.
    received = connection.peer.receive_many(4 * len(sent))
    assert [message for message in received if isinstance(message, str)] == [*"abc"]
    gevent.joinall(others, raise_error=True)
    sender.kill()


def test_interrupted_sender_leaves_the_others(connect: Connect) -> None:
    connection = connect(buffer_size=SMALL_BUFFER, send_buffer_size=0)
    sender, sent = fill(connection.transport)
    others = [gevent.spawn(connection.transport.send, name) for name in "abc"]
    gevent.sleep(0)
    others[1].kill()
    sender.kill()
    assert connection.peer.receive_many(len(sent) + 2) == [*sent, "a", "c"]
    gevent.joinall([others[0], others[2]], raise_error=True)


@pytest.mark.parametrize("message", [None, 1, ["a"], object()])
def test_not_a_message(connect: Connect, message: Any) -> None:
    connection = connect()
    with pytest.raises(TypeError, match="a message is str or bytes-like"):
        connection.transport.send(message)
    connection.transport.send("fine")
    assert connection.peer.receive() == "fine"


def test_lone_surrogate_is_not_sent(connect: Connect) -> None:
    connection = connect()
    with pytest.raises(ValueError, match="surrogates"):
        connection.transport.send("\ud800")
    assert connection.transport.is_open


@on("tcp")
def test_tcp_does_not_hold_small_frames_back(connect: Connect) -> None:
    connection = connect()
    assert connection.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# Pings and pongs


def test_pings_are_answered_while_nobody_receives(connect: Connect) -> None:
    connection = connect()
    connection.peer.ping(b"", b"1", b"x" * 125)
    assert connection.peer.receive_many(3) == [
        (Opcode.PONG, b""),
        (Opcode.PONG, b"1"),
        (Opcode.PONG, b"x" * 125),
    ]
    assert connection.transport.count_messages() == 0


def test_ping_flood_by_a_peer_that_does_not_read(connect: Connect) -> None:
    connection = connect(buffer_size=SMALL_BUFFER)
    pings = [struct.pack("!I", i) * 30 for i in range(10_000)]
    # Written completely: the server reads on.
    for start in range(0, len(pings), 100):
        connection.peer.ping(*pings[start : start + 100])
    connection.peer.send("read")
    assert connection.transport.receive() == "read"
    pongs = []
    while not pongs or pongs[-1][1] != pings[-1]:
        pongs.append(connection.peer.receive())
    # What the kernel holds and one reading's answers; the rest was forgotten.
    assert len(pongs) * 122 < 64 * KIB + 8 * SMALL_BUFFER
    assert [payload for _, payload in pongs] == sorted(p for _, p in pongs)
    connection.transport.send("fine")
    assert connection.peer.receive() == "fine"


def test_pong_stands_before_queued_messages(connect: Connect) -> None:
    connection = connect(buffer_size=SMALL_BUFFER, send_buffer_size=None)
    for _ in range(300):
        connection.transport.send(b"x" * KIB)
    connection.peer.ping(b"1", b"2")
    connection.peer.send("read")
    connection.transport.receive()
    connection.transport.close()
    received = connection.peer.receive_all()
    assert received.count(b"x" * KIB) == 300
    assert received[-1] == Close(1000, "")
    assert [r for r in received if isinstance(r, tuple)] == [(Opcode.PONG, b"2")]
    assert received[-2] == b"x" * KIB


def test_latency(connect: Connect) -> None:
    connection = connect()
    transport = connection.transport
    assert transport.latency is None
    transport.ping(b"payload")
    assert connection.peer.receive() == (Opcode.PING, b"payload")
    assert transport.latency is None
    connection.peer.flush()
    wait_until(lambda: transport.latency is not None)
    assert 0 <= transport.latency < TIMEOUT


def test_latency_is_of_the_first_of_equal_pings(connect: Connect) -> None:
    connection = connect()
    transport = connection.transport
    transport.ping(bytearray())
    compute(SHORT)
    transport.ping()
    connection.peer.receive_many(2)
    pong = encode_frame(Opcode.PONG, b"")
    connection.peer.write(pong)
    wait_until(lambda: transport.latency is not None)
    assert transport.latency >= SHORT
    transport.latency = None
    connection.peer.write(pong + encode("read"))
    transport.receive()
    assert transport.latency is None


def test_latency_takes_no_other_pong(connect: Connect) -> None:
    connection = connect()
    transport = connection.transport
    pong = encode_frame(Opcode.PONG, b"other")
    connection.peer.write(pong + encode("read"))
    transport.receive()
    transport.ping(b"payload")
    connection.peer.write(pong + encode("read"))
    transport.receive()
    assert transport.latency is None
    connection.peer.receive()
    connection.peer.flush()
    wait_until(lambda: transport.latency is not None)


@pytest.mark.parametrize(
    ("payload", "error"),
    [("text", TypeError), (None, TypeError), (b"x" * 126, ValueError)],
)
def test_not_a_ping(connect: Connect, payload: Any, error: type[Exception]) -> None:
    connection = connect()
    with pytest.raises(error):
        connection.transport.ping(payload)
    connection.transport.send("fine")
    assert connection.peer.receive() == "fine"


# Signs of life


def test_heartbeat(connect: Connect) -> None:
    connection = connect()
    transport = connection.transport
    transport.send_heartbeat()
    assert connection.peer.receive() == (Opcode.PING, b"")
    connection.peer.flush()
    wait_until(lambda: transport.latency is not None)
    transport.close()
    transport.send_heartbeat()
    assert connection.peer.receive_all() == [Close(1000, "")]


@pytest.mark.parametrize("is_talking", [True, False])
def test_silence(connect: Connect, is_talking: bool) -> None:
    connection = connect(ping_interval=SHORT * 4, ping_timeout=SHORT * 4)
    clock = connection.transport._heartbeat
    assert connection.transport.silence == 0
    if is_talking:
        for _ in range(4):
            assert connection.peer.receive() == (Opcode.PING, b"")
            connection.peer.flush()
        assert connection.transport.is_open
        assert connection.transport.silence <= clock.clock
    else:
        connection.wait_for_end()
        assert connection.transport.silence > SHORT * 4
        assert_closed(connection, 1006)


def test_full_inbox_is_no_silence_of_the_peer(connect: Connect) -> None:
    connection = connect(max_queue=2)
    transport = connection.transport
    connection.peer.send("1", "2")
    wait_until(lambda: transport.count_messages() == 2)
    transport.on_silence()
    assert transport.is_open
    assert [transport.receive(), transport.receive()] == ["1", "2"]
    transport.on_silence()
    assert_closed(connection, 1006)


# Before a greenlet waits


def spawn_with_release(release: Callable[[], object], run: Any) -> gevent.Greenlet:
    greenlet = gevent.Greenlet(run)
    greenlet.before_wait = release
    greenlet.start()
    return greenlet


def test_release_before_receive_waits(connect: Connect) -> None:
    connection = connect()
    transport = connection.transport
    calls: list[str] = []

    def receive() -> list[Any]:
        return [transport.receive() for _ in range(3)]

    receiver = spawn_with_release(lambda: calls.append("release"), receive)
    turn_hub()
    connection.peer.send("1", "2")
    connection.peer.send("3")
    assert receiver.get() == ["1", "2", "3"]
    assert 1 <= len(calls) <= 2


@pytest.mark.parametrize("end", [False, True])
def test_release_before_receive_takes_its_time(connect: Connect, end: bool) -> None:
    connection = connect()
    transport = connection.transport

    def release() -> None:
        if end:
            connection.peer.end()
            wait_until(lambda: not transport.is_open)
        else:
            connection.peer.send("meanwhile")
            wait_until(lambda: transport.count_messages())

    receiver = spawn_with_release(release, transport.receive)
    assert receiver.get() == (None if end else "meanwhile")


def test_release_before_send_waits(connect: Connect) -> None:
    connection = connect(buffer_size=SMALL_BUFFER, send_buffer_size=0)
    calls: list[int] = []

    def send() -> None:
        connection.transport.send("short")
        assert calls == []
        connection.transport.send(b"x" * MIB)

    sender = spawn_with_release(
        lambda: calls.append(connection.transport.outbox_size), send
    )
    assert connection.peer.receive_many(2) == ["short", b"x" * MIB]
    sender.get()
    (outbox_size,) = calls
    assert 0 < outbox_size <= MIB + 10
    assert connection.transport.outbox_size == 0


# Statistics


def test_traffic_is_counted(connect: Connect) -> None:
    connection = connect(received=encode("early"))
    transport = connection.transport
    connection.peer.send("a")
    connection.peer.ping(b"?")
    assert connection.peer.receive() == (Opcode.PONG, b"?")
    transport.send("abc")
    with pytest.raises(TypeError):
        transport.send(None)  # type: ignore[arg-type]
    transport.ping()
    transport.close()
    assert (transport.messages_in, transport.messages_out) == (2, 1)
    assert transport.bytes_in == len(encode("early", "a")) + 7
    assert transport.bytes_out == 3 + 5 + 2 + 4


# Closing handshake


CODES = [(1000, ""), (1001, "going"), (3000, "ü" * 61), (4999, ""), (None, "")]


def assert_closed(connection: Connection, code: int, reason: str = "") -> None:
    """Check what is left of a connection that has ended."""
    transport = connection.transport
    connection.wait_for_end()
    assert (transport.protocol.close_code, transport.protocol.close_reason) == (
        code,
        reason,
    )
    assert transport.receive() is None
    assert transport.receive(0) is None
    for send in (transport.send, transport.ping):
        with pytest.raises(ConnectionClosed) as caught:
            send(b"late")
        assert (caught.value.code, caught.value.reason) == (code, reason)
    # wait() may have returned None, and that is no mistake of the view's.
    with pytest.raises(ConnectionClosed):
        transport.send(None)  # type: ignore[arg-type]
    transport.close(1001, "again")
    transport.abort()
    transport.drop_inbox()
    turn_hub()
    assert connection.ends == 1
    assert transport.protocol.close_code == code


@pytest.mark.parametrize(("code", "reason"), CODES)
def test_close_by_the_server(connect: Connect, code: int | None, reason: str) -> None:
    connection = connect()
    receiver = receive_in_greenlet(connection.transport)
    connection.transport.close(code, reason)
    assert not connection.transport.is_open
    assert receiver.get() is None
    assert connection.peer.receive() == Close(code or 1005, reason)
    turn_hub()
    assert connection.ends == 0
    # Messages that were on their way are dropped.
    connection.peer.send("late")
    connection.peer.flush()
    assert connection.peer.receive() is None
    assert_closed(connection, code or 1005, reason)


@pytest.mark.parametrize(("code", "reason"), CODES)
def test_close_by_the_peer(connect: Connect, code: int | None, reason: str) -> None:
    connection = connect()
    receiver = receive_in_greenlet(connection.transport)
    connection.peer.close(code, reason)
    assert receiver.get() is None
    assert connection.peer.receive_all() == [Close(code or 1005, "")]
    assert_closed(connection, code or 1005, reason)


def test_close_by_both(connect: Connect) -> None:
    connection = connect()
    connection.peer.close(3000)
    connection.transport.close(4000)
    assert connection.peer.receive_all() == [Close(4000, "")]
    assert_closed(connection, 4000)


@pytest.mark.parametrize(
    ("code", "reason"),
    [(1005, ""), (999, ""), (5000, ""), (1000, "x" * 124), (None, "x")],
)
def test_not_a_close(connect: Connect, code: int | None, reason: str) -> None:
    connection = connect()
    with pytest.raises(ValueError):
        connection.transport.close(code, reason)
    connection.transport.send("fine")
    assert connection.peer.receive() == "fine"


def test_close_behind_queued_messages(connect: Connect) -> None:
    connection = connect(buffer_size=SMALL_BUFFER, send_buffer_size=None)
    messages = [bytes([i]) * 10 * KIB for i in range(100)]
    for message in messages:
        connection.transport.send(message)
    connection.transport.close(1001)
    with pytest.raises(ConnectionClosed):
        connection.transport.send("late")
    assert connection.peer.receive_all() == [*messages, Close(1001, "")]
    assert_closed(connection, 1001)


def test_close_by_the_peer_behind_queued_messages(connect: Connect) -> None:
    connection = connect(buffer_size=SMALL_BUFFER, send_buffer_size=None)
    messages = [bytes([i]) * 10 * KIB for i in range(100)]
    for message in messages:
        connection.transport.send(message)
    connection.peer.ping(b"before")
    connection.peer.close(3000)
    received = connection.peer.receive_all()
    assert received.pop() == Close(3000, "")
    received.remove((Opcode.PONG, b"before"))
    assert received == messages
    assert_closed(connection, 3000)


def test_suspended_sender_and_close(connect: Connect) -> None:
    connection = connect(buffer_size=SMALL_BUFFER, send_buffer_size=100 * KIB)
    sender, sent = fill(connection.transport)
    second = gevent.spawn(connection.transport.send, "second")
    gevent.sleep(0)
    connection.transport.close(3000, "full")
    # What the first was sending is queued already.
    queued = sent.copy()
    assert connection.peer.receive_many(len(queued)) == queued
    assert connection.peer.receive() == Close(3000, "full")
    for suspended in (sender, second):
        with pytest.raises(ConnectionClosed, match="3000 full"):
            suspended.get()


def test_messages_before_a_close_can_be_received(connect: Connect) -> None:
    connection = connect()
    close = encode_frame(Opcode.CLOSE, b"\x03\xe8")
    connection.peer.write(encode("a", "b") + close)
    connection.wait_for_end()
    assert connection.transport.count_messages() == 2
    assert connection.transport.receive() == "a"
    assert connection.transport.receive(0) == "b"
    assert_closed(connection, 1000)


# Close timeout


def test_peer_that_does_not_answer(connect: Connect) -> None:
    connection = connect(close_timeout=SHORT)
    connection.transport.close(3000)
    assert connection.peer.receive() == Close(3000, "")
    assert connection.peer.receive() is None
    assert_closed(connection, 3000)


def test_peer_that_does_not_read(connect: Connect) -> None:
    connection = connect(
        buffer_size=SMALL_BUFFER, send_buffer_size=0, close_timeout=SHORT
    )
    sender, _ = fill(connection.transport)
    connection.transport.close()
    with pytest.raises(ConnectionClosed, match="1000"):
        sender.get()
    assert_closed(connection, 1000)


def test_without_close_timeout(connect: Connect) -> None:
    connection = connect(close_timeout=None)
    connection.transport.close()
    turn_hub()
    assert connection.ends == 0
    assert connection.peer.receive_all() == [Close(1000, "")]
    assert_closed(connection, 1000)


def test_close_timeout_counts_from_the_call(connect: Connect) -> None:
    connection = connect(close_timeout=SHORT * 2)
    connection.peer.send("a")
    connection.transport.receive()
    compute(SHORT * 3)
    start = time.monotonic()
    connection.transport.close()
    connection.wait_for_end()
    assert time.monotonic() - start > SHORT


@on("tcp")
def test_close_timeout_waits_for_a_slow_peer(connect: Connect) -> None:
    connection = connect(
        buffer_size=SMALL_BUFFER, send_buffer_size=None, close_timeout=SHORT * 4
    )
    messages = [bytes([i]) * 10 * KIB for i in range(100)]
    for message in messages:
        connection.transport.send(message)
    connection.transport.close(3000)
    received = []
    while len(received) < 80:
        received += connection.peer.receive_many(10)
        gevent.sleep(SHORT)
    received += connection.peer.receive_all()
    assert received == [*messages, Close(3000, "")]
    connection.wait_for_end()
    assert connection.transport.protocol.close_received


# Faults of the peer


@pytest.mark.parametrize(("data", "code"), FAULTS.values(), ids=FAULTS)
def test_fault_of_the_peer(connect: Connect, data: bytes, code: int) -> None:
    connection = connect()
    connection.peer.write(encode("before") + data + encode("after"))
    close = connection.peer.receive()
    assert isinstance(close, Close) and close.code == code and close.reason
    assert connection.peer.receive() is None
    # The stream's other half is read to its end.
    turn_hub()
    assert connection.ends == 0
    assert not connection.transport.is_open
    connection.peer.end()
    connection.wait_for_end()
    assert connection.transport.receive() == "before"
    assert_closed(connection, code, close.reason)


@on("tcp", "tls")
def test_fault_of_a_peer_that_sends_a_lot(connect: Connect) -> None:
    connection = connect(buffer_size=SMALL_BUFFER)
    # A reset by the server would raise ConnectionResetError here.
    connection.peer.write(UNMASKED)
    client = gevent.spawn(connection.peer.write, b"\0" * 4 * MIB)
    client.get()
    assert isinstance(connection.peer.receive(), Close)
    assert connection.peer.receive() is None
    assert connection.ends == 0
    connection.peer.end()
    connection.wait_for_end()


def test_fault_of_a_peer_that_stays(connect: Connect) -> None:
    connection = connect(close_timeout=SHORT)
    connection.peer.write(UNMASKED)
    connection.wait_for_end()
    assert isinstance(connection.peer.receive(), Close)
    assert connection.peer.receive() is None


def test_fault_behind_queued_messages(connect: Connect) -> None:
    connection = connect(buffer_size=SMALL_BUFFER, send_buffer_size=None)
    messages = [bytes([i]) * 10 * KIB for i in range(100)]
    for message in messages:
        connection.transport.send(message)
    connection.peer.write(UNMASKED)
    wait_until(lambda: not connection.transport.is_open)
    assert connection.peer.receive_many(100) == messages
    close = connection.peer.receive()
    assert isinstance(close, Close) and close.code == 1002
    assert connection.peer.receive() is None
    connection.peer.end()
    assert_closed(connection, 1002, close.reason)


def test_fault_after_the_close_frame(connect: Connect) -> None:
    connection = connect()
    connection.transport.close(3000)
    connection.peer.write(UNMASKED)
    assert connection.peer.receive() == Close(3000, "")
    assert connection.peer.receive() is None
    connection.peer.end()
    assert_closed(connection, 3000)


def test_fault_wakes_all_who_wait(connect: Connect) -> None:
    connection = connect()
    receivers = [receive_in_greenlet(connection.transport) for _ in range(3)]
    connection.peer.write(encode("message") + UNMASKED)
    gevent.joinall(receivers)
    assert [receiver.value for receiver in receivers] == ["message", None, None]
    assert connection.ends == 0


# The connection is lost

TLS_GARBAGE = b"this isn't TLS"


@pytest.mark.parametrize(
    ("connect", "how"),
    [
        ("unix", "end"),
        ("tcp", "end"),
        ("tls", "end"),
        ("tcp", "reset"),
        ("tls", "reset"),
        ("tls", "garbage"),
        ("unix", "abort"),
        ("tcp", "abort"),
        ("tls", "abort"),
    ],
    indirect=["connect"],
)
@pytest.mark.parametrize("is_received", [True, False])
def test_lost(connect: Connect, how: str, is_received: bool) -> None:
    connection = connect()
    transport = connection.transport
    connection.peer.send("a", "b")
    wait_until(lambda: transport.count_messages() == 2)
    receivers = []
    if is_received:
        transport.drop_inbox()
        receivers = [receive_in_greenlet(transport) for _ in range(2)]
    lose(connection, how)
    connection.wait_for_end()
    if is_received:
        gevent.joinall(receivers)
        assert [receiver.value for receiver in receivers] == [None, None]
    else:
        assert [transport.receive(), transport.receive()] == ["a", "b"]
    assert_closed(connection, 1006)


def lose(connection: Connection, how: str) -> None:
    if how == "garbage":
        connection.peer.sock._sock.send(TLS_GARBAGE)
    elif how == "abort":
        connection.transport.abort()
    else:
        getattr(connection.peer, how)()


def test_send_nowait(connect: Connect) -> None:
    connection = connect(buffer_size=SMALL_BUFFER, send_buffer_size=100 * KIB)
    transport = connection.transport
    before = registry.stats()["slow_consumers"]
    sent = []
    with pytest.raises(ConnectionClosed) as caught:
        while True:
            transport.send_nowait(message := f"{len(sent)} ".ljust(10 * KIB))
            sent.append(message)
    assert (caught.value.code, caught.value.reason) == (1013, "too slow")
    assert len(sent) > 10 and registry.stats()["slow_consumers"] == before + 1
    # What had been taken comes still.
    assert connection.peer.receive_many(len(sent)) == sent
    assert connection.peer.receive() == Close(1013, "too slow")
    with pytest.raises(ConnectionClosed):
        transport.send_nowait("more")
    assert registry.stats()["slow_consumers"] == before + 1


@pytest.mark.parametrize("how", ["end", "reset", "abort"])
@on("tcp", "tls")
def test_lost_while_senders_wait(connect: Connect, how: str) -> None:
    connection = connect(buffer_size=SMALL_BUFFER, send_buffer_size=100 * KIB)
    sender, _ = fill(connection.transport)
    second = gevent.spawn(connection.transport.send, "second")
    gevent.sleep(0)
    lose(connection, how)
    for suspended in (sender, second):
        with pytest.raises(ConnectionClosed, match="1006"):
            suspended.get()
    assert_closed(connection, 1006)


@on("tcp", "tls")
def test_reset_loses_no_message_that_came_before(connect: Connect) -> None:
    connection = connect(max_queue=1, buffer_size=256 * KIB, send_buffer_size=0)
    transport = connection.transport
    sender = gevent.spawn(transport.send, b"x" * 4 * MIB)
    messages = [bytes([i]) * 20 * KIB for i in range(10)]
    connection.peer.send(*messages)
    settle(lambda: transport.count_messages())
    assert transport.count_messages() < len(messages)
    connection.peer.reset()
    with pytest.raises(ConnectionClosed, match="1006"):
        sender.get()
    assert [transport.receive() for _ in messages] == messages
    assert_closed(connection, 1006)


@on("tcp")
def test_send_notices_the_loss_before_the_reader(connect: Connect) -> None:
    connection = connect()
    connection.peer.send("before")
    reset_unnoticed(connection)
    with pytest.raises(ConnectionClosed, match="1006") as caught:
        connection.transport.send("late")
    assert isinstance(caught.value.__cause__, OSError)
    assert connection.transport.receive() == "before"
    assert_closed(connection, 1006)


def reset_unnoticed(connection: Connection) -> None:
    """Wait for the reset without letting the hub run."""
    connection.peer.reset()
    poll = select.poll()
    poll.register(connection.fd, 0)
    assert poll.poll(TIMEOUT * 1000)


@pytest.mark.parametrize("owns_socket", [True, False])
@on("tcp")
def test_close_notices_the_loss_before_the_reader(
    connect: Connect, owns_socket: bool
) -> None:
    connection = connect(owns_socket=owns_socket)
    reset_unnoticed(connection)
    connection.transport.close(3000)
    assert_closed(connection, 3000)


@on("tcp")
def test_fault_and_reset_at_once(connect: Connect) -> None:
    connection = connect()
    connection.peer.write(UNMASKED)
    reset_unnoticed(connection)
    connection.wait_for_end()
    assert connection.transport.protocol.close_code == 1002


@pytest.mark.parametrize("state", ["closing", "closed", "failed"])
@on("tcp")
def test_reset_while_the_close_frame_is_queued(connect: Connect, state: str) -> None:
    connection = connect(buffer_size=SMALL_BUFFER, send_buffer_size=None)
    for _ in range(100):
        connection.transport.send(b"x" * 10 * KIB)
    if state == "closing":
        connection.transport.close(3000)
    elif state == "closed":
        connection.peer.close(3000)
    else:
        connection.peer.write(UNMASKED)
    wait_until(lambda: not connection.transport.is_open)
    connection.peer.reset()
    connection.wait_for_end()
    code = connection.transport.protocol.close_code
    assert code == (1002 if state == "failed" else 3000)


# The socket


@pytest.mark.parametrize("owns_socket", [True, False])
def test_owns_socket(connect: Connect, owns_socket: bool) -> None:
    connection = connect(owns_socket=owns_socket)
    connection.transport.close()
    # Its end is seen by the peer, though the socket may be open.
    assert connection.peer.receive_all() == [Close(1000, "")]
    connection.wait_for_end()
    assert (connection.sock.fileno() == -1) is owns_socket


def test_spurious_wake_ups(connect: Connect) -> None:
    connection = connect(buffer_size=SMALL_BUFFER, send_buffer_size=0)
    sender, sent = fill(connection.transport)
    sender.kill()
    connection.transport._on_readable()
    connection.transport._on_writable()
    assert connection.peer.receive_many(len(sent)) == sent


# Internal errors


@pytest.mark.parametrize(
    ("name", "received"),
    [("_on_received", b""), ("_on_received", b"\x81\x80mask"), ("_flush", b"")],
)
def test_internal_error(
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
    received: bytes,
) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("a bug")

    failing = type("Failing", (Transport,), {name: fail})
    monkeypatch.setattr(sys.modules[__name__], "Transport", failing)
    connection = connect(
        received=received, buffer_size=SMALL_BUFFER, send_buffer_size=None
    )
    receiver = receive_in_greenlet(connection.transport)
    if name == "_flush":
        connection.transport.send(b"x" * MIB)
        with contextlib.suppress(OSError):
            while connection.peer.receive() is not None:
                pass
    elif not received:
        connection.peer.send("message")
    assert receiver.get() is None
    assert_closed(connection, 1006)
    (record,) = (r for r in caplog.records if r.levelno >= logging.ERROR)
    assert record.name == "dwebsocket"
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "a bug"


# TLS


@on("tls")
def test_decrypted_data_at_the_start(connect: Connect) -> None:
    connection = connect(received=None)
    connection.peer.send("a", "b")
    # One record: the descriptor has no more of it.
    received = connection.sock.recv(3)
    assert connection.sock.pending()
    connection.transport.start(received)
    assert connection.transport.receive() == "a"
    assert connection.transport.receive() == "b"


def test_busy_connection_leaves_the_hub_to_others(connect: Connect) -> None:
    connection = connect()
    turns = 0

    def count() -> None:
        nonlocal turns
        while True:
            gevent.sleep(0.000001)
            turns += 1

    counter = gevent.spawn(count)
    gevent.sleep(0)
    connection.peer.send("message")
    for _ in range(100):
        # There is something to read each time the transport looks.
        connection.transport.receive()
        connection.peer.send("message")
    counter.kill()
    assert turns > 10


# Compressed messages


def agree(**options: Any) -> Deflate:
    agreed = negotiate([("permessage-deflate", [])], Options(**options))
    assert agreed is not None
    return agreed[1]


def make_bombs(count: int, size: int) -> tuple[list[bytes], bytes]:
    """Return different messages of ``size`` bytes, and their frames of a few."""
    stream = zlib.compressobj(9, wbits=-15)
    zeros = bytes(size - 4)
    compressed = stream.compress(zeros) + stream.flush(zlib.Z_SYNC_FLUSH)
    numbers = [struct.pack("!I", i) for i in range(count)]
    # In front, a block that isn't compressed.
    payloads = [
        b"\x00\x04\x00\xfb\xff" + number + compressed[:-4] for number in numbers
    ]
    frames = [encode_frame(Opcode.BINARY, payload, rsv=4) for payload in payloads]
    return [number + zeros for number in numbers], b"".join(frames)


@contextlib.contextmanager
def takes_no_more_than(size: int) -> Iterator[None]:
    """Check that at no time more memory is taken."""
    gc.collect()
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < size
    finally:
        tracemalloc.stop()


#: Bytes of a message, and the limit.
BOMB = 256 * KIB


@pytest.mark.parametrize("is_early", [False, True], ids=["", "early"])
def test_bombs_are_inflated_as_there_is_room(connect: Connect, is_early: bool) -> None:
    messages, stream = make_bombs(60, BOMB)
    assert len(stream) <= 64 * KIB  # one read
    stream += encode_frame(Opcode.PING, b"?") + encode_frame(Opcode.CLOSE, b"\x0b\xb8")
    early = stream if is_early else b""
    with takes_no_more_than(4 * BOMB):
        connection = connect(received=early, deflate=agree(), max_message_size=BOMB)
        transport = connection.transport
        connection.peer.write(stream[len(early) :])
        for i, message in enumerate(messages):
            if i % 10 == 0:
                settle(lambda: transport.count_messages())
                assert transport.count_messages() == 1
                assert transport.is_open
            assert transport.receive() == message
    assert transport.receive() is None
    answers = [(Opcode.PONG, b"?"), Close(3000, ""), None]
    assert connection.peer.receive_many(3) == answers
    assert_closed(connection, 3000)


def test_bombs_that_nobody_receives(connect: Connect) -> None:
    # A bit less than the limit: the first is no reason to stop.
    _, stream = make_bombs(60, BOMB - 1)
    with takes_no_more_than(4 * BOMB):
        connection = connect(deflate=agree(), max_message_size=BOMB)
        connection.peer.write(stream)
        settle(lambda: connection.transport.count_messages())
        assert connection.transport.count_messages() == 2
    with takes_no_more_than(BOMB):
        connection.transport.close()
        connection.peer.close()
        connection.wait_for_end()
    assert connection.peer.receive_all() == [Close(1000, "")]


def test_bombs_for_those_who_wait(connect: Connect) -> None:
    messages, stream = make_bombs(1000, 4 * KIB)
    connection = connect(deflate=agree(), max_message_size=4 * KIB)
    received: list[Any] = []

    def receive() -> None:
        while (message := connection.transport.receive()) is not None:
            received.append(message)
            assert connection.transport.count_messages() == 0

    receivers = [gevent.spawn(receive) for _ in range(3)]
    gevent.sleep(0)
    # The last comes alone.
    connection.peer.write(stream[:-10])
    wait_until(lambda: len(received) == 999)
    connection.peer.write(stream[-10:])
    wait_until(lambda: len(received) == 1000)
    assert received == messages
    connection.peer.close()
    gevent.joinall(receivers, raise_error=True)


def test_bombs_do_not_come_in_faster_than_they_are_received(connect: Connect) -> None:
    messages, stream = make_bombs(20_000, 4 * KIB)
    connection = connect(
        deflate=agree(), max_message_size=4 * KIB, buffer_size=SMALL_BUFFER
    )
    client = gevent.spawn(connection.peer.write, stream)
    with takes_no_more_than(400 * KIB):
        for message in messages[:100]:
            turn_hub()
            assert connection.transport.count_messages() <= 2
            assert connection.transport.receive() == message
    assert not client.dead
    client.kill()


@on("unix", "tls")
def test_bombs_are_dropped_when_nobody_will_receive(connect: Connect) -> None:
    _, stream = make_bombs(60, BOMB)
    connection = connect(deflate=agree(), max_message_size=BOMB)
    connection.peer.write(stream + encode_frame(Opcode.PING, b"?"))
    pong = gevent.spawn(connection.peer.receive)
    with takes_no_more_than(4 * BOMB):
        while not pong.dead:
            connection.transport.drop_inbox()
            gevent.sleep(0)
    assert pong.get() == (Opcode.PONG, b"?")


@on("unix", "tls")
def test_lost_behind_bombs(connect: Connect) -> None:
    messages, stream = make_bombs(60, BOMB)
    connection = connect(deflate=agree(), max_message_size=BOMB)
    connection.peer.write(stream)
    connection.peer.end()
    settle(lambda: connection.transport.count_messages())
    assert connection.transport.is_open
    assert [connection.transport.receive() for _ in messages] == messages
    assert_closed(connection, 1006)


def test_bomb_that_is_too_big(connect: Connect) -> None:
    _, stream = make_bombs(1, 50 * BOMB)
    with takes_no_more_than(3 * BOMB):
        connection = connect(deflate=agree(), max_message_size=BOMB)
        connection.peer.write(stream)
        (close,) = connection.peer.receive_all()
    assert isinstance(close, Close) and close.code == 1009
    connection.peer.end()
    assert_closed(connection, 1009, close.reason)


def test_senders_take_turns_in_one_context(connect: Connect) -> None:
    """Compressed in the order in which they are sent, whoever waits."""
    deflate = agree(server_context_takeover=True)
    connection = connect(
        deflate=deflate, send_buffer_size=8 * KIB, buffer_size=SMALL_BUFFER
    )
    connection.peer.protocol.extensions = [PerMessageDeflate(False, True, 15, 15)]
    blob = random.Random(1).randbytes(8 * KIB)

    def send(sender: int) -> None:
        for i in range(200):
            # Each refers to those before it, and half of it is new.
            start = (i * 1009 + sender * 17) % len(blob)
            connection.transport.send(bytes((sender,)) + blob[start:] + os.urandom(KIB))

    senders = [gevent.spawn(send, sender) for sender in range(3)]
    settle(lambda: connection.transport.outbox_size)
    assert not any(sender.dead for sender in senders)
    received = connection.peer.receive_many(3 * 200)
    gevent.joinall(senders, raise_error=True)
    for sender in range(3):
        own = [message for message in received if message[0] == sender]  # type: ignore[index]
        assert (
            [message[1:-KIB] for message in own]
            == [  # type: ignore[index]
                blob[(i * 1009 + sender * 17) % len(blob) :] for i in range(200)
            ]
        )


# Leaks

COUNT, AT_ONCE = 500, 100


def _close_by_the_server(connection: Connection) -> None:
    connection.transport.close()
    connection.peer.receive_all()


def _close_by_the_peer(connection: Connection) -> None:
    connection.peer.close(1000)
    connection.peer.receive_all()


def _close_timeout(connection: Connection) -> None:
    connection.transport.close()


def _fault(connection: Connection) -> None:
    connection.peer.write(UNMASKED)
    connection.peer.receive_all()
    connection.peer.end()


def _abort(connection: Connection) -> None:
    connection.transport.abort()


def _end(connection: Connection) -> None:
    connection.peer.end()


def _reset(connection: Connection) -> None:
    connection.peer.reset()


def _end_with_suspended_sender(connection: Connection) -> None:
    connection.transport.ping(b"unanswered")
    with gevent.Timeout(0, False):
        connection.transport.send(b"x" * 8 * SMALL_BUFFER)

    def send() -> None:
        with contextlib.suppress(ConnectionClosed):
            connection.transport.send("suspended")
            pytest.fail("the connection was lost")

    sender = gevent.spawn(send)
    gevent.sleep(0)
    connection.peer.end()
    sender.get()


def test_nothing_is_left_of_waiting(connect: Connect) -> None:
    connection = connect()
    transport = connection.transport

    def wait() -> None:
        assert transport.receive(0) is None
        with gevent.Timeout(0, False):
            transport.receive(TIMEOUT)
        connection.peer.send("message")
        assert transport.receive(TIMEOUT) == "message"

    wait()  # what is made once and kept
    with leaves_nothing():
        for _ in range(100):
            wait()


@pytest.mark.parametrize(
    ("kind", "end"),
    [
        ("unix", _close_by_the_server),
        ("unix", _close_by_the_peer),
        ("unix", _close_timeout),
        ("unix", _fault),
        ("unix", _abort),
        ("unix", _end),
        ("tcp", _reset),
        ("unix", _end_with_suspended_sender),
        ("tls", _close_by_the_peer),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__[1:],
)
def test_nothing_is_left(
    tls_contexts: tuple[Any, Any], kind: str, end: Callable[[Connection], None]
) -> None:
    def converse() -> None:
        sock, peer = open_pair(kind, tls_contexts, SMALL_BUFFER)
        connection = Connection(
            sock,
            Peer(peer),
            close_timeout=0 if end is _close_timeout else TIMEOUT,
            send_buffer_size=0,
        )
        with contextlib.closing(connection):
            connection.transport.start(encode("early"))
            waiting = receive_in_greenlet(connection.transport)
            timed_out = gevent.spawn(connection.transport.receive, 0)
            connection.peer.send("message", "unread")
            assert waiting.get() == "early"
            timed_out.join()
            end(connection)
            connection.wait_for_end()

    def converse_at_once(count: int) -> None:
        for greenlet in [gevent.spawn(converse) for _ in range(count)]:
            greenlet.get()
        turn_hub()

    converse_at_once(2)  # what is made once and kept
    with leaves_nothing():
        for _ in range(COUNT // AT_ONCE):
            converse_at_once(AT_ONCE)


@contextlib.contextmanager
def leaves_nothing() -> Iterator[None]:
    """Check that no objects are left, none of them waiting for the collector."""
    gc.collect()
    gc.disable()
    try:
        before = count_leftovers()
        yield
        after = count_leftovers()
    finally:
        gc.enable()
    # Those of tests before this one may go meanwhile.
    assert {name: after[name] for name in after if after[name] > before[name]} == {}


def count_leftovers() -> dict[str, int]:
    """Count the objects of connections, and open file descriptors."""
    loop = gevent.get_hub().loop
    with (
        contextlib.closing(loop.io(0, 1)) as io,
        contextlib.closing(loop.timer(0)) as t,
    ):
        types = (Transport, Protocol, Connection, Peer, Waiter, type(io), type(t))
    del io, t
    counts = {kind.__qualname__: 0 for kind in types}
    for thing in gc.get_objects():
        if type(thing) in types:
            counts[type(thing).__qualname__] += 1
    counts["descriptors"] = len(os.listdir("/dev/fd"))
    return counts
