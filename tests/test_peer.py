"""The client's end of a connection, against bytes of a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent import socket

from dwebsocket.exceptions import ConnectionClosed
from dwebsocket.frames import encode_close, encode_frame, parse_header, unmask
from dwebsocket.peer import Peer

from .servers import TIMEOUT


class Server:
    """The other end, and the peer."""

    def __init__(self) -> None:
        self.sock, client = socket.socketpair()
        self.sock.settimeout(TIMEOUT)
        self.changes = 0
        self.peer = Peer(client, self._on_change)

    def _on_change(self) -> None:
        self.changes += 1

    def receive(self) -> tuple[int, bytes]:
        """Return opcode and payload of a frame, which a server's parser takes."""
        data = self.sock.recv(1000)
        header = parse_header(data, 0)
        assert header is not None
        _, opcode, length, _, start = header
        assert len(data) == start + length
        return opcode, unmask(data, start - 4, length)

    def wait_for(self, condition: Callable[[], object]) -> None:
        with gevent.Timeout(TIMEOUT):
            while not condition():
                gevent.sleep(0.001)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    with server.sock:
        yield server
        server.peer.abort()
        gevent.idle()


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 200_000])
def test_messages_of_any_length(server: Server, size: int) -> None:
    data = encode_frame(2, bytes(size)) + encode_frame(1, b"x" * size)
    for start in range(0, len(data), 50_001):
        server.sock.sendall(data[start : start + 50_001])
        gevent.idle()
    server.wait_for(lambda: len(server.peer.messages) == 2)
    assert server.peer.take() == bytes(size)
    assert server.peer.take() == "x" * size
    assert server.changes == 2


def test_sending(server: Server) -> None:
    for message in ("", "Grüße", "x" * 500):
        server.peer.send(message)
        assert server.receive() == (1, message.encode())
    for data in (b"\x00", bytearray(b"ab"), memoryview(b"abc")):
        server.peer.send(data)
        assert server.receive() == (2, bytes(data))
    server.peer.ping(b"payload")
    assert server.receive() == (9, b"payload")


def test_pings_are_answered_and_pongs_kept(server: Server) -> None:
    server.sock.sendall(encode_frame(9, b"who") + encode_frame(10, b"you"))
    assert server.receive() == (10, b"who")
    assert server.peer.pongs == [b"you"]


def test_the_server_closes(server: Server) -> None:
    server.sock.sendall(encode_frame(8, encode_close(4000, "bye")))
    assert server.receive() == (8, (4000).to_bytes(2, "big"))
    assert (server.peer.close_code, server.peer.close_reason) == (4000, "bye")
    with pytest.raises(ConnectionClosed, match="4000 bye"):
        server.peer.send("too late")
    assert not server.peer.is_over
    server.sock.close()
    server.wait_for(lambda: server.peer.is_over)
    assert server.peer.close_code == 4000


def test_the_client_closes(server: Server) -> None:
    payload = encode_close(4001, "done")
    server.peer.close(payload)
    server.peer.close(encode_close(4002))
    assert server.receive() == (8, payload)
    server.sock.sendall(encode_frame(1, b"last") + encode_frame(8, payload[:2]))
    server.sock.close()
    server.wait_for(lambda: server.peer.is_over)
    assert (server.peer.close_code, server.peer.close_reason) == (4001, "done")
    assert server.peer.take() == "last"


def test_a_connection_that_is_lost(server: Server) -> None:
    server.sock.sendall(encode_frame(1, b"cut off")[:-1])
    server.sock.close()
    with pytest.raises(ConnectionClosed, match="1006"):
        server.peer.send("before it knows")
    server.wait_for(lambda: server.peer.is_over)
    assert server.peer.close_code == 1006 and not server.peer.messages


def test_a_close_on_a_lost_connection(server: Server) -> None:
    server.sock.close()
    server.peer.close(encode_close(1000))
    server.wait_for(lambda: server.peer.is_over)


@pytest.mark.parametrize("is_reading", [True, False])
def test_abort(server: Server, is_reading: bool) -> None:
    if is_reading:
        gevent.idle()
    server.peer.abort()
    assert (server.peer.close_code, server.peer.is_over) == (1006, True)
    gevent.idle()
    assert server.sock.recv(1) == b""


def test_a_full_queue_holds_the_server_back(server: Server) -> None:
    writer = gevent.spawn(server.sock.sendall, encode_frame(2, bytes(100)) * 100_000)
    gevent.idle()
    assert len(server.peer.messages) == 1000 and not writer.ready()
    server.peer.take()
    server.wait_for(lambda: len(server.peer.messages) == 1000)
    # The end isn't held back.
    server.peer.close(encode_close(1000))
    writer.get(timeout=TIMEOUT)
    server.wait_for(lambda: len(server.peer.messages) == 99_999)


@pytest.mark.parametrize(
    "data, error",
    [
        (b"\x81\x80" + bytes(4), "masked"),
        (b"\x01\x00", "0x01"),
        (b"\xc1\x00", "0xc1"),
        (b"\x81\x01\xff", "utf-8"),
        (b"\x88\x01\x00", "half a close code"),
    ],
)
def test_mistakes_of_the_server_are_reported(
    server: Server, capsys: pytest.CaptureFixture[str], data: bytes, error: str
) -> None:
    server.sock.sendall(data)
    server.wait_for(lambda: server.peer.is_over)
    gevent.idle()
    assert error in capsys.readouterr().err


def test_what_is_no_message(server: Server) -> None:
    message: Any
    for message in (1, None, ["x"]):
        with pytest.raises(TypeError, match="str or bytes-like"):
            server.peer.send(message)
