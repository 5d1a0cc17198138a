"""The state machine of ``dwebsocket.protocol``, by sections of RFC 6455.

``receive`` feeds what a client sent in several ways: whole, byte by byte, in two
pieces, out of a buffer that is used again, and with data behind it.  All must give
the same.
"""

from __future__ import annotations

import gc
import re
import tracemalloc
from collections.abc import Callable, Iterable
from typing import NamedTuple

import pytest

from dwebsocket.deflate import Deflate
from dwebsocket.protocol import Message, Protocol, State

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
DATA_OPCODES = (CONTINUATION, TEXT, BINARY)
CONTROL_OPCODES = (CLOSE, PING, PONG)

MASK = bytes.fromhex("37fa213d")


# What a client sends and what it gets


def header(
    opcode: int, length: int, *, fin: bool = True, rsv: int = 0, mask: bytes = MASK
) -> bytes:
    """Return the header of a client's frame, section 5.2."""
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    if length < 126:
        return bytes((first, 0x80 | length)) + mask
    if length < 0x10000:
        return bytes((first, 0xFE)) + length.to_bytes(2, "big") + mask
    return bytes((first, 0xFF)) + length.to_bytes(8, "big") + mask


def masked(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes = MASK,
) -> bytes:
    """Return a client's frame."""
    key = mask * (len(payload) // 4 + 1)
    return header(opcode, len(payload), fin=fin, rsv=rsv, mask=mask) + bytes(
        octet ^ key_octet for octet, key_octet in zip(payload, key, strict=False)
    )


def text(message: str) -> bytes:
    return masked(TEXT, message.encode())


def fragmented(opcode: int, fragments: list[bytes], between: bytes = b"") -> bytes:
    """Return a message in ``fragments`` with ``between`` between them."""
    last = len(fragments) - 1
    return between.join(
        masked(opcode if i == 0 else CONTINUATION, fragment, fin=i == last)
        for i, fragment in enumerate(fragments)
    )


def close(code: int | None = 1000, reason: bytes = b"") -> bytes:
    return masked(CLOSE, b"" if code is None else code.to_bytes(2, "big") + reason)


def pong_reply(payload: bytes = b"") -> bytes:
    return bytes((0x80 | PONG, len(payload))) + payload


def close_reply(code: int | None, reason: str = "") -> bytes:
    payload = b"" if code is None else code.to_bytes(2, "big") + reason.encode()
    return bytes((0x80 | CLOSE, len(payload))) + payload


class Outcome(NamedTuple):
    """All that can be seen of a connection that has received something."""

    messages: list[Message]
    replies: list[bytes]
    state: State
    close_code: int | None
    close_reason: str
    close_sent: bool
    close_received: bool
    closed_by: str
    pong: bytes | None


def feed(protocol: Protocol, pieces: Iterable[bytes | memoryview]) -> Outcome:
    messages: list[Message] = []
    for piece in pieces:
        messages += protocol.receive_data(piece)
        while protocol.is_held:
            messages += protocol.receive_data(b"")
    assert all(type(message) in (str, bytes) for message in messages)
    assert all(type(reply) is bytes for reply in protocol.replies)
    assert type(protocol.pong) in (bytes, type(None))
    assert type(protocol.close_code) in (int, type(None))
    return Outcome(
        messages,
        protocol.replies,
        protocol.state,
        protocol.close_code,
        protocol.close_reason,
        protocol.close_sent,
        protocol.close_received,
        protocol.closed_by,
        protocol.pong,
    )


def split(stream: bytes) -> Iterable[bytes]:
    return (stream[i : i + 1] for i in range(len(stream)))


def lend(stream: bytes, size: int = 7) -> Iterable[memoryview]:
    """Yield ``stream`` in one buffer that is overwritten as soon as it may be."""
    buffer = bytearray(size)
    for start in range(0, len(stream), size):
        piece = stream[start : start + size]
        buffer[: len(piece)] = piece
        yield memoryview(buffer)[: len(piece)]
        buffer[:] = b"\xff" * size


def receive(
    stream: bytes,
    *,
    limit: int | None = None,
    set_up: Callable[[Protocol], object] = lambda protocol: None,
    agree: Callable[[], Deflate | None] = lambda: None,
) -> Outcome:
    """Return what comes of ``stream``, whole frames, in all ways it may arrive."""

    def start() -> Protocol:
        protocol = Protocol(max_message_size=limit, deflate=agree())
        set_up(protocol)
        return protocol

    outcome = feed(start(), [stream])
    assert feed(start(), split(stream)) == outcome
    assert feed(start(), lend(stream)) == outcome
    if len(stream) <= 40:
        for cut in range(len(stream) + 1):
            assert feed(start(), [stream[:cut], stream[cut:]]) == outcome

    behind = masked(PONG, b"behind") + text("behind") + masked(PING, b"behind")
    if outcome.state is State.CLOSED:
        # Nothing is read any more.
        for pieces in ([stream + behind], [stream, behind], split(stream + behind)):
            assert feed(start(), pieces) == outcome
    else:
        # A pong may come at any time and changes nothing else.
        pong = masked(PONG, b"behind")
        for pieces in ([stream + pong], [stream, pong], split(stream + pong)):
            assert feed(start(), pieces) == outcome._replace(pong=b"behind")
    return outcome


def check_messages(
    stream: bytes,
    messages: list[Message],
    *,
    replies: list[bytes] | None = None,
    limit: int | None = None,
    pong: bytes | None = None,
    agree: Callable[[], Deflate | None] = lambda: None,
) -> None:
    """Check that ``stream`` leaves the connection open, and what comes of it."""
    assert receive(stream, limit=limit, agree=agree) == Outcome(
        messages, replies or [], State.OPEN, None, "", False, False, "", pong
    )


def check_failure(
    stream: bytes,
    code: int,
    reason: str,
    *,
    messages: list[Message] | None = None,
    replies: list[bytes] | None = None,
    limit: int | None = None,
    agree: Callable[[], Deflate | None] = lambda: None,
) -> None:
    """Check that ``stream`` fails the connection, and how (section 7.1.7)."""
    outcome = receive(stream, limit=limit, agree=agree)
    assert re.search(reason, outcome.close_reason)
    assert outcome == Outcome(
        messages or [],
        [*(replies or []), close_reply(code, outcome.close_reason)],
        State.CLOSED,
        code,
        outcome.close_reason,
        True,
        False,
        "server",
        None,
    )


# Section 5.2, base framing protocol


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 128, 511, 512, 65535, 65536])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_5_2_messages_of_all_length_encodings(opcode: int, length: int) -> None:
    payload = (b"0123456789abcdef" * 4097)[:length]
    message: Message = payload.decode() if opcode == TEXT else payload
    check_messages(masked(opcode, payload), [message])


def test_5_2_payload_length_has_up_to_63_bits() -> None:
    protocol = Protocol()
    assert protocol.receive_data(header(BINARY, 2**63 - 1) + b"begin") == []
    assert protocol.state is State.OPEN


@pytest.mark.parametrize(
    "length, reason",
    [
        ("fe007d", "minimal"),
        ("ff000000000000ffff", "minimal"),
        ("ff8000000000000000", "63 bits"),
    ],
)
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_5_2_bad_payload_length_is_refused(
    opcode: int, length: str, reason: str
) -> None:
    frame = bytes((0x80 | opcode,)) + bytes.fromhex(length) + MASK
    check_failure(text("before") + frame, 1002, reason, messages=["before"])


@pytest.mark.parametrize("rsv", range(1, 8))
@pytest.mark.parametrize("fin", [True, False])
@pytest.mark.parametrize("opcode", DATA_OPCODES)
def test_5_2_reserved_bits_of_data_frames_are_refused(
    opcode: int, fin: bool, rsv: int
) -> None:
    check_failure(
        text("before") + masked(opcode, b"payload", fin=fin, rsv=rsv),
        1002,
        "reserved bits",
        messages=["before"],
    )


@pytest.mark.parametrize("rsv", range(1, 8))
@pytest.mark.parametrize("opcode", CONTROL_OPCODES)
@pytest.mark.parametrize("payload", [b"", b"\x03\xe8payload"])
def test_5_2_reserved_bits_of_control_frames_are_refused(
    opcode: int, payload: bytes, rsv: int
) -> None:
    check_failure(
        masked(PING, b"before") + masked(opcode, payload, rsv=rsv),
        1002,
        "reserved bits",
        replies=[pong_reply(b"before")],
    )


@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
@pytest.mark.parametrize("payload", [b"", b"payload"])
@pytest.mark.parametrize("fin", [True, False])
def test_5_2_unknown_opcodes_are_refused(
    opcode: int, payload: bytes, fin: bool
) -> None:
    check_failure(
        text("before") + masked(opcode, payload, fin=fin),
        1002,
        f"unknown opcode {opcode}$",
        messages=["before"],
    )


def test_5_2_frame_that_has_not_arrived_is_waited_for() -> None:
    frame = text("whole")
    for end in range(len(frame)):
        protocol = Protocol()
        assert feed(protocol, [frame[:end]]) == feed(Protocol(), [])
        assert protocol.receive_data(frame[end:]) == ["whole"]


def test_5_2_many_frames_in_one_piece() -> None:
    check_messages(
        text("1") + masked(BINARY, b"2") + masked(PING, b"3") + text("4"),
        ["1", b"2", "4"],
        replies=[pong_reply(b"3")],
    )


# Sections 5.1 and 5.3, masking


@pytest.mark.parametrize("opcode", [TEXT, BINARY, CLOSE, PING, PONG])
@pytest.mark.parametrize("payload", [b"", b"\x03\xe8", b"payload"])
def test_5_1_unmasked_frame_is_refused(opcode: int, payload: bytes) -> None:
    frame = bytes((0x80 | opcode, len(payload))) + payload
    check_failure(
        text("before") + frame, 1002, "frame isn't masked", messages=["before"]
    )


@pytest.mark.parametrize("mask", ["00000000", "ffffffff", "01020408", "37fa213d"])
@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 6, 7, 8, 9, 600])
def test_5_3_every_frame_has_its_own_masking_key(mask: str, length: int) -> None:
    payload = bytes(i * 31 & 0xFF for i in range(length))
    key = bytes.fromhex(mask)
    check_messages(
        masked(BINARY, payload, mask=key)
        + masked(BINARY, payload)
        + masked(BINARY, payload, mask=key, fin=False)
        + masked(CONTINUATION, payload),
        [payload, payload, payload * 2],
    )


def test_5_3_payload_is_unmasked_wherever_it_is_cut() -> None:
    payload = bytes(range(100, 120))
    stream = masked(BINARY, payload)
    for first in range(len(stream) + 1):
        for second in range(first, len(stream) + 1):
            pieces = [stream[:first], stream[first:second], stream[second:]]
            assert feed(Protocol(), pieces).messages == [payload]


@pytest.mark.parametrize("opcode", [0x81, 0x82])
@pytest.mark.parametrize("length", [0x80, 0x81, 0x82])
def test_5_3_rest_of_a_frame_that_looks_like_a_frame(opcode: int, length: int) -> None:
    """Masking key and payload may be any bytes, those of a header too."""
    mask = bytes((0x81, 0x81, 0x82, 0x80))
    frame = bytes((opcode, length)) + mask + mask[: length & 0x7F]
    payload = bytes(length & 0x7F)
    message: Message = payload.decode() if opcode == 0x81 else payload
    check_messages(frame * 4, [message] * 4)


# Section 5.4, fragmentation


@pytest.mark.parametrize(
    "fragments",
    [
        [b"one ", b"two"],
        [b"one ", b"two ", b"three"],
        [b"", b"all"],
        [b"all", b""],
        [b"", b"", b""],
        [b"", b"middle", b""],
        [b"x"] * 50,
        [b"x" * 126, b"y" * 600],
    ],
    ids=lambda fragments: "+".join(str(len(fragment)) for fragment in fragments[:4]),
)
def test_5_4_fragments_are_one_message(fragments: list[bytes]) -> None:
    payload = b"".join(fragments)
    stream = fragmented(TEXT, fragments) + fragmented(BINARY, fragments) + text("next")
    check_messages(stream, [payload.decode(), payload, "next"])


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_5_4_control_frames_between_fragments(opcode: int) -> None:
    payload = "\u20acuro".encode()
    for cut in range(len(payload) + 1):
        stream = fragmented(
            opcode,
            [payload[:cut], b"", payload[cut:]],
            between=masked(PING, b"1") + masked(PONG, b"2") + masked(PING),
        )
        check_messages(
            stream,
            [payload.decode() if opcode == TEXT else payload],
            replies=[pong_reply(b"1"), pong_reply()] * 2,
            pong=b"2",
        )


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_5_4_close_between_fragments(opcode: int) -> None:
    outcome = receive(masked(opcode, b"begin", fin=False) + close(1001))
    assert outcome.messages == []
    assert outcome.replies == [close_reply(1001)]
    assert (outcome.state, outcome.close_received) == (State.CLOSED, True)


@pytest.mark.parametrize("fin", [True, False])
@pytest.mark.parametrize(
    "before, messages",
    [
        (b"", []),
        (text("whole"), ["whole"]),
        (masked(BINARY, bytes(200)), [bytes(200)]),
        (fragmented(TEXT, [b"two ", b"fragments"]), ["two fragments"]),
        (fragmented(BINARY, [b"two ", b"fragments"]), [b"two fragments"]),
        (masked(PONG), []),
    ],
    ids=["start", "text", "binary", "fragmented text", "fragmented binary", "control"],
)
def test_5_4_continuation_of_no_message_is_refused(
    before: bytes, messages: list[Message], fin: bool
) -> None:
    frame = masked(CONTINUATION, b"continued", fin=fin)
    outcome = receive(before + frame)
    assert outcome.messages == messages
    assert outcome.close_code == 1002
    assert outcome.close_reason == "continuation of no message"
    assert outcome.replies == [close_reply(1002, outcome.close_reason)]


@pytest.mark.parametrize("fin", [True, False])
@pytest.mark.parametrize("second", [TEXT, BINARY])
@pytest.mark.parametrize("first", [TEXT, BINARY])
@pytest.mark.parametrize("payload", [b"", b"payload"])
def test_5_4_message_inside_a_fragmented_one_is_refused(
    payload: bytes, first: int, second: int, fin: bool
) -> None:
    check_failure(
        masked(first, b"begin", fin=False)
        + masked(PING, b"between")
        + masked(CONTINUATION, b"go on", fin=False)
        + masked(second, payload, fin=fin),
        1002,
        "new message inside a fragmented one",
        replies=[pong_reply(b"between")],
    )


# Section 5.5, control frames


@pytest.mark.parametrize("opcode", CONTROL_OPCODES)
@pytest.mark.parametrize("length", [126, 127, 65536])
def test_5_5_long_control_frames_are_refused_by_their_header(
    opcode: int, length: int
) -> None:
    reason = "control frame is too long"
    check_failure(header(opcode, length)[:2], 1002, reason)
    check_failure(masked(opcode, bytes(length)), 1002, reason)


@pytest.mark.parametrize("opcode", CONTROL_OPCODES)
@pytest.mark.parametrize("payload", [b"", b"\x03\xe8"])
def test_5_5_fragmented_control_frames_are_refused(opcode: int, payload: bytes) -> None:
    check_failure(
        text("before") + masked(opcode, payload, fin=False),
        1002,
        "control frame is fragmented",
        messages=["before"],
    )


@pytest.mark.parametrize(
    "payload", [b"", b"Hello", b"\x00\xff\xfe\xfd", bytes(125)], ids=len
)
def test_5_5_2_ping_is_answered_with_its_payload(payload: bytes) -> None:
    check_messages(masked(PING, payload), [], replies=[pong_reply(payload)])


def test_5_5_2_every_ping_is_answered_in_its_turn() -> None:
    pings = [b"%d" % i for i in range(10)]
    check_messages(
        b"".join(masked(PING, ping) for ping in pings),
        [],
        replies=[pong_reply(ping) for ping in pings],
    )


def test_5_5_2_ping_before_a_close_is_answered_before_it() -> None:
    outcome = receive(masked(PING, b"last") + close(1000) + masked(PING, b"late"))
    assert outcome.replies == [pong_reply(b"last"), close_reply(1000)]


@pytest.mark.parametrize("payload", [b"", b"Hello", bytes(125)], ids=len)
def test_5_5_3_unsolicited_pong_is_noted_and_not_answered(payload: bytes) -> None:
    check_messages(masked(PONG, payload), [], pong=payload)


def test_5_5_3_last_pong_counts() -> None:
    check_messages(masked(PONG, b"1") + masked(PONG, b"2"), [], pong=b"2")


# Section 5.5.1 and 7.1, the closing handshake


def closed_by_peer(code: int, reason: str, reply: bytes) -> Outcome:
    return Outcome([], [reply], State.CLOSED, code, reason, True, True, "client", None)


@pytest.mark.parametrize(
    "code",
    [*range(1000, 1004), *range(1007, 1015), 3000, 3999, 4000, 4999],
)
@pytest.mark.parametrize("reason", ["", "bye", "\u20ac" * 41, "x" * 123])
def test_5_5_1_close_frame_is_answered_with_its_code(code: int, reason: str) -> None:
    outcome = receive(close(code, reason.encode()))
    assert outcome == closed_by_peer(code, reason, close_reply(code))


def test_7_1_5_close_frame_without_a_code_counts_as_1005() -> None:
    assert receive(close(None)) == closed_by_peer(1005, "", close_reply(None))


@pytest.mark.parametrize("payload", [b"\x00", b"\x03", b"\xe8"])
def test_5_5_1_half_a_close_code_is_refused(payload: bytes) -> None:
    check_failure(masked(CLOSE, payload), 1002, "half a close code")


@pytest.mark.parametrize(
    "code",
    [
        *(0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 1999, 2000, 2999),
        *(5000, 9999, 65535),
    ],
)
@pytest.mark.parametrize("reason", [b"", b"bye"])
def test_7_4_invalid_close_codes_are_refused(code: int, reason: bytes) -> None:
    check_failure(close(code, reason), 1002, f"invalid close code {code}$")


@pytest.mark.parametrize("reason", [b"\xff", b"\xed\xa0\x80", b"cut \xe2\x82"])
def test_8_1_close_reason_must_be_utf_8(reason: bytes) -> None:
    check_failure(close(1000, reason), 1007, "close reason isn't UTF-8")


@pytest.mark.parametrize(
    "late",
    [
        text("late"),
        masked(BINARY, b"late"),
        masked(PING, b"late"),
        close(1001, b"late"),
        b"\xff" * 20,
        header(TEXT, 1000),
    ],
    ids=["text", "binary", "ping", "close", "nonsense", "header"],
)
def test_1_4_nothing_is_read_after_a_close(late: bytes) -> None:
    """Section 1.4: "a peer discards any further data received"."""
    outcome = closed_by_peer(1000, "bye", close_reply(1000))
    assert receive(close(1000, b"bye") + late) == outcome
    # What came before stands.
    outcome.messages.append("before")
    assert receive(text("before") + close(1000, b"bye") + late) == outcome


@pytest.mark.parametrize(
    "late", [text("late"), masked(PING, b"late"), close(1000)], ids=str
)
def test_7_1_7_nothing_is_read_after_a_failure(late: bytes) -> None:
    """Section 7.1.7: "MUST NOT continue to attempt to process data (including
    a responding Close frame)".
    """
    check_failure(
        text("before") + masked(3) + late, 1002, "opcode", messages=["before"]
    )


@pytest.mark.parametrize(
    "code, reason, frame, close_code",
    [
        (1000, "", close_reply(1000), 1000),
        (1001, "going away", close_reply(1001, "going away"), 1001),
        (4999, "x" * 123, close_reply(4999, "x" * 123), 4999),
        (None, "", close_reply(None), 1005),
    ],
)
def test_7_1_2_start_close(
    code: int | None, reason: str, frame: bytes, close_code: int
) -> None:
    protocol = Protocol()
    assert protocol.start_close(code, reason) == frame
    assert feed(protocol, []) == Outcome(
        [], [], State.CLOSING, close_code, reason, True, False, "server", None
    )


def test_7_1_2_start_close_is_normal_by_default() -> None:
    assert Protocol().start_close() == close_reply(1000)


@pytest.mark.parametrize(
    "code, reason",
    [
        (999, ""),
        (1005, ""),
        (1006, ""),
        (1015, ""),
        (5000, ""),
        (None, "reason"),
        (1000, "x" * 124),
        (1000, "\ud800"),
    ],
)
def test_7_4_bad_close_is_not_sent_and_changes_nothing(
    code: int | None, reason: str
) -> None:
    protocol = Protocol()
    with pytest.raises(ValueError):
        protocol.start_close(code, reason)
    assert feed(protocol, []) == feed(Protocol(), [])
    assert protocol.receive_data(text("still open")) == ["still open"]


def start_close(protocol: Protocol) -> None:
    protocol.start_close(1001, "going away")


CLOSING = Outcome(
    [], [], State.CLOSING, 1001, "going away", True, False, "server", None
)
CLOSED = CLOSING._replace(state=State.CLOSED)


@pytest.mark.parametrize(
    "stream",
    [
        text("dropped"),
        masked(BINARY, bytes(1000)),
        fragmented(TEXT, [b"drop", b"ped"]),
        fragmented(BINARY, [b"drop", b"ped"], between=masked(PING)),
        masked(TEXT, b"begin", fin=False),
        # Nothing may follow our close frame, pongs included.
        masked(PING, b"Hello"),
    ],
    ids=["text", "binary", "fragments", "ping between", "first fragment", "ping"],
)
def test_5_5_1_after_our_close_messages_are_dropped_and_nothing_is_sent(
    stream: bytes,
) -> None:
    assert receive(stream, set_up=start_close) == CLOSING
    received = CLOSED._replace(close_received=True)
    assert receive(stream + close(1001), set_up=start_close) == received


def test_5_5_1_message_that_began_before_our_close_is_dropped() -> None:
    def set_up(protocol: Protocol) -> None:
        protocol.receive_data(masked(TEXT, b"be", fin=False))
        start_close(protocol)

    assert receive(masked(CONTINUATION, b"gun"), set_up=set_up) == CLOSING


def test_5_5_3_pong_after_our_close_is_noted() -> None:
    outcome = receive(masked(PONG, b"alive"), set_up=start_close)
    assert outcome == CLOSING._replace(pong=b"alive")


@pytest.mark.parametrize("code", [None, 1000, 1001, 4000])
def test_7_1_5_first_close_frame_gives_code_and_reason(code: int | None) -> None:
    reason = b"" if code is None else b"theirs"
    outcome = receive(close(code, reason), set_up=start_close)
    assert outcome == CLOSED._replace(close_received=True)


@pytest.mark.parametrize(
    "stream",
    [
        masked(3),
        close(999),
        masked(CLOSE, b"\x03"),
        close(1000, b"\xff"),
        masked(TEXT, b"\xff"),
        masked(TEXT, b"\xff", fin=False),
        masked(BINARY, bytes(1001)),
        b"\x81\x00",
    ],
    ids=[
        *("opcode", "close code", "half a close code", "close reason"),
        *("text", "fragment", "size", "unmasked"),
    ],
)
def test_7_1_7_fault_after_our_close_ends_it_without_a_second_close_frame(
    stream: bytes,
) -> None:
    assert receive(stream, limit=1000, set_up=start_close) == CLOSED


# Section 7.1.5, the end of the stream


@pytest.mark.parametrize(
    "before",
    [
        b"",
        b"\x81",
        text("whole")[:-1],
        masked(TEXT, b"begin", fin=False),
        masked(TEXT, b"begin", fin=False) + masked(PING, b"Hello")[:-1],
    ],
    ids=["start", "header", "payload", "fragment", "control"],
)
def test_7_1_5_lost_connection_counts_as_1006(before: bytes) -> None:
    protocol = Protocol()
    assert protocol.receive_data(before) == []
    protocol.receive_eof()
    ended = Outcome([], [], State.CLOSED, 1006, "", False, False, "nobody", None)
    assert feed(protocol, []) == ended
    assert feed(protocol, [text("late"), masked(PING), close()]) == ended
    protocol.receive_eof()
    assert feed(protocol, []) == ended


def test_7_1_5_end_of_the_stream_after_our_close() -> None:
    protocol = Protocol()
    start_close(protocol)
    protocol.receive_eof()
    assert feed(protocol, [close(1000)]) == CLOSED


@pytest.mark.parametrize(
    "stream, code",
    [(close(1001, b"bye"), 1001), (close(None), 1005), (masked(3), 1002)],
)
def test_7_1_5_end_of_the_stream_after_the_close_changes_nothing(
    stream: bytes, code: int
) -> None:
    protocol = Protocol()
    outcome = feed(protocol, [stream])
    assert outcome.close_code == code
    protocol.receive_eof()
    assert feed(protocol, []) == outcome


# Section 8.1, UTF-8


@pytest.mark.parametrize(
    "message",
    [
        "Hello-\u00b5@\u00df\u00f6\u00e4\u00fc\u00e0\u00e1-UTF-8!!",
        "\u03ba\u1f79\u03c3\u03bc\u03b5",
        # First and last of each length, and what surrounds the surrogates.
        *("\x00", "\x7f", "\x80", "\u07ff", "\u0800", "\uffff", "\U00010000"),
        *("\U0010ffff", "\ud7ff", "\ue000"),
        # Byte order mark, noncharacters, replacement character
        *("\ufeff", "\ufeff\ufeffx", "\ufdd0", "\ufffe", "\U0001fffe", "\ufffd"),
        "\U0001f600" * 200,
    ],
    ids=lambda message: ascii(message[:8]),
)
def test_8_1_text_is_utf_8_wherever_it_is_cut(message: str) -> None:
    payload = message.encode()
    check_messages(masked(TEXT, payload), [message])
    check_messages(fragmented(TEXT, [bytes((i,)) for i in payload]), [message])
    for cut in range(min(len(payload), 20) + 1):
        stream = fragmented(TEXT, [payload[:cut], b"", payload[cut:]], masked(PONG))
        check_messages(stream, [message], pong=b"")


def test_8_1_text_is_utf_8_wherever_it_stops_being_ascii() -> None:
    for length in range(1, 20):
        for position in range(length):
            message = "x" * position + "\xe9" + "x" * (length - position - 1)
            payload = message.encode()
            check_messages(masked(TEXT, payload), [message])
            payload = payload.replace(b"\xc3", b"\xff")
            check_failure(masked(TEXT, payload), 1007, "text isn't UTF-8")


#: What isn't UTF-8, with the number of its bytes that could still become UTF-8.
INVALID_UTF_8 = [
    # Continuation bytes where none may be
    ("80", 0),
    ("bf", 0),
    ("8080", 0),
    # Impossible bytes
    ("fe", 0),
    ("ff", 0),
    # Overlong forms
    ("c080", 0),
    ("c1bf", 0),
    ("e08080", 1),
    ("e09fbf", 1),
    ("f0808080", 1),
    ("f08fbfbf", 1),
    ("f888808080", 0),
    ("fc8480808080", 0),
    # Surrogates: no second byte from A0 is right after ED, but Python's decoder
    # waits for the third, because one of its error handlers wants to see it.
    ("eda080", 2),
    ("edafbf", 2),
    ("edb080", 2),
    ("edbfbf", 2),
    ("eda080edb080", 2),
    ("eda020", 2),
    # Beyond U+10FFFF
    ("f4908080", 1),
    ("f4bfbfbf", 1),
    ("f5808080", 0),
    ("f7bfbfbf", 0),
    ("fb", 0),
    # Sequences cut short by what follows
    ("c220", 1),
    ("e28220", 2),
    ("e220", 1),
    ("f0908020", 3),
    ("f09f20", 2),
    ("f020", 1),
    ("c2c2", 1),
    ("e282e2", 2),
]


@pytest.mark.parametrize("invalid, _", INVALID_UTF_8)
@pytest.mark.parametrize(
    "before, after",
    [("", ""), ("\u03ba\u1f79\u03c3\u03bc\u03b5", "edited"), ("x" * 520, "x" * 520)],
    ids=["alone", "in the middle", "in much text"],
)
def test_8_1_text_that_is_not_utf_8_is_refused(
    before: str, after: str, invalid: str, _: int
) -> None:
    payload = before.encode() + bytes.fromhex(invalid) + after.encode()
    stream = text("first")
    check = {"code": 1007, "reason": "text isn't UTF-8", "messages": ["first"]}
    check_failure(stream + masked(TEXT, payload), **check)  # type: ignore[arg-type]
    for cut in range(len(before.encode()), len(before.encode()) + len(invalid) // 2):
        fragments = fragmented(TEXT, [payload[:cut], payload[cut:]])
        check_failure(stream + fragments, **check)  # type: ignore[arg-type]


@pytest.mark.parametrize("invalid, valid", INVALID_UTF_8)
@pytest.mark.parametrize("fin", [True, False])
def test_8_1_connection_fails_with_the_first_byte_that_is_not_utf_8(
    fin: bool, invalid: str, valid: int
) -> None:
    """A frame that promises more isn't awaited."""
    begin = "\u03ba\u1f79x".encode()
    payload = begin + bytes.fromhex(invalid)
    good = len(begin) + valid
    frame = masked(TEXT, payload + bytes(100), fin=fin)
    start = len(frame) - 100 - len(payload)

    for pieces in ([frame[: start + good]], split(frame[: start + good])):
        protocol = Protocol()
        assert feed(protocol, pieces).state is State.OPEN
        protocol.receive_data(frame[start + good : start + good + 1])
        assert protocol.close_code == 1007

    # In a frame of its own
    protocol = Protocol()
    protocol.receive_data(masked(TEXT, b"", fin=False))
    for octet in payload[:good]:
        protocol.receive_data(masked(CONTINUATION, bytes((octet,)), fin=False))
        assert protocol.state is State.OPEN
    protocol.receive_data(masked(CONTINUATION, payload[good : good + 1], fin=False))
    assert protocol.close_code == 1007


@pytest.mark.parametrize(
    "begun", ["c2", "df", "e0a0", "e282", "ed9f", "f0", "f090", "f09080", "f48fbf"]
)
def test_8_1_message_that_ends_inside_a_character_is_refused(begun: str) -> None:
    payload = b"x" + bytes.fromhex(begun)
    reason = "text isn't UTF-8"
    check_messages(masked(TEXT, payload, fin=False), [])
    check_failure(masked(TEXT, payload), 1007, reason)
    check_failure(fragmented(TEXT, [payload, b""]), 1007, reason)
    check_failure(fragmented(TEXT, [payload[:2], payload[2:]]), 1007, reason)
    # The rest of the character is no beginning of the next message.
    check_failure(fragmented(TEXT, [payload, b"", b""]) + text("x"), 1007, reason)


def test_8_1_a_character_cut_by_one_message_does_not_touch_the_next() -> None:
    check_messages(
        fragmented(TEXT, [b"\xe2", b"\x82", b"\xac"]) + text("x") + text("\u20ac"),
        ["\u20ac", "x", "\u20ac"],
    )


@pytest.mark.parametrize("invalid, _", INVALID_UTF_8)
def test_5_6_binary_may_be_anything(invalid: str, _: int) -> None:
    payload = bytes.fromhex(invalid)
    check_messages(
        masked(BINARY, payload) + fragmented(BINARY, [payload, payload]),
        [payload, payload * 2],
    )


# Section 10.4, limits


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("limit", [0, 1, 125, 126, 127, 1000])
def test_10_4_message_up_to_the_limit(opcode: int, limit: int) -> None:
    payload = b"x" * limit
    message: Message = payload.decode() if opcode == TEXT else payload
    half = limit // 2
    check_messages(
        masked(opcode, payload)
        + fragmented(opcode, [payload[:half], payload[half:], b""])
        + masked(opcode, payload),
        [message] * 3,
        limit=limit,
    )


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("limit", [0, 1, 125, 126, 1000, 65535, 65536])
def test_10_4_message_above_the_limit_is_refused_by_its_header(
    opcode: int, limit: int
) -> None:
    reason = f"message is longer than {limit} bytes"
    begin = text("") + header(opcode, limit + 1)
    check_failure(begin, 1009, reason, messages=[""], limit=limit)
    check_failure(begin + b"x" * 9, 1009, reason, messages=[""], limit=limit)


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_10_4_all_fragments_count(opcode: int) -> None:
    begin = fragmented(opcode, [b"123", b"4", b"567"])
    reason = "message is longer than 7 bytes"
    message: Message = "1234567" if opcode == TEXT else b"1234567"
    check_messages(begin + begin, [message, message], limit=7)

    begin = (
        masked(opcode, b"123", fin=False)
        + masked(CONTINUATION, b"4", fin=False)
        + masked(CONTINUATION, b"567", fin=False)
    )
    check_messages(begin, [], limit=7)
    check_messages(begin + masked(CONTINUATION), [message], limit=7)
    check_failure(begin + header(CONTINUATION, 1), 1009, reason, limit=7)
    check_failure(begin + header(CONTINUATION, 2**63 - 1), 1009, reason, limit=7)


def test_10_4_limit_is_in_bytes() -> None:
    check_messages(text("\u20ac\u20ac"), ["\u20ac\u20ac"], limit=6)
    check_failure(text("\u20ac\u20ac"), 1009, "longer than 5 bytes", limit=5)


@pytest.mark.parametrize("length", [2**31, 2**32, 2**63 - 1])
def test_10_4_huge_message_is_refused(length: int) -> None:
    check_failure(header(BINARY, length), 1009, "longer", limit=2**20)


def test_10_4_control_frames_do_not_count() -> None:
    ping = masked(PING, bytes(125))
    check_messages(
        ping + fragmented(TEXT, [b"1", b"2"], between=ping),
        ["12"],
        replies=[pong_reply(bytes(125))] * 2,
        limit=2,
    )
    outcome = receive(close(1000, b"bye"), limit=0)
    assert outcome == closed_by_peer(1000, "bye", close_reply(1000))


def count_kept(protocol: Protocol) -> int:
    """Return how many bytes, characters and list items ``protocol`` holds."""
    return sum(
        len(value)
        for value in gc.get_referents(protocol)
        if isinstance(value, (bytes, bytearray, str, list))
    )


BEGUN = {
    "text": masked(TEXT, b"x" * 5000)[:-1],
    "text fragment": masked(TEXT, b"x" * 5000, fin=False),
    "binary": masked(BINARY, bytes(5000))[:-1],
    "binary fragment": masked(BINARY, bytes(5000), fin=False),
    "header": header(TEXT, 5000)[:-1],
    "control frame": masked(PING, bytes(125))[:-1],
}


@pytest.mark.parametrize(
    "message",
    [
        masked(TEXT, b"x" * 5000),
        masked(BINARY, bytes(5000)),
        fragmented(TEXT, [b"x" * 5000, b"x" * 5000]),
        fragmented(BINARY, [bytes(5000), bytes(5000)]),
    ],
    ids=["text", "binary", "text fragments", "binary fragments"],
)
def test_10_4_nothing_is_kept_of_a_message_that_is_over(message: bytes) -> None:
    for pieces in ([message], split(message)):
        protocol = Protocol()
        feed(protocol, pieces)
        # The masking key may be left.
        assert count_kept(protocol) <= count_kept(Protocol()) + 4


@pytest.mark.parametrize("opcode, character", [(TEXT, "é"), (TEXT, "я"), (BINARY, "я")])
@pytest.mark.parametrize("size", [1, 2])
def test_10_4_short_fragments_take_as_much_as_their_bytes(
    opcode: int, character: str, size: int
) -> None:
    payload = character.encode() * 2000
    fragments = [payload[i : i + size] for i in range(0, len(payload), size)]
    stream = fragmented(opcode, [*fragments, b""])[: -len(masked(CONTINUATION))]
    protocol = Protocol()
    tracemalloc.start()
    try:
        assert protocol.receive_data(stream) == []
        # A growing buffer has some room left.
        assert tracemalloc.get_traced_memory()[0] < 2 * len(payload)
    finally:
        tracemalloc.stop()
    expected = payload.decode() if opcode == TEXT else payload
    assert protocol.receive_data(masked(CONTINUATION)) == [expected]


@pytest.mark.parametrize("begun", BEGUN.values(), ids=BEGUN)
def test_10_4_nothing_is_kept_of_a_connection_that_is_over(begun: bytes) -> None:
    protocol = Protocol()
    feed(protocol, [begun])
    protocol.receive_eof()
    assert count_kept(protocol) <= count_kept(Protocol()) + 4 + len("nobody")


# Sections 5.6 and 6.1, sending


@pytest.mark.parametrize("length", [0, 1, 125, 126, 65535, 65536])
def test_6_1_message_is_one_frame(length: int) -> None:
    protocol = Protocol()
    payload = b"x" * length
    size = header(BINARY, length)[1:-4]
    size = bytes((size[0] & 0x7F,)) + size[1:]
    assert protocol.encode_message(payload) == b"\x82" + size + payload
    assert protocol.encode_message(payload.decode()) == b"\x81" + size + payload


@pytest.mark.parametrize(
    "message", [b"\x00\xff", bytearray(b"\x00\xff"), memoryview(b"\x00\xff")], ids=type
)
def test_5_6_bytes_are_binary(message: bytes | bytearray | memoryview) -> None:
    frame = Protocol().encode_message(message)
    assert frame == b"\x82\x02\x00\xff"
    assert type(frame) is bytes


def test_5_6_str_is_text_in_utf_8() -> None:
    assert Protocol().encode_message("\u20ac") == b"\x81\x03\xe2\x82\xac"
    with pytest.raises(ValueError):
        Protocol().encode_message("\ud800")


@pytest.mark.parametrize("message", [None, 1, 1.5, ["x"], {"x": 1}, object()], ids=type)
def test_5_6_message_is_str_or_bytes(message: object) -> None:
    expected = f"str or bytes-like, not {type(message).__name__}"
    with pytest.raises(TypeError, match=expected):
        Protocol().encode_message(message)  # type: ignore[arg-type]


def test_5_5_2_ping() -> None:
    protocol = Protocol()
    assert protocol.encode_ping() == b"\x89\x00"
    assert protocol.encode_ping(b"Hello") == b"\x89\x05Hello"
    assert protocol.encode_ping(bytearray(b"Hello")) == b"\x89\x05Hello"
    assert protocol.encode_ping(memoryview(b"Hello")) == b"\x89\x05Hello"
    assert protocol.encode_ping(bytes(125)) == b"\x89\x7d" + bytes(125)


def test_5_5_long_ping_is_not_sent() -> None:
    with pytest.raises(ValueError, match="longer than 125 bytes"):
        Protocol().encode_ping(bytes(126))


@pytest.mark.parametrize("payload", ["Hello", 5, None, [1, 2]], ids=type)
def test_5_5_2_ping_payload_is_bytes(payload: object) -> None:
    expected = f"bytes-like, not {type(payload).__name__}"
    with pytest.raises(TypeError, match=expected):
        Protocol().encode_ping(payload)  # type: ignore[arg-type]
