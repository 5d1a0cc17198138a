"""Attacks on running servers, which serve others meanwhile.

A ``Bystander`` uses plain HTTP and a WebSocket during each attack.  The protocol's
answers are tested in full in ``test_protocol`` and ``test_handshake``; here they come
from real servers, in the order and at the cost that an attacker chooses.
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
import select
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import gunicorn
import pytest

from .clients import (
    MIB,
    Bystander,
    connect,
    fragments,
    frame,
    handshake,
    read_to_end,
    read_until,
)
from .servers import TIMEOUT, Farm, Server, wait_for

KEY = "dGhlIHNhbXBsZSBub25jZQ=="

#: What one attack may add to the worker's memory: the limits of one connection, 1 MiB
#: to send and 1 MiB received, the kernel's share not being the worker's, and what the
#: allocator doesn't give back.
MEMORY = 8 * MIB

#: For SO_LINGER: closing resets the connection.
LINGER_NOT = struct.pack("ii", 1, 0)

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


@pytest.fixture(scope="module", params=["gunicorn", "pywsgi-websocket"])
def server(request: pytest.FixtureRequest, farm: Farm) -> Iterator[Server]:
    server = farm(request.param)
    # What is made once isn't growth.
    with Bystander(server), connect(server, "/echo/") as websocket:
        websocket.send("é" * 100_000)
        websocket.recv()
    yield server
    wait_for(lambda: status(server)["connections"] == 0, "the end of all views")


def status(server: Server) -> dict[str, Any]:
    return json.loads(server.get("/status/")[2])  # type: ignore[no-any-return]


def visit(server: Server) -> int:
    """Visit a view that counts its visitors; return which one this was."""
    return int(server.get("/visit/")[2].removeprefix("visit "))


# Header smuggling on the upgrade path


def head(request_line: str, *headers: str) -> bytes:
    return "\r\n".join((request_line, *headers, "", "")).encode("latin-1")


def upgrade(
    *headers: str,
    path: str = "/echo/",
    method: str = "GET",
    version: str = "HTTP/1.1",
    connection: str = "Upgrade",
    key: str = KEY,
) -> bytes:
    """Return an opening handshake with more ``headers``."""
    return head(
        f"{method} {path} {version}",
        "Host: x",
        "Upgrade: websocket",
        f"Connection: {connection}",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
        *headers,
    )


#: Sent behind everything: it is answered where the server still expects HTTP.
LAST = head("GET /page/ HTTP/1.1", "Host: x", "Connection: close")
#: Executed only where it is a request of its own.
VISIT = head("GET /visit/ HTTP/1.1", "Host: x")

FORM = "csrfmiddlewaretoken=" + "a" * 32
FORM_HEADERS = (
    f"Cookie: csrftoken={'a' * 32}",
    "Content-Type: application/x-www-form-urlencoded",
    f"Content-Length: {len(FORM)}",
)
#: A form and a request; as many bytes behind the form as it has, another one begins.
FORM_AND_REQUEST = (
    FORM
    + "GET /page/ HTTP/1.1\r\nHost: x\r\nX: ".ljust(len(FORM), "x")
    + "GET /visit/ HTTP/1.1\r\nY: z\r\n\r\n"
).encode()


class Smuggling(NamedTuple):
    """What is sent, with LAST behind it, and what each server answers.

    A list of statuses and, after a 101, the close code.
    """

    request: bytes
    gunicorn: list[int]
    pywsgi: list[int]
    nginx: list[int]


#: The bytes behind the handshake are frames, bad ones.
SWITCHED = [101, 1002]

SMUGGLING = {
    "behind an accepted upgrade": Smuggling(
        upgrade() + VISIT, SWITCHED, SWITCHED, SWITCHED
    ),
    "behind a refused upgrade": Smuggling(
        upgrade(path="/refuse/403/") + VISIT,
        *([403, 202, 200],) * 3,
    ),
    "behind a malformed upgrade": Smuggling(
        upgrade(key="short") + VISIT, *([400, 202, 200],) * 3
    ),
    "upgrade behind an upgrade": Smuggling(
        upgrade() + upgrade(), SWITCHED, SWITCHED, SWITCHED
    ),
    "upgrade behind a refused upgrade": Smuggling(
        upgrade(path="/refuse/403/") + upgrade(), *([403, *SWITCHED],) * 3
    ),
    "Content-Length": Smuggling(
        upgrade(f"Content-Length: {len(VISIT)}") + VISIT, [400, 200], [400], [400, 200]
    ),
    "Content-Length twice": Smuggling(
        upgrade("Content-Length: 0", f"Content-Length: {len(VISIT)}") + VISIT,
        *([400], SWITCHED, [400]),
    ),
    "Content-Length with a sign": Smuggling(
        upgrade("Content-Length: +0") + VISIT, [400], [400], [400]
    ),
    "Content-Length 00": Smuggling(
        upgrade("Content-Length: 00"), [400, 200], [400], SWITCHED
    ),
    "Content_Length": Smuggling(
        upgrade(f"Content_Length: {len(VISIT)}") + VISIT, SWITCHED, SWITCHED, SWITCHED
    ),
    "form": Smuggling(
        upgrade(*FORM_HEADERS, method="POST") + FORM_AND_REQUEST,
        *([400, 200, 200],) * 3,
    ),
    "form without upgrade": Smuggling(
        head("POST /page/ HTTP/1.1", "Host: x", "Connection: upgrade", *FORM_HEADERS)
        + FORM_AND_REQUEST,
        *([200, 200, 200],) * 3,
    ),
    "chunks": Smuggling(
        upgrade("Transfer-Encoding: chunked")
        + b"%x\r\n%b\r\n0\r\n\r\n" % (len(VISIT), VISIT),
        *([400, 200], [400], [400, 200]),
    ),
    "unknown coding": Smuggling(
        upgrade("Transfer-Encoding: xchunked") + VISIT, [501], [400], [501]
    ),
    "two codings": Smuggling(
        upgrade("Transfer-Encoding: identity, chunked") + VISIT,
        *([400, 400], [400], [501]),
    ),
    "coding and length": Smuggling(
        upgrade("Transfer-Encoding: chunked", "Content-Length: 5")
        + b"0\r\n\r\n"
        + VISIT,
        *([400], [400], [400]),
    ),
    "folded coding": Smuggling(
        upgrade("Transfer-Encoding:\r\n chunked") + b"0\r\n\r\n" + VISIT,
        *([400], [400], [400]),
    ),
    "coding before a blank": Smuggling(
        upgrade("Transfer-Encoding : chunked") + b"0\r\n\r\n" + VISIT,
        *([400], SWITCHED, [400]),
    ),
    "Transfer_Encoding": Smuggling(
        upgrade("Transfer_Encoding: chunked") + b"0\r\n\r\n" + VISIT,
        *(SWITCHED, SWITCHED, SWITCHED),
    ),
    "folded Connection": Smuggling(
        upgrade(connection="keep-alive,\r\n Upgrade"), [400], [400, 200], [400]
    ),
    "two hosts": Smuggling(upgrade("Host: y"), [400], [400, 200], [400]),
    "no colon": Smuggling(upgrade("nonsense"), [400], SWITCHED, SWITCHED),
    "expectation": Smuggling(
        upgrade("Expect: 100-continue"), [100, *SWITCHED], SWITCHED, [100, *SWITCHED]
    ),
    "HTTP/1.0": Smuggling(upgrade(version="HTTP/1.0") + VISIT, [400], [400], SWITCHED),
    "h2c": Smuggling(
        head(
            "GET /page/ HTTP/1.1",
            "Host: x",
            "Connection: Upgrade, HTTP2-Settings",
            "Upgrade: h2c",
            "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
        )
        + VISIT,
        *([200, 202, 200],) * 3,
    ),
    "HTTP/2": Smuggling(
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + VISIT, [400], [400], [400]
    ),
}


IS_GUNICORN_23 = gunicorn.version_info[0] == 23
if IS_GUNICORN_23:
    SMUGGLING["two codings"] = SMUGGLING["two codings"]._replace(gunicorn=[400])
    SMUGGLING["two hosts"] = SMUGGLING["two hosts"]._replace(gunicorn=[400, 200])


def exchange(server: Server, data: bytes) -> bytes:
    """Send ``data`` and return everything that is answered."""
    address = ("127.0.0.1", server.port)
    with socket.create_connection(address, timeout=TIMEOUT) as sock:
        sock.sendall(data)
        return read_to_end(sock)


def codes_of(received: bytes) -> list[int]:
    """Return all statuses and the close code behind them."""
    *_, last = re.split(rb"\r\n\r\n", received)
    codes = [int(code) for code in re.findall(rb"HTTP/1\.[01] (\d+) ", received)]
    if last.startswith(b"\x88"):
        codes += struct.unpack("!H", last[2:4])
    return codes


@pytest.mark.parametrize("kind", ["gunicorn", "pywsgi-websocket", "nginx"])
@pytest.mark.parametrize("name", SMUGGLING)
def test_nothing_is_smuggled(farm: Farm, kind: str, name: str) -> None:
    server = farm(kind)
    smuggling = SMUGGLING[name]
    expected = getattr(smuggling, kind.partition("-")[0])
    before = visit(server)
    received = exchange(server, smuggling.request + LAST)
    assert codes_of(received) == expected, received
    # What was answered was executed once, and nothing else.
    assert visit(server) - before - 1 == expected.count(202)


@pytest.mark.parametrize("kind", ["gunicorn", "pywsgi-websocket", "nginx"])
def test_no_header_takes_the_place_of_another(farm: Farm, kind: str) -> None:
    names = ["X-Forwarded-Proto", "X-Forwarded-For", "Remote-User", "Cookie", "Origin"]
    spoofed = [f"{name.replace('-', '_')}: spoofed" for name in names if "-" in name]
    spoofed += [f"{name}_: spoofed" for name in names]
    spoofed += ["Sec_WebSocket_Key: spoofed", "Sec-WebSocket_Protocol: spoofed"]
    request = upgrade("X-Forwarded-For: honest", *spoofed, path="/visit/")
    address = ("127.0.0.1", farm(kind).port)
    with socket.create_connection(address, timeout=TIMEOUT) as sock:
        sock.sendall(request)
        received = read_until(sock, b"", b"}")
    assert received.startswith(b"HTTP/1.1 101 "), received
    assert b"spoofed" not in received
    # nginx adds whom it was told that by.
    assert b'"HTTP_X_FORWARDED_FOR":"honest' in received


# Oversized and endless requests


def flood_with(server: Server, start: bytes, more: bytes) -> bytes:
    """Send ``start`` and ``more`` without end; return what is answered."""
    address = ("127.0.0.1", server.port)
    with socket.create_connection(address, timeout=TIMEOUT) as sock:
        sent = 0
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            sock.sendall(start)
            while not select.select([sock], [], [], 0)[0]:
                sock.sendall(more)
                sent += len(more)
                assert sent < 64 * MIB
        return read_to_end(sock)


@pytest.mark.parametrize(
    "start, more, codes",
    [
        (b"GET /", b"a" * 4096, {400, 414} if IS_GUNICORN_23 else {414}),
        (upgrade()[:-2] + b"X: ", b"a" * 4096, {400, 431}),
        (upgrade()[:-2] + b"X", b"a" * 4096, {400, 431}),
        (upgrade()[:-2], b"X: a\r\n" * 100, {400, 431}),
        (upgrade()[:-2] + b"X: a\r\n", b" a\r\n" * 100, {400, 431}),
    ],
    ids=["path", "value", "name", "headers", "folded value"],
)
def test_endless_requests(
    server: Server, start: bytes, more: bytes, codes: set[int]
) -> None:
    with Bystander(server) as bystander:
        (code,) = codes_of(flood_with(server, start, more))
    assert code in codes
    assert bystander.growth < MEMORY


@pytest.mark.parametrize(
    "header, code",
    [
        ("Sec-WebSocket-Protocol: " + ",".join(map(str, range(1500))), 101),
        ("Sec-WebSocket-Extensions: " + ",".join(["x;a=1;b"] * 900), 101),
        ("Sec-WebSocket-Extensions: x" + " ;a" * 2000 + " " * 2000 + "=", 400),
        ("Sec-WebSocket-Extensions: " + '"' * 8000, 400),
        ("Origin: http://" + "[" * 8000, 403),
        ("Origin: http://" + "a." * 4000, 403),
        ("Upgrade: x" + "," * 8000, 101),
    ],
    ids=lambda value: str(value)[:40],
)
def test_headers_that_could_take_long(server: Server, header: str, code: int) -> None:
    with Bystander(server):
        for _ in range(10):
            received = exchange(server, upgrade(header) + LAST)
            assert codes_of(received)[0] == code, received


# Cross-site hijacking


def test_a_foreign_page_does_not_reach_the_view(server: Server, farm: Farm) -> None:
    own = f"127.0.0.1:{server.port}"
    before = visit(server)
    with Bystander(server):
        for origin in [
            *("http://evil.example", "https://evil.example", "null", "", own),
            *(f"http://{own}.evil.example", f"http://evil.example#{own}"),
            *(f"http://{own}@evil.example", f"http://evil.example/{own}"),
            *(f"http://evil.example?{own}", f"http://evil.example\\@{own}"),
            *(f"http://{own}/", f"http://{own}0", "http://127.0.0.1", f"ws://{own}"),
            *(f"file://{own}", f"http://{own}, http://evil.example"),
            f"http://{own}\r\nOrigin: http://evil.example",
            f"http://evil.example\r\nOrigin: http://{own}",
        ]:
            sock, received = handshake(
                server, "/visit/", Origin=origin, Cookie="sessionid=stolen"
            )
            sock.close()
            assert received.startswith(b"HTTP/1.1 403 "), (origin, received)
    assert visit(server) == before + 1
    with connect(server, "/visit/", origin=f"http://{own}"):
        pass
    assert visit(server) == before + 3


# The log


def test_nobody_writes_lines_into_the_log(server: Server) -> None:
    evil = "x%0d%0a%1b[2Jevil%e2%80%a8line"
    for path in (f"/greeting/{evil}/", f"/fail/{evil}/", f"/refuse/{evil}/"):
        sock, received = handshake(server, path)
        with sock:
            if b" 101 " in received:
                sock.sendall(frame(TEXT, b"go") + frame(CLOSE, b"\x03\xe8\r\nevil"))
                read_to_end(sock)
    name = "x\\r\\n\\x1b[2Jevil\\u2028line"
    for expected in (
        f"/greeting/{name}/ closed by",
        f"/fail/{name}/ closed by",
        f"WebSocket view of /fail/{name}/",
        f"/refuse/{evil}/",
    ):
        wait_for(lambda expected=expected: expected in server.log, expected)
    for line in re.split(r"\r\n|[\n\r\u2028]", server.log):
        assert "\x1b" not in line
        assert not line.startswith(("evil", "line"))


# Frames that break the rules

#: Four letters of Greek, and a surrogate that is none in UTF-8.
GREEK, SURROGATE = "κόσμ".encode(), b"\xed\xa0\x80"

BAD_FRAMES = {
    "text isn't masked": (b"\x81\x05hello", 1002),
    "ping isn't masked": (b"\x89\x00", 1002),
    "close isn't masked": (b"\x88\x02\x03\xe8", 1002),
    "second frame isn't masked": (frame(TEXT, b"a") + b"\x81\x01b", 1002),
    "continuation isn't masked": (frame(TEXT, b"a", fin=False) + b"\x80\x01b", 1002),
    **{
        f"RSV {rsv} of opcode {opcode}": (frame(opcode, b"", rsv=rsv), 1002)
        for rsv in range(1, 8)
        for opcode in (TEXT, BINARY, PING, PONG, CLOSE)
    },
    "RSV of a continuation": (
        frame(TEXT, b"a", fin=False) + frame(CONTINUATION, b"b", rsv=4),
        1002,
    ),
    **{
        f"opcode {opcode}": (frame(opcode, b"a"), 1002)
        for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
    },
    "length 5 in 16 bits": (b"\x81\xfe\x00\x05" + bytes(4) + b"hello", 1002),
    "length 5 in 64 bits": (b"\x81\xff" + bytes(7) + b"\x05" + bytes(4), 1002),
    "length of 64 bits": (frame(BINARY, b"", length=2**63), 1002),
    "length of 63 bits": (frame(BINARY, b"", length=2**63 - 1), 1009),
    "length of 1 MiB and a byte": (frame(BINARY, b"", length=MIB + 1), 1009),
    "fragments of 1 MiB and a byte": (
        frame(BINARY, bytes(MIB), fin=False) + frame(CONTINUATION, b"a"),
        1009,
    ),
    "long ping": (frame(PING, bytes(126)), 1002),
    "long close": (frame(CLOSE, b"\x03\xe8" + bytes(124)), 1002),
    "fragmented ping": (frame(PING, b"", fin=False), 1002),
    "continuation of nothing": (frame(CONTINUATION, b"a"), 1002),
    "continuation after the end": (
        fragments(TEXT, [b"a"]) + frame(CONTINUATION, b"b"),
        1002,
    ),
    "message in a message": (frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"), 1002),
    "HTTP": (VISIT, 1002),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 1002),
    # Section 8.1
    **{
        f"surrogate cut after {cut} bytes": (
            fragments(TEXT, [GREEK + SURROGATE[:cut], SURROGATE[cut:] + b"x"]),
            1007,
        )
        for cut in range(4)
    },
    "surrogate in fragments of one byte": (
        fragments(TEXT, [bytes([byte]) for byte in GREEK + SURROGATE + b"edited"]),
        1007,
    ),
    "surrogate with a ping in it": (
        frame(TEXT, SURROGATE[:1], fin=False)
        + frame(PING, b"")
        + frame(CONTINUATION, SURROGATE[1:]),
        1007,
    ),
    "half a character": (fragments(TEXT, [GREEK[:-1]]), 1007),
    "a bad byte, and no end": (frame(TEXT, b"\xff", length=1000), 1007),
    "a bad byte in a fragment, and no end": (frame(TEXT, b"\xff", fin=False), 1007),
    "overlong": (frame(TEXT, b"\xc0\xaf"), 1007),
    "above U+10FFFF": (frame(TEXT, b"\xf4\x90\x80\x80"), 1007),
    # Sections 5.5.1 and 7.4
    "half a close code": (frame(CLOSE, b"\x03"), 1002),
    "close reason isn't UTF-8": (frame(CLOSE, b"\x03\xe8\xff"), 1007),
    **{
        f"close code {code}": (frame(CLOSE, struct.pack("!H", code)), 1002)
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)
    },
    "a thousand close frames": (frame(CLOSE, b"\x0b\xb8") * 1000, 3000),
    "close and a bad frame": (frame(CLOSE, b"\x0b\xb8") + b"\xff" * 100, 3000),
    "close and a message": (frame(CLOSE, b"\x0b\xb8") + frame(TEXT, b"late"), 3000),
    "close in a message": (
        frame(TEXT, b"a", fin=False) + frame(CLOSE, b"\x0b\xb8") + frame(0, b"b"),
        3000,
    ),
}


def test_bad_frames_are_answered_with_a_close(server: Server) -> None:
    with Bystander(server) as bystander:
        for name, (data, code) in BAD_FRAMES.items():
            sock, received = handshake(server, "/echo/")
            with sock:
                with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                    sock.sendall(data)
                received = read_to_end(sock, received)
            echoed, _, last = received.partition(b"\r\n\r\n")[2].rpartition(b"\x88")
            assert last[1:3] == struct.pack("!H", code), (name, received)
            # A masked frame that came before has its echo, a ping its pong.
            assert echoed in (b"", b"\x81\x01a", b"\x8a\x00"), (name, received)
    assert bystander.growth < MEMORY


# Floods, one connection each


def send_without_reading(sock: socket.socket, data: bytes) -> int:
    """Send ``data`` for as long as it is taken; return how much was."""
    sock.setblocking(False)
    view, sent = memoryview(data), 0
    # Room comes again within a while, or it doesn't.
    while sent < len(data) and select.select([], [sock], [], 0.5)[1]:
        sent += sock.send(view[sent : sent + 65536])
    sock.settimeout(TIMEOUT)
    return sent


def send_and_ping(sock: socket.socket, data: bytes) -> None:
    """Send ``data`` and a ping; wait for its pong: then all has been read."""
    sock.sendall(data + frame(PING, b"all read?"))
    read_until(sock, b"", b"\x8a\x09all read?")


def fragments_of_a_byte(sock: socket.socket) -> None:
    count = 100_000
    sock.sendall(fragments(TEXT, [b"a"] * count))
    echo = b"\x81\x7f" + struct.pack("!Q", count) + b"a" * count
    assert read_until(sock, b"", echo) == echo


def fragments_of_a_character(sock: socket.socket) -> None:
    # Each as an object of its own would be 12 MB.
    send_and_ping(sock, fragments(TEXT, ["я".encode()] * 150_000, fin=False))


def empty_fragments(sock: socket.socket) -> None:
    send_and_ping(sock, fragments(TEXT, [b""] * 50_000, fin=False))


def segments_of_a_byte(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    message = b"a" * 20_000
    for byte in frame(TEXT, message):
        sock.send(bytes([byte]))
    assert read_until(sock, b"", message).endswith(message)


def pings(sock: socket.socket) -> None:
    count = 20_000
    for _ in range(5):
        sock.sendall(frame(PING, b"12345678") * count)
        received = read_until(sock, b"", b"12345678")
        while len(received) % 10:
            received += sock.recv(65536)
        assert received == b"\x8a\x0812345678" * (len(received) // 10)


def pings_and_no_reading(sock: socket.socket) -> None:
    # It is read on and on: of pongs that wait the last suffices.
    data = frame(PING, bytes(125)) * 80_000
    assert send_without_reading(sock, data) == len(data)


def pongs(sock: socket.socket) -> None:
    send_and_ping(sock, frame(PONG, b"") * 50_000)


def messages_of_a_byte(sock: socket.socket) -> None:
    count = 20_000
    for _ in range(10):
        sock.sendall(frame(BINARY, b"a") * (count // 10))
        received = 0
        while received < 3 * count // 10:
            received += len(sock.recv(65536))


def messages_and_no_reading(sock: socket.socket) -> None:
    data = frame(BINARY, b"") * 5 * MIB
    assert send_without_reading(sock, data) < len(data)


def half_a_message(sock: socket.socket) -> None:
    send_and_ping(sock, frame(BINARY, bytes(MIB), fin=False))


def half_a_frame(sock: socket.socket) -> None:
    sock.sendall(frame(BINARY, bytes(MIB - 1), length=MIB))


def half_a_header(sock: socket.socket) -> None:
    sock.sendall(frame(BINARY, b"", length=MIB)[:9])


FLOODS: list[Callable[[socket.socket], None]] = [
    fragments_of_a_byte,
    fragments_of_a_character,
    empty_fragments,
    segments_of_a_byte,
    pings,
    pings_and_no_reading,
    pongs,
    messages_of_a_byte,
    messages_and_no_reading,
    half_a_message,
    half_a_frame,
    half_a_header,
]


@pytest.mark.parametrize("flood", FLOODS)
def test_floods(server: Server, flood: Callable[[socket.socket], None]) -> None:
    with Bystander(server) as bystander:
        sock, _ = handshake(server, "/echo/")
        with sock:
            flood(sock)
    assert bystander.growth < MEMORY


# Floods of compressed messages

RSV1 = 4
OFFER = {"Sec_WebSocket_Extensions": "permessage-deflate"}


@functools.cache
def bomb(size: int) -> bytes:
    """Return a compressed message of zeros, a thousandth of their ``size``."""
    stream = zlib.compressobj(9, wbits=-15)
    data = stream.compress(bytes(size)) + stream.flush(zlib.Z_SYNC_FLUSH)
    return frame(BINARY, data[:-4], rsv=RSV1)


def read_close(sock: socket.socket) -> tuple[int, bytes]:
    """Return the code of the server's close frame, and what came before it."""
    before, _, close = read_to_end(sock).rpartition(b"\x88")
    return struct.unpack("!H", close[1:3])[0], before


def bomb_in_a_frame(sock: socket.socket) -> None:
    data = bomb(50_000_000)
    assert len(data) < 50_000
    for _ in range(5):
        sock.sendall(data)
    assert read_close(sock) == (1009, b"")


def bomb_in_fragments(sock: socket.socket) -> None:
    data = bomb(50_000_000)[8:]
    sock.sendall(frame(TEXT, b"", fin=False, rsv=RSV1))
    for i in range(0, len(data), 100):
        sock.sendall(frame(CONTINUATION, data[i : i + 100], fin=False))
    assert read_close(sock) == (1009, b"")


def bombs(sock: socket.socket) -> None:
    count = 60
    sock.sendall(bomb(MIB) * count + frame(CLOSE, b"\x0b\xb8"))
    code, echoes = read_close(sock)
    # Each is compressed again, without context.
    assert code == 3000
    assert echoes == echoes[: len(echoes) // count] * count
    assert len(echoes) // count < 1100


def blocks_of_nothing(sock: socket.socket) -> None:
    # One message; each block starts at a byte.
    block = b"\x00\x00\x00\xff\xff"
    sock.sendall(frame(TEXT, b"", fin=False, rsv=RSV1))
    for _ in range(50):
        sock.sendall(frame(CONTINUATION, block * 10_000, fin=False))
    send_and_ping(sock, b"")


def last_blocks(sock: socket.socket) -> None:
    # One message; behind each the window is a new one.
    sock.sendall(frame(TEXT, b"", fin=False, rsv=RSV1))
    for _ in range(10):
        sock.sendall(frame(CONTINUATION, b"\x03\x00" * 10_000, fin=False))
    send_and_ping(sock, b"")


def compressed_messages_of_nothing(sock: socket.socket) -> None:
    send_and_ping(sock, frame(BINARY, b"\x00", rsv=RSV1) * 50_000)


FLOODS_OF_COMPRESSED: list[Callable[[socket.socket], None]] = [
    bomb_in_a_frame,
    bomb_in_fragments,
    bombs,
    blocks_of_nothing,
    last_blocks,
    compressed_messages_of_nothing,
]


@pytest.mark.parametrize("flood", FLOODS_OF_COMPRESSED)
def test_floods_of_compressed_messages(
    server: Server, flood: Callable[[socket.socket], None]
) -> None:
    with Bystander(server) as bystander:
        sock, received = handshake(server, "/compressed/echo/", **OFFER)
        assert b"Sec-WebSocket-Extensions: permessage-deflate" in received
        with sock:
            flood(sock)
    assert bystander.growth < MEMORY


def test_bombs_that_are_never_read(server: Server) -> None:
    data = bomb(MIB) * 30_000
    with Bystander(server) as bystander:
        sock, _ = handshake(server, "/compressed/slow-reader/", **OFFER)
        with sock:
            assert send_without_reading(sock, data) < len(data)
            # Closing resets; else all that is on its way would have to be read.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
        server.get("/go/")
    assert bystander.growth < MEMORY


# Many connections

#: Fewer than gunicorn's worker_connections, which count those without an upgrade.
CROWD = 200


@contextlib.contextmanager
def crowd(server: Server, data: bytes, *, count: int = CROWD) -> Iterator[list[Any]]:
    """Open ``count`` connections and send ``data`` on each."""
    with contextlib.ExitStack() as stack:
        address = ("127.0.0.1", server.port)
        socks = []
        for _ in range(count):
            sock = stack.enter_context(socket.create_connection(address, TIMEOUT))
            sock.sendall(data)
            socks.append(sock)
        yield socks


def trickle(socks: list[socket.socket], data: bytes) -> None:
    """Send ``data`` byte by byte, in turns."""
    for byte in data:
        for sock in socks:
            # The server may have lost its patience.
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                sock.send(bytes([byte]))


@pytest.mark.parametrize("start", [b"", b"GET /ec", upgrade()[:-2] + b"X: "])
def test_slow_handshakes(server: Server, start: bytes) -> None:
    with Bystander(server) as bystander, crowd(server, start) as socks:
        trickle(socks, b"slow slow slow")
    assert bystander.growth < 2 * MEMORY


def test_slow_frames(server: Server) -> None:
    message = frame(TEXT, b"slow slow slow")
    with (
        Bystander(server) as bystander,
        crowd(server, upgrade() + message[:1]) as socks,
    ):
        for sock in socks:
            read_until(sock, b"", b"\r\n\r\n")
        trickle(socks, message[1:])
        for sock in socks:
            assert read_until(sock, b"", b"slow slow slow") == b"\x81\x0e" + message[6:]
    # 16 KB each.
    assert bystander.growth < MEMORY + CROWD * 32 * 1024


def test_connections_that_come_and_go(server: Server) -> None:
    with Bystander(server) as bystander:
        for _ in range(2):
            with crowd(server, upgrade(path="/wait/")) as socks:
                for sock in socks[::2]:
                    read_until(sock, b"", b"\r\n\r\n")
                for sock in socks:
                    # Closing resets, before and after the 101.
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
        wait_for(lambda: status(server)["connections"] == 1, "the end of all others")
    # 16 KB each when idle, several times that while Django has the request.
    assert bystander.growth < MEMORY + CROWD * 100 * 1024


def test_clients_that_never_read(server: Server) -> None:
    count = 8
    limit = MIB + 64 * 1024
    with (
        Bystander(server) as bystander,
        crowd(server, upgrade(path="/flood/"), count=count),
    ):

        def are_suspended() -> bool:
            waiting = status(server)["stats"]["outbox_bytes"]
            assert waiting <= count * (limit + 10)
            return bool(waiting > count * MIB)

        wait_for(are_suspended, "the suspension of all views")
    assert bystander.growth < MEMORY + count * limit


@pytest.mark.parametrize("late", [frame(TEXT, b"late"), frame(PING, b""), b"\x80"])
def test_a_client_that_does_not_let_go(server: Server, late: bytes) -> None:
    # After the server's close frame, until its patience ends.
    with Bystander(server):
        sock, received = handshake(server, "/close-at-once/")
        with sock:
            read_until(sock, received, b"\x88\x02\x03\xe8")
            with pytest.raises((ConnectionResetError, BrokenPipeError)):
                while True:
                    sock.sendall(late)
                    select.select([], [], [], 0.01)
    wait_for(lambda: status(server)["connections"] == 0, "the end")
