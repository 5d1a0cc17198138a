"""``dwebsocket.protocol`` with permessage-deflate, by sections of RFC 7692.

What the data of a message may be is tested in ``test_deflate``; here are its frames,
as in ``test_protocol``, and ``websockets`` as the oracle, as in
``test_protocol_oracle``.
"""

from __future__ import annotations

import itertools
import random
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets import frames as websockets_frames
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.protocol import State as WebsocketsState
from websockets.server import ServerProtocol

from dwebsocket.deflate import Deflate, Options, negotiate
from dwebsocket.protocol import Message, Protocol, State

from . import test_protocol_oracle as oracle
from .fuzz_targets import TAIL
from .test_protocol import (
    BINARY,
    CLOSE,
    CONTINUATION,
    CONTROL_OPCODES,
    DATA_OPCODES,
    PING,
    TEXT,
    Outcome,
    check_failure,
    check_messages,
    close,
    close_reply,
    count_kept,
    feed,
    header,
    masked,
    pong_reply,
    receive,
    start_close,
    text,
)

#: Fewer than of what isn't compressed, which has been tested.
EXAMPLES = settings(oracle.EXAMPLES, max_examples=oracle.EXAMPLES.max_examples // 4)

#: The bit "compressed".
RSV1 = 4


def agree(options: Options = Options()) -> Deflate:  # noqa: B008
    agreed = negotiate([("permessage-deflate", [])], options)
    assert agreed is not None
    return agreed[1]


agree_to_takeover = partial(agree, Options(True, True))

every_agreement = pytest.mark.parametrize(
    "agree", [agree, agree_to_takeover], ids=["no context", "context"]
)
Agree = Callable[[], Deflate]


def deflate(payload: bytes, level: int = 6) -> bytes:
    """Return the data of a compressed message that refers to no other."""
    stream = zlib.compressobj(level, wbits=-15)
    compressed = stream.compress(payload) + stream.flush(zlib.Z_SYNC_FLUSH)
    return compressed.removesuffix(TAIL)


def compressed(opcode: int, payload: bytes) -> bytes:
    """Return a compressed message in one frame."""
    return masked(opcode, deflate(payload), rsv=RSV1)


def in_fragments(opcode: int, fragments: list[bytes], between: bytes = b"") -> bytes:
    """Return a compressed message: RSV1 is set in its first frame."""
    last = len(fragments) - 1
    return between.join(
        masked(
            opcode if i == 0 else CONTINUATION,
            fragment,
            fin=i == last,
            rsv=0 if i else RSV1,
        )
        for i, fragment in enumerate(fragments)
    )


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


HELLO = bytes.fromhex("f2 48 cd c9 c9 07 00")
LONG = "Grüße, 世界! " * 100


# Section 6, framing


@every_agreement
@pytest.mark.parametrize("message", ["", "Hello", LONG, b"", b"\xff", bytes(9000)])
def test_6_2_compressed_messages(agree: Agree, message: Message) -> None:
    opcode = TEXT if isinstance(message, str) else BINARY
    payload = message.encode() if isinstance(message, str) else message
    data = deflate(payload)
    # In a block without compression.
    stored = deflate(payload, 0)
    check_messages(
        compressed(opcode, payload)
        + in_fragments(opcode, cut(data, 7))
        + in_fragments(opcode, [b"", data, b""])
        + in_fragments(opcode, [b"", *cut(stored, len(stored) // 3 + 1), b""])
        + compressed(opcode, payload),
        [message] * 5,
        agree=agree,
    )


@every_agreement
def test_6_messages_may_be_compressed_or_not(agree: Agree) -> None:
    check_messages(
        text("1")
        + compressed(TEXT, b"2")
        + masked(BINARY, b"3", fin=False)
        + masked(CONTINUATION, b"4")
        + in_fragments(BINARY, cut(deflate(b"5"), 1))
        + text("6" * 200)
        + compressed(TEXT, b"7" * 200),
        ["1", "2", b"34", b"5", "6" * 200, "7" * 200],
        agree=agree,
    )


@pytest.mark.parametrize(
    "frames",
    [
        # 7.2.3.1, one frame and fragments of it
        ["c1 07 f2 48 cd c9 c9 07 00"],
        ["41 03 f2 48 cd", "80 04 c9 c9 07 00"],
        # 7.2.3.3, 7.2.3.4 and 7.2.3.5
        ["c1 0b 00 05 00 fa ff 48 65 6c 6c 6f 00"],
        ["c1 08 f3 48 cd c9 c9 07 00 00"],
        ["c1 0d f2 48 05 00 00 00 ff ff ca c9 c9 07 00"],
    ],
)
def test_7_2_3_examples(frames: list[str]) -> None:
    stream = b""
    for frame in map(bytes.fromhex, frames):
        stream += masked(
            frame[0] & 0x0F, frame[2:], fin=frame[0] > 0x7F, rsv=frame[0] >> 4 & 7
        )
    check_messages(stream, ["Hello"], agree=agree)


def test_7_2_3_2_messages_share_the_window() -> None:
    stream = masked(TEXT, HELLO, rsv=RSV1) + text("between")
    stream += in_fragments(TEXT, cut(bytes.fromhex("f2 00 11 00 00"), 2))
    expected: list[Message] = ["Hello", "between", "Hello"]
    check_messages(stream, expected, agree=agree_to_takeover)
    outcome = receive(stream, agree=agree)
    assert outcome.messages == expected[:2]
    assert outcome.close_code == 1007


@every_agreement
def test_6_control_frames_between_fragments(agree: Agree) -> None:
    check_messages(
        in_fragments(TEXT, cut(deflate(LONG.encode()), 5), masked(PING, b"?")),
        [LONG],
        replies=[pong_reply(b"?")] * ((len(deflate(LONG.encode())) - 1) // 5),
        agree=agree,
    )
    begun = masked(TEXT, deflate(LONG.encode())[:9], fin=False, rsv=RSV1)
    assert receive(begun + close(3000), agree=agree) == Outcome(
        [], [close_reply(3000)], State.CLOSED, 3000, "", True, True, "client", None
    )


@every_agreement
@pytest.mark.parametrize("rsv", range(1, 8))
@pytest.mark.parametrize("fin", [True, False])
@pytest.mark.parametrize("opcode", DATA_OPCODES)
def test_6_1_other_reserved_bits_are_refused(
    agree: Agree, opcode: int, fin: bool, rsv: int
) -> None:
    if rsv == RSV1 and opcode != CONTINUATION:
        rsv = 7
    check_failure(
        text("before") + masked(opcode, HELLO, fin=fin, rsv=rsv),
        1002,
        "reserved bits",
        messages=["before"],
        agree=agree,
    )


@every_agreement
@pytest.mark.parametrize("rsv", [0, RSV1], ids=["plain", "compressed"])
@pytest.mark.parametrize("fin", [True, False])
def test_6_1_reserved_bit_is_refused_behind_the_first_fragment(
    agree: Agree, fin: bool, rsv: int
) -> None:
    check_failure(
        compressed(TEXT, b"before")
        + masked(BINARY, HELLO[:2], rsv=rsv, fin=False)
        + masked(CONTINUATION, HELLO[2:], rsv=RSV1, fin=fin),
        1002,
        "reserved bits",
        messages=["before"],
        agree=agree,
    )


@every_agreement
@pytest.mark.parametrize("opcode", CONTROL_OPCODES)
@pytest.mark.parametrize("payload", [b"", b"\x03\xe8", HELLO])
@pytest.mark.parametrize("before", ["", "message", "fragment"])
def test_5_control_frames_are_not_compressed(
    agree: Agree, opcode: int, payload: bytes, before: str
) -> None:
    check_failure(
        {
            "": b"",
            "message": masked(TEXT, HELLO, rsv=RSV1),
            "fragment": masked(TEXT, HELLO[:2], rsv=RSV1, fin=False),
        }[before]
        + masked(opcode, payload, rsv=RSV1),
        1002,
        "reserved bits",
        messages=["Hello"] if before == "message" else [],
        agree=agree,
    )


def test_6_a_new_message_inside_a_compressed_one_is_refused() -> None:
    check_failure(
        masked(TEXT, HELLO[:2], rsv=RSV1, fin=False) + masked(TEXT, HELLO, rsv=RSV1),
        1002,
        "new message inside",
        agree=agree,
    )


# Data that isn't valid


@every_agreement
@pytest.mark.parametrize(
    "data",
    [b"\xff", b"\x07", HELLO[:-3], HELLO + b"\xff" * 9, b"\x00\x05\x00\x05\x00Hello"],
)
@pytest.mark.parametrize("size", [1, 1000])
def test_damaged_messages_are_refused(agree: Agree, data: bytes, size: int) -> None:
    check_failure(
        text("before") + in_fragments(TEXT, cut(data, size)),
        1007,
        "compressed message isn't valid",
        messages=["before"],
        agree=agree,
    )


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    "payload", [b"\xff", LONG.encode() + b"\xed\xa0\x80", LONG.encode()[:3]]
)
def test_8_1_text_is_utf_8(payload: bytes, size: int) -> None:
    """Section 8.1 of RFC 6455, about what is inflated."""
    check_failure(
        in_fragments(TEXT, cut(deflate(payload), size)),
        1007,
        "text isn't UTF-8",
        agree=agree,
    )


def test_8_1_connection_fails_before_the_message_is_over() -> None:
    data = deflate(b"x" * 1000 + b"\xff") + TAIL
    for begun in (
        masked(TEXT, data, rsv=RSV1, fin=False),
        header(TEXT, 1000, rsv=RSV1, mask=bytes(4)) + data,
    ):
        outcome = feed(Protocol(deflate=agree()), [begun])
        assert outcome.close_code == 1007


# Section 10.4 of RFC 6455: the limit is one of inflated messages


@every_agreement
@pytest.mark.parametrize("size", [10, 10_000])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_size_limit(agree: Agree, opcode: int, size: int) -> None:
    for length in (1000, 1001):
        payload = b"x" * length
        stream = (
            compressed(opcode, b"before")
            + in_fragments(opcode, cut(deflate(payload), size))
            + masked(PING, b"behind")
        )
        before, message = b"before", payload
        if length == 1001:
            outcome = receive(stream, limit=1000, agree=agree)
            assert outcome.close_code == 1009
            assert outcome.close_reason == "message is longer than 1000 bytes"
            assert len(outcome.messages) == 1
        else:
            check_messages(
                stream,
                ["before", message.decode()] if opcode == TEXT else [before, message],
                replies=[pong_reply(b"behind")],
                limit=1000,
                agree=agree,
            )


def test_frame_may_be_longer_than_the_limit() -> None:
    """Compressed, a message may be longer, and have any number of empty blocks."""
    blob = random.Random(1).randbytes(1000)
    data = deflate(blob) + TAIL + (b"\x00" + TAIL) * 1000
    check_messages(
        masked(BINARY, data + b"\x00", rsv=RSV1), [blob], limit=1000, agree=agree
    )


@pytest.mark.parametrize("size", [10, 1_000_000])
@every_agreement
def test_a_bomb_takes_no_more_than_the_limit(agree: Agree, size: int) -> None:
    stream = in_fragments(BINARY, cut(deflate(bytes(50_000_000), 9), size))
    protocol = Protocol(max_message_size=100_000, deflate=agree())
    tracemalloc.start()
    try:
        protocol.receive_data(stream)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert protocol.close_code == 1009
    # The input without its header and mask, and the limit with room to grow.
    assert peak < 3 * len(stream) + 3 * 100_000


# Many messages in one piece


@every_agreement
@pytest.mark.parametrize("size", [10, 300, 999, 1000])
@pytest.mark.parametrize("fragment_size", [1, 1000])
def test_many_bombs_are_inflated_call_by_call(
    agree: Agree, size: int, fragment_size: int
) -> None:
    limit = 1000
    count = 10 * limit // size
    payloads = [b"%-*d" % (size, i % 10**size) for i in range(count)]
    stream = b"".join(
        in_fragments(BINARY, cut(deflate(payload), fragment_size)) + masked(PING, b"?")
        for payload in payloads
    )
    stream += text("behind") + close(3000)
    for pieces in ([stream], cut(stream, 500)):
        protocol = Protocol(max_message_size=limit, deflate=agree())
        messages: list[Message] = []
        was_held = 0
        for piece in pieces:
            data = piece
            while True:
                got = protocol.receive_data(data)
                data = b""
                # The last may come on top of nearly as much.
                assert sum(map(len, got)) < limit + size + len("behind")
                messages += got
                # Nothing behind the last of them was looked at.
                assert len(protocol.replies) <= len(messages)
                if not protocol.is_held:
                    break
                was_held += 1
                assert sum(map(len, got)) >= limit
                assert protocol.state is State.OPEN
        assert messages == [*payloads, "behind"]
        assert protocol.replies == [*[pong_reply(b"?")] * count, close_reply(3000)]
        assert protocol.close_received
        assert was_held >= (5 if pieces == [stream] else 0)


def test_what_comes_while_it_is_held_comes_behind() -> None:
    protocol = Protocol(max_message_size=10, deflate=agree())
    stream = b"".join(compressed(TEXT, b"message %02d" % i) for i in range(4))
    got = protocol.receive_data(stream[:-5])
    assert got == ["message 00"]
    assert protocol.is_held
    assert protocol.receive_data(stream[-5:] + masked(PING)) == ["message 01"]
    assert protocol.is_held
    assert protocol.receive_data(text("behind")) == ["message 02"]
    assert protocol.receive_data(b"") == ["message 03"]
    assert protocol.is_held
    assert protocol.replies == []
    assert protocol.receive_data(b"") == ["behind"]
    assert not protocol.is_held
    assert protocol.replies == [pong_reply()]


def test_it_is_not_held_when_there_is_nothing_behind() -> None:
    protocol = Protocol(max_message_size=5, deflate=agree())
    assert protocol.receive_data(masked(TEXT, HELLO, rsv=RSV1)) == ["Hello"]
    assert not protocol.is_held
    # What isn't compressed takes no more than has come.
    assert protocol.receive_data(text("Hello") * 5) == ["Hello"] * 5
    assert not protocol.is_held


def test_nothing_is_inflated_of_what_will_be_dropped() -> None:
    payload = bytes(100_000)
    begun, *rest = cut(deflate(payload), 20)
    stream = b"".join(compressed(BINARY, payload) for _ in range(200))
    for behind in (close(3000), masked(TEXT, b"\xff", rsv=RSV1) + close(3000)):
        protocol = Protocol(max_message_size=len(payload), deflate=agree())
        first = protocol.receive_data(compressed(BINARY, payload) * 2)
        assert first == [payload]
        assert protocol.is_held
        protocol.receive_data(b"")
        protocol.receive_data(masked(BINARY, begun, rsv=RSV1, fin=False))
        start_close(protocol)
        tracemalloc.start()
        try:
            assert protocol.receive_data(masked(CONTINUATION, b"".join(rest))) == []
            assert protocol.receive_data(stream + behind) == []
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 3 * len(stream + behind)
        assert protocol.close_received
        assert protocol.replies == []


def test_held_messages_are_dropped_after_our_close() -> None:
    protocol = Protocol(max_message_size=5, deflate=agree())
    stream = masked(TEXT, HELLO, rsv=RSV1) * 3 + masked(PING) + close()
    protocol.receive_data(stream)
    assert protocol.is_held
    start_close(protocol)
    assert protocol.receive_data(b"") == []
    assert not protocol.is_held
    assert protocol.close_received
    assert protocol.replies == []


def test_nothing_is_kept_of_a_connection_that_is_over() -> None:
    protocol = Protocol(max_message_size=5, deflate=agree())
    protocol.receive_data(masked(TEXT, HELLO, rsv=RSV1) * 100)
    assert protocol.is_held
    protocol.receive_eof()
    assert not protocol.is_held
    # The masking key may be left.
    assert count_kept(protocol) <= count_kept(Protocol()) + 4 + len("nobody")
    assert protocol.receive_data(b"") == []


# Sending


@pytest.mark.parametrize("takeover", [False, True])
def test_6_1_messages_are_sent_compressed(takeover: bool) -> None:
    protocol = Protocol(deflate=agree(Options(takeover, threshold=100)))
    extension = PerMessageDeflate(not takeover, False, 15, 15)
    sent: list[Any] = [LONG, LONG.encode(), b"x" * 100, "x" * 70_000]
    frames = [protocol.encode_message(message) for message in sent * 2]
    for frame, message in zip(frames, sent * 2, strict=True):
        assert frame[0] == 0xC0 | (TEXT if isinstance(message, str) else BINARY)
        payload = frame[2:] if frame[1] < 126 else frame[4:]
        assert len(frame) < len(message) / 2
        decoded = extension.decode(
            websockets_frames.Frame(
                websockets_frames.Opcode(frame[0] & 0x0F), payload, rsv1=True
            )
        )
        assert not decoded.rsv1
        assert bytes(decoded.data) == (
            message.encode() if isinstance(message, str) else message
        )
    if takeover:
        assert len(frames[4]) < len(frames[0])
    else:
        assert frames[4:] == frames[:4]


@every_agreement
def test_6_1_messages_are_sent_as_they_are(agree: Agree) -> None:
    protocol = Protocol(deflate=agree())
    for message in ("", "x" * 100, b"", b"x" * 255):
        assert protocol.encode_message(message) == Protocol().encode_message(message)
    assert protocol.encode_ping(b"x" * 125)[0] == 0x80 | PING
    assert protocol.start_close(1000, "x" * 123)[0] == 0x80 | CLOSE


def test_6_1_messages_that_become_no_shorter_are_sent_as_they_are() -> None:
    blob = random.Random(1).randbytes(1000)
    assert Protocol(deflate=agree()).encode_message(blob) == (
        Protocol().encode_message(blob)
    )


# Against websockets


class DeflateOracle(oracle.Oracle):
    """The verdict of ``websockets`` with its own extension.

    Where that calls data invalid with 1002 the verdict is 1007.  It counts what is
    inflated in a way of its own, so that the limit isn't its affair here.
    """

    def __init__(self, takeover: bool) -> None:
        super().__init__(None)
        self.takeover = takeover
        self.protocol.extensions = [self.make_extension()]

    def make_extension(self) -> PerMessageDeflate:
        return PerMessageDeflate(not self.takeover, True, 15, 15)

    def fault_of(self, frame: oracle.RawFrame) -> int:
        fault = self.protocol.parser_exc
        if str(fault) == "decompression failed":
            return 1007
        return super().fault_of(frame)

    def replay(self, first: int, header: bytes, payload: bytes) -> ServerProtocol:
        protocol = ServerProtocol(state=WebsocketsState.OPEN, max_size=None)
        protocol.extensions = [self.make_extension()]
        protocol.receive_data(self.history)
        frame = oracle.encode_header(first, len(payload), header[-4:]) + payload
        protocol.receive_data(frame)
        return protocol


@st.composite
def conversations(draw: st.DrawFn) -> tuple[bool, bytes]:
    """Draw whether there is context takeover, and a client's stream.

    It has messages, compressed or not, and control frames.
    """
    takeover = draw(st.booleans())
    level = draw(st.sampled_from([0, 1, 6, 9]))
    stream = zlib.compressobj(level, wbits=-15)
    sent = b""
    for _ in range(draw(st.integers(1, 4))):
        if draw(st.booleans()):
            sent += draw(oracle.messages() | oracle.CONTROLS)
            continue
        opcode = draw(st.sampled_from([TEXT, BINARY]))
        payload = (
            draw(oracle.TEXTS).encode() if opcode == TEXT else draw(oracle.BLOBS)
        ) * draw(st.sampled_from([1, 1, 2, 50]))
        if not takeover:
            stream = zlib.compressobj(level, wbits=-15)
        data = stream.compress(payload) + stream.flush(zlib.Z_SYNC_FLUSH)
        data = data.removesuffix(TAIL) or b"\x00"
        cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=3)))
        first = 0x40 | opcode
        for start, end in itertools.pairwise([0, *cuts, len(data)]):
            fin = 0x80 if end == len(data) and start == (cuts or [0])[-1] else 0
            sent += oracle.encode_frame(
                fin | first, data[start:end], draw(oracle.MASKS)
            )
            if fin:
                break
            first = CONTINUATION
            if draw(st.booleans()):
                sent += draw(oracle.CONTROLS)
    return takeover, sent


def make_protocol(takeover: bool, limit: int | None = None) -> Protocol:
    options = Options(client_context_takeover=takeover)
    return Protocol(max_message_size=limit, deflate=agree(options))


def judge(protocol: Protocol, pieces: Iterator[bytes]) -> oracle.Verdict:
    """Do as ``oracle.judge``, calling again while the protocol is held."""

    def calls() -> Iterator[bytes]:
        for piece in pieces:
            yield piece
            while protocol.is_held:
                yield b""

    return oracle.judge(protocol, calls())


def check(takeover: bool, stream: bytes, sizes: list[int]) -> oracle.Verdict:
    """Check that ours and the oracle agree on ``stream``, however it is cut."""
    stream = oracle.complete_header(stream)
    expected = DeflateOracle(takeover)
    expected.receive(stream)
    for pieces in ([stream], oracle.cut(stream, [1]), oracle.cut(stream, sizes)):
        assert judge(make_protocol(takeover), iter(pieces)) == expected.verdict
    return expected.verdict


@EXAMPLES
@given(conversations(), st.just(b"") | oracle.CLOSES, oracle.SIZES)
def test_valid_streams(
    conversation: tuple[bool, bytes], close: bytes, sizes: list[int]
) -> None:
    takeover, stream = conversation
    verdict = check(takeover, stream + close, sizes)
    assert verdict.is_closed == bool(close)


@EXAMPLES
@given(conversations(), oracle.ODD, oracle.SIZES)
def test_odd_frames_behind_valid_ones(
    conversation: tuple[bool, bytes], frame: bytes, sizes: list[int]
) -> None:
    takeover, stream = conversation
    # What isn't whole DEFLATE blocks websockets may take for a message.
    if frame and frame[0] & 0x70 == 0x40 and frame[0] & 0x0F in (TEXT, BINARY):
        frame = bytes((frame[0] ^ 0x40,)) + frame[1:]
    check(takeover, stream + frame, sizes)


@EXAMPLES
@given(conversations(), oracle.LIMITS, oracle.SIZES)
def test_valid_streams_under_a_limit(
    conversation: tuple[bool, bytes], limit: int | None, sizes: list[int]
) -> None:
    """Up to the first message that is too long, all is as without a limit."""
    takeover, stream = conversation
    free = judge(make_protocol(takeover), iter([stream]))
    messages = list(
        itertools.takewhile(
            lambda message: limit is None or length(message) <= limit, free.messages
        )
    )
    for pieces in ([stream], oracle.cut(stream, [1]), oracle.cut(stream, sizes)):
        verdict = judge(make_protocol(takeover, limit), iter(pieces))
        assert verdict.messages == messages
        if len(messages) == len(free.messages):
            assert verdict == free
        else:
            assert verdict.close_code == verdict.close_answered == 1009
            assert verdict.pongs == free.pongs[: len(verdict.pongs)]


def length(message: Message) -> int:
    return len(message.encode() if isinstance(message, str) else message)


@EXAMPLES
@given(conversations(), st.data(), oracle.LIMITS, oracle.SIZES)
def test_damaged_streams(
    conversation: tuple[bool, bytes],
    data: st.DataObject,
    limit: int | None,
    sizes: list[int],
) -> None:
    """However it is cut, the same comes of it; of several faults one is named."""
    takeover, stream = conversation
    damaged = bytearray(stream)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(stream) - 1))] ^= 1 << data.draw(
            st.integers(0, 7)
        )
    whole, by_byte, by_sizes = (
        judge(make_protocol(takeover, limit), iter(pieces))
        for pieces in (
            [bytes(damaged)],
            oracle.cut(bytes(damaged), [1]),
            oracle.cut(bytes(damaged), sizes),
        )
    )
    for verdict in (by_byte, by_sizes):
        if {whole.close_code, verdict.close_code} == {1007, 1009}:
            verdict.close_code = whole.close_code
            verdict.close_answered = whole.close_answered
        assert verdict == whole


def test_the_oracle_is_asked_for_compressed_messages() -> None:
    expected = DeflateOracle(takeover=True)
    expected.receive(compressed(TEXT, b"Hello") + masked(TEXT, b"\xff" * 9, rsv=RSV1))
    assert expected.verdict.messages == ["Hello"]
    assert expected.verdict.close_code == 1007
