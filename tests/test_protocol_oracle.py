"""``dwebsocket.protocol`` against an independent implementation of RFC 6455.

The sans-I/O ``ServerProtocol`` of ``websockets`` gets the same bytes; messages,
pongs and close codes must be the same.  Where that package leaves something to
its upper layers, is laxer than the RFC, or comes to the same verdict with a later
byte, ``Oracle`` makes up for it, each time with the reason.

The examples are the same in every run.  DWEBSOCKET_HYPOTHESIS_EXAMPLES in the
environment asks for that many per test instead, chosen at random.
"""

from __future__ import annotations

import codecs
import dataclasses
import itertools
import os
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets import frames as websockets_frames
from websockets.client import ClientProtocol
from websockets.protocol import State as WebsocketsState
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from dwebsocket.protocol import Message, Protocol, State

EXAMPLES = settings(
    max_examples=int(os.environ.get("DWEBSOCKET_HYPOTHESIS_EXAMPLES", "250")),
    derandomize="DWEBSOCKET_HYPOTHESIS_EXAMPLES" not in os.environ,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


# The verdict on a stream


@dataclasses.dataclass
class Verdict:
    """What a server made of the bytes of a client."""

    messages: list[Message] = dataclasses.field(default_factory=list)
    #: Payloads of the pongs it sent.
    pongs: list[bytes] = dataclasses.field(default_factory=list)
    #: Code in the close frame it answered with, 1005: empty, None: no answer.
    close_answered: int | None = None
    #: Of the first close frame that was sent or received.
    close_code: int | None = None
    #: Of the client's close frame, if that was the first.  What a server says
    #: of a fault is its own affair.
    close_reason: str = ""
    close_received: bool = False
    #: Whose close frame was the first.
    closed_by: str = ""
    #: Nothing more is read.
    is_closed: bool = False
    #: Payload of the last pong received.
    pong: bytes | None = None

    def add_reply(self, frame: bytes) -> None:
        """Note a frame that was sent; pongs and close frames are short."""
        assert frame[1] == len(frame) - 2
        if frame[0] == 0x80 | PONG:
            assert self.close_answered is None
            self.pongs.append(frame[2:])
        else:
            assert frame[0] == 0x80 | CLOSE
            assert self.close_answered is None
            self.close_answered = int.from_bytes(frame[2:4], "big") or 1005


def judge(protocol: Protocol, pieces: Iterable[bytes]) -> Verdict:
    """Return what ours makes of ``pieces``."""
    verdict = Verdict()
    for piece in pieces:
        verdict.messages += protocol.receive_data(piece)
    for reply in protocol.replies:
        verdict.add_reply(reply)
    verdict.close_code = protocol.close_code
    if protocol.close_received:
        verdict.close_reason = protocol.close_reason
    verdict.close_received = protocol.close_received
    verdict.closed_by = protocol.closed_by
    verdict.is_closed = protocol.state is State.CLOSED
    verdict.pong = protocol.pong
    return verdict


# The oracle


class RawFrame(NamedTuple):
    """A frame as it lies in a stream, its payload perhaps not all there."""

    first: int
    length: int
    header: bytes
    payload: bytes

    @property
    def is_control(self) -> bool:
        return bool(self.first & 0x08)

    @property
    def is_complete(self) -> bool:
        return len(self.payload) == self.length

    @property
    def is_length_valid(self) -> bool:
        """Tell whether the payload length is as section 5.2 wants it."""
        if self.header[1] & 0x7F == 127:
            return 0x10000 <= self.length < 2**63
        return self.header[1] & 0x7F < 126 or self.length >= 126


def header_size(second: int) -> int:
    return {126: 8, 127: 14}.get(second & 0x7F, 6)


def split_frames(stream: bytes) -> Iterator[RawFrame]:
    """Yield the frames of ``stream``; behind an unmasked one there are none."""
    position = 0
    while position < len(stream):
        first, second = stream[position : position + 2]
        start = position + header_size(second)
        header = stream[position:start]
        if not second & 0x80:
            yield RawFrame(first, 0, stream[position:], b"")
            return
        length = second & 0x7F
        if length > 125:
            length = int.from_bytes(header[2:-4], "big")
        yield RawFrame(first, length, header, stream[start : start + length])
        position = start + length


def complete_header(stream: bytes) -> bytes:
    """Return ``stream``, lengthened until its last frame has a whole header.

    A header that is cut may be noticed as faulty by one side and not yet by the
    other: reserved bits, for example, ours looks at when the header is whole.
    """
    position = 0
    while True:
        rest = stream[position:]
        if not rest:
            return stream
        if len(rest) == 1:
            stream += b"\x80"
            continue
        if not rest[1] & 0x80:
            return stream
        missing = header_size(rest[1]) - len(rest)
        if missing > 0:
            # The zeros may be a length, for which there is more to add.
            stream += bytes(missing)
        frame = next(split_frames(stream[position:]))
        if not frame.is_complete:
            return stream
        position += len(frame.header) + frame.length


class Oracle:
    """The verdict of ``websockets``, frame by frame."""

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.verdict = Verdict()
        self.protocol = ServerProtocol(state=WebsocketsState.OPEN, max_size=limit)
        # Whole frames that went well.
        self.history = b""
        # Whether we have sent a close frame of our own accord.
        self.is_closing = False
        # The message that is arriving.
        self.payload = b""
        self.decoder: codecs.IncrementalDecoder | None = None

    def start_close(self, code: int) -> None:
        self.protocol.send_close(code)
        self.protocol.data_to_send()
        self.is_closing = True
        self.verdict.close_code = code
        self.verdict.closed_by = "server"

    def receive(self, stream: bytes) -> None:
        for frame in split_frames(stream):
            if not self.verdict.is_closed:
                self.receive_frame(frame)

    def receive_frame(self, frame: RawFrame) -> None:
        # websockets takes any length encoding.  Section 5.2: "the minimal number
        # of bytes MUST be used to encode the length", "the most significant bit
        # MUST be 0".
        if not frame.is_length_valid:
            self.fail(1002)
            return

        # websockets counts a control frame towards the message around it.  The
        # limit is one of messages, a control frame has its own of 125 bytes.
        self.protocol.max_message_size = None if frame.is_control else self.limit
        self.protocol.receive_data(frame.header + frame.payload)

        sent = self.protocol.data_to_send()
        close = self.protocol.close_rcvd
        if self.protocol.parser_exc is not None:
            # websockets calls a close frame between fragments an error.  Section
            # 5.4: "Control frames (...) MAY be injected in the middle of a
            # fragmented message."  The close frame itself was found good.
            if close is not None and self.protocol.current_size is not None:
                self.receive_close(close)
                if not self.is_closing:
                    self.verdict.close_answered = close.code
                return
            self.fail(self.fault_of(frame))
        elif not frame.is_complete:
            self.receive_incomplete(frame)
        else:
            self.history += frame.header + frame.payload
            for reply in sent:
                # websockets answers pings after its own close frame, which the
                # RFC leaves open; ours sends nothing after a close frame.
                if reply and not self.is_closing:
                    self.verdict.add_reply(reply)
            for event in self.protocol.events_received():
                assert isinstance(event, websockets_frames.Frame)
                if event.opcode == PONG:
                    self.verdict.pong = bytes(event.data)
                elif event.opcode < 8:
                    self.receive_fragment(event)
            if close is not None:
                self.receive_close(close)

    def receive_fragment(self, event: websockets_frames.Frame) -> None:
        """Do what the upper layers of websockets do: messages, UTF-8."""
        if event.opcode != CONTINUATION:
            self.payload = b""
            self.decoder = None
            if event.opcode == TEXT:
                self.decoder = codecs.getincrementaldecoder("utf-8")()
        payload = bytes(event.data)
        self.payload += payload
        message: Message = self.payload
        if self.decoder is not None:
            try:
                self.decoder.decode(payload, event.fin)
            except UnicodeDecodeError:
                self.fail(1007)
                return
            if event.fin:
                message = self.payload.decode()
        if event.fin and not self.is_closing:
            self.verdict.messages.append(message)

    def receive_incomplete(self, frame: RawFrame) -> None:
        """Judge a frame whose payload isn't all there.

        websockets looks at a frame when it has the whole of it, ours at the
        header when that is whole and at text as it arrives.
        """
        if self.is_header_refused(frame):
            self.fail(1002)
        elif not frame.is_control:
            # What has arrived says as much as a fragment of that length.
            fragment = self.replay(frame.first & 0x7F, frame.header, frame.payload)
            (*_, event) = fragment.events_received()
            assert isinstance(event, websockets_frames.Frame)
            assert not event.fin
            self.receive_fragment(event)

    def receive_close(self, close: websockets_frames.Close) -> None:
        self.verdict.close_received = True
        self.verdict.is_closed = True
        if self.verdict.close_code is None:
            self.verdict.close_code = close.code
            self.verdict.closed_by = "client"
        # Ours doesn't keep the reason of a second close frame.
        self.verdict.close_reason = "" if self.is_closing else close.reason

    def fail(self, code: int) -> None:
        self.verdict.is_closed = True
        if not self.is_closing:
            self.verdict.close_code = code
            self.verdict.close_answered = code
            self.verdict.closed_by = "server"

    def fault_of(self, frame: RawFrame) -> int:
        """Return the close code of the first fault of a frame that has failed."""
        if self.is_closing:
            return 1000  # Not sent.
        assert self.protocol.close_sent is not None
        code = self.protocol.close_sent.code
        # Of two faults in one frame, websockets takes the size before anything
        # else in the header and the close reason before the close code; ours
        # goes by their order in the frame.
        if code == 1009 and self.is_header_refused(frame):
            return 1002
        if code == 1007:
            only_code = self.replay(frame.first, frame.header, frame.payload[:2])
            if self.is_refused(only_code):
                return 1002
        return code

    def is_header_refused(self, frame: RawFrame) -> bool:
        """Tell whether the frame is faulty whatever its payload, limit apart.

        That is to say: as faulty with no payload, or with the shortest payload
        that is too long for a control frame.
        """
        length = 126 if frame.is_control and frame.length > 125 else 0
        return self.is_refused(self.replay(frame.first, frame.header, bytes(length)))

    def is_refused(self, protocol: ServerProtocol) -> bool:
        # A good close frame between fragments isn't faulty, see receive_frame.
        return protocol.parser_exc is not None and protocol.close_rcvd is None

    def replay(self, first: int, header: bytes, payload: bytes) -> ServerProtocol:
        """Return a copy of the oracle that got this frame instead of the last."""
        protocol = ServerProtocol(state=WebsocketsState.OPEN, max_size=None)
        protocol.receive_data(self.history)
        frame = encode_header(first, len(payload), header[-4:]) + payload
        protocol.receive_data(frame)
        return protocol


# What a client sends


def encode_header(first: int, length: int, mask: bytes) -> bytes:
    if length < 126:
        return bytes((first, 0x80 | length)) + mask
    if length < 0x10000:
        return bytes((first, 0xFE)) + length.to_bytes(2, "big") + mask
    return bytes((first, 0xFF)) + length.to_bytes(8, "big") + mask


def encode_frame(first: int, payload: bytes, mask: bytes) -> bytes:
    length = len(payload)
    key = (mask * (length // 4 + 1))[:length]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")
    return encode_header(first, length, mask) + masked.to_bytes(length, "big")


#: Any masking key, often one that looks like the start of a short message.
MASKS = st.binary(min_size=4, max_size=4) | st.sampled_from(
    [b"\x81\x80\x81\x80", b"\x82\x81\x82\x81", b"\x81\x82\x81\x82"]
)
LENGTHS = st.one_of(
    st.integers(0, 10),
    st.integers(120, 130),
    st.integers(505, 520),
    st.integers(10, 700),
)
LONG_TEXT = "a\u00e9\u20ac\U0001f600" * 175
LONG_BLOB = bytes(range(256)) * 3
TEXTS = st.text(max_size=20) | LENGTHS.map(lambda length: LONG_TEXT[:length])
BLOBS = st.binary(max_size=20) | LENGTHS.map(lambda length: LONG_BLOB[:length])
CONTROLS = st.builds(
    encode_frame,
    st.sampled_from([0x80 | PING, 0x80 | PONG]),
    st.binary(max_size=20) | st.integers(0, 125).map(bytes),
    MASKS,
)
CODES = st.sampled_from([*range(1000, 1004), *range(1007, 1015), 3000, 4999])


@st.composite
def messages(draw: st.DrawFn, texts: st.SearchStrategy[bytes] | None = None) -> bytes:
    """Draw a message in one or more frames, maybe with control frames between.

    With ``texts`` it is one of these, UTF-8 or not, otherwise any message.
    """
    if texts is not None:
        opcode, payload = TEXT, draw(texts)
    elif draw(st.booleans()):
        opcode, payload = TEXT, draw(TEXTS).encode()
    else:
        opcode, payload = BINARY, draw(BLOBS)
    cuts = draw(st.lists(st.integers(0, len(payload)), max_size=3).map(sorted))
    stream = b""
    for start, end in itertools.pairwise([0, *cuts, len(payload)]):
        stream += encode_frame(opcode, payload[start:end], draw(MASKS))
        opcode = CONTINUATION
        if draw(st.booleans()) and cuts:
            stream += draw(CONTROLS)
    # FIN goes to the last data frame.
    frames = list(split_frames(stream))
    last = max(i for i, frame in enumerate(frames) if not frame.is_control)
    return b"".join(
        bytes((frame.first | (0x80 if i == last else 0),))
        + frame.header[1:]
        + frame.payload
        for i, frame in enumerate(frames)
    )


CLOSES = st.builds(
    lambda code, reason, mask: encode_frame(
        0x80 | CLOSE, code.to_bytes(2, "big") + reason.encode()[:123], mask
    ),
    CODES,
    st.text(st.characters(max_codepoint=0x7F), max_size=125) | st.text(max_size=30),
    MASKS,
) | MASKS.map(lambda mask: encode_frame(0x80 | CLOSE, b"", mask))

VALID = st.builds(
    lambda parts, close: b"".join(parts) + close,
    st.lists(messages() | CONTROLS, max_size=4),
    st.just(b"") | CLOSES,
)

#: Pieces of UTF-8, whole characters and what is none.
UTF_8_PIECES = st.sampled_from(
    [
        *(b"x", b"\xc3\xa9", b"\xe2\x82\xac", b"\xf0\x9f\x98\x80"),
        *(bytes((i,)) for i in (0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF)),
        *(bytes((i,)) for i in (0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE2, 0xED, 0xEF)),
        *(bytes((i,)) for i in (0xF0, 0xF1, 0xF4, 0xF5, 0xF8, 0xFE, 0xFF)),
    ]
)
UTF_8 = st.lists(UTF_8_PIECES, max_size=8).map(b"".join)


@st.composite
def odd_frames(draw: st.DrawFn) -> bytes:
    """Draw a frame with any first byte and any form and value of the length."""
    opcode = draw(st.sampled_from([CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG]))
    first = draw(st.just(0x80 | opcode) | st.just(opcode) | st.integers(0, 255))
    payload = draw(st.binary(max_size=20) | st.integers(120, 130).map(bytes))
    length = draw(
        st.just(len(payload))
        | st.integers(0, 200)
        | st.sampled_from([0xFFFF, 0x10000, 2**32, 2**63 - 1, 2**63, 2**64 - 1])
    )
    form = draw(st.sampled_from([125, 126, 127]))
    if form == 125 and length > 125:
        form = 126
    if form == 126 and length > 0xFFFF:
        form = 127
    mask_bit = draw(st.sampled_from([0x80] * 9 + [0]))
    header = bytes((first, mask_bit | (length if form == 125 else form)))
    header += length.to_bytes({125: 1, 126: 2, 127: 8}[form], "big")[form == 125 :]
    return header + draw(MASKS) + payload


ODD = st.one_of(
    odd_frames(),
    messages(UTF_8),
    # Any close code, any reason
    st.builds(
        encode_frame,
        st.just(0x80 | CLOSE),
        st.builds(
            lambda code, reason: code.to_bytes(2, "big") + reason,
            CODES | st.integers(900, 5100) | st.integers(0, 0xFFFF),
            UTF_8 | st.binary(max_size=123),
        )
        | st.binary(max_size=2),
        MASKS,
    ),
    # Any kind of frame out of turn
    st.builds(
        encode_frame,
        st.builds(
            lambda fin, opcode: fin | opcode,
            st.sampled_from([0x00, 0x80]),
            st.sampled_from([CONTINUATION, TEXT, BINARY, PING]),
        ),
        st.binary(max_size=5),
        MASKS,
    ),
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Draw a stream with odd parts, or with odd changes to good parts."""
    parts = draw(st.lists(messages() | CONTROLS | CLOSES | ODD, max_size=5))
    stream = bytearray(b"".join(parts))
    for change in draw(
        st.lists(st.sampled_from(["flip", "delete", "insert", "cut"]), max_size=2)
    ):
        position = draw(st.integers(0, len(stream)))
        if change == "flip" and position < len(stream):
            stream[position] ^= 1 << draw(st.integers(0, 7))
        elif change == "delete":
            del stream[position : position + draw(st.integers(1, 4))]
        elif change == "insert":
            stream[position:position] = draw(st.binary(min_size=1, max_size=4))
        elif change == "cut":
            del stream[position:]
    return bytes(stream)


STREAMS = VALID | damaged() | st.binary(max_size=40)
LIMITS = st.none() | st.integers(0, 60) | st.integers(0, 1500) | st.just(2**20)
SIZES = st.lists(st.integers(1, 30) | st.integers(1, 400), min_size=1, max_size=5)


def cut(stream: bytes, sizes: list[int]) -> Iterator[bytes]:
    """Yield ``stream`` in pieces of ``sizes``, in turn."""
    position = 0
    for size in itertools.cycle(sizes):
        if position >= len(stream):
            return
        yield stream[position : position + size]
        position += size


# The properties


def check(stream: bytes, limit: int | None, sizes: list[int]) -> Verdict:
    """Check that ours and the oracle agree on ``stream``, however it is cut."""
    stream = complete_header(stream)
    oracle = Oracle(limit)
    oracle.receive(stream)
    for pieces in ([stream], cut(stream, [1]), cut(stream, sizes)):
        assert judge(Protocol(max_message_size=limit), pieces) == oracle.verdict
    return oracle.verdict


@EXAMPLES
@given(VALID, SIZES)
def test_valid_streams(stream: bytes, sizes: list[int]) -> None:
    verdict = check(stream, None, sizes)
    assert verdict.is_closed == verdict.close_received


@EXAMPLES
@given(VALID, LIMITS, SIZES)
def test_valid_streams_under_a_limit(
    stream: bytes, limit: int | None, sizes: list[int]
) -> None:
    verdict = check(stream, limit, sizes)
    assert verdict.close_received or verdict.close_code in (None, 1009)


@EXAMPLES
@given(damaged(), LIMITS, SIZES)
def test_damaged_streams(stream: bytes, limit: int | None, sizes: list[int]) -> None:
    check(stream, limit, sizes)


@EXAMPLES
@given(st.lists(messages() | CONTROLS, max_size=2), odd_frames(), LIMITS, SIZES)
def test_any_header(
    before: list[bytes], frame: bytes, limit: int | None, sizes: list[int]
) -> None:
    check(b"".join(before) + frame, limit, sizes)


@EXAMPLES
@given(st.binary(max_size=60), LIMITS, SIZES)
def test_any_bytes(stream: bytes, limit: int | None, sizes: list[int]) -> None:
    check(stream, limit, sizes)


@EXAMPLES
@given(
    st.lists(messages() | CONTROLS, max_size=2), st.booleans(), CODES, damaged(), SIZES
)
def test_after_our_close(
    before: list[bytes], is_begun: bool, code: int, after: bytes, sizes: list[int]
) -> None:
    if is_begun:
        before.append(encode_frame(TEXT, b"begun", b"mask"))
    after = complete_header(after)
    oracle = Oracle(1000)
    oracle.receive(b"".join(before))
    if oracle.verdict.is_closed:
        # One of the messages is too long.
        return
    oracle.start_close(code)
    oracle.receive(after)
    for pieces in ([after], cut(after, [1]), cut(after, sizes)):
        protocol = Protocol(max_message_size=1000)
        verdict = judge(protocol, before)
        protocol.replies.clear()
        protocol.start_close(code)
        closing = judge(protocol, pieces)
        if not protocol.close_received:
            assert closing.close_reason == ""
        assert (closing.messages, protocol.replies) == ([], [])
        verdict = dataclasses.replace(
            closing, messages=verdict.messages, pongs=verdict.pongs
        )
        assert verdict == oracle.verdict


@EXAMPLES
@given(STREAMS, LIMITS, SIZES, st.integers(0))
def test_result_does_not_depend_on_how_the_stream_is_cut(
    stream: bytes, limit: int | None, sizes: list[int], end: int
) -> None:
    whole, by_byte, by_sizes = (Protocol(max_message_size=limit) for _ in range(3))
    verdict = judge(whole, [stream])
    assert judge(by_byte, cut(stream, [1])) == verdict
    assert judge(by_sizes, cut(stream, sizes)) == verdict
    for protocol in (by_byte, by_sizes):
        for name in Protocol.__slots__:
            if not name.startswith("_") and name != "message":
                assert getattr(protocol, name) == getattr(whole, name)

    # What a part of the stream gives, the whole gives as well, and first.
    part = Protocol(max_message_size=limit)
    begin = judge(part, [stream[: end % (len(stream) + 1)]])
    assert verdict.messages[: len(begin.messages)] == begin.messages
    assert whole.replies[: len(part.replies)] == part.replies
    if begin.is_closed:
        assert begin == verdict


#: Section 4 of RFC 3629, "Syntax of UTF-8 Byte Sequences".
WELL_FORMED = re.compile(
    rb"(?:[\x00-\x7f]"
    rb"|[\xc2-\xdf][\x80-\xbf]"
    rb"|\xe0[\xa0-\xbf][\x80-\xbf]"
    rb"|[\xe1-\xec\xee\xef][\x80-\xbf]{2}"
    rb"|\xed[\x80-\x9f][\x80-\xbf]"
    rb"|\xf0[\x90-\xbf][\x80-\xbf]{2}"
    rb"|[\xf1-\xf3][\x80-\xbf]{3}"
    rb"|\xf4[\x80-\x8f][\x80-\xbf]{2})*"
)


@EXAMPLES
@given(UTF_8, st.data(), SIZES)
def test_8_1_text_is_what_rfc_3629_calls_utf_8(
    payload: bytes, data: st.DataObject, sizes: list[int]
) -> None:
    """Both sides above use the decoder of the standard library; this one doesn't."""
    stream = data.draw(messages(st.just(payload)))
    verdict = check(stream, None, sizes)
    if WELL_FORMED.fullmatch(payload):
        assert verdict.messages == [payload.decode()]
        assert not verdict.is_closed
    else:
        assert verdict.messages == []
        assert verdict.close_code == 1007


@EXAMPLES
@given(
    st.lists(TEXTS | BLOBS | st.sampled_from([65535, 65536]).map(bytes), max_size=4),
    st.binary(max_size=125),
    st.none() | CODES,
)
def test_frames_are_understood(
    sent: list[Message], ping: bytes, code: int | None
) -> None:
    """What ours sends is to a client what was meant."""
    protocol = Protocol()
    client = ClientProtocol(
        parse_uri("ws://example.com/"), state=WebsocketsState.OPEN, max_size=None
    )
    for message in sent:
        client.receive_data(protocol.encode_message(message))
    client.receive_data(protocol.encode_ping(ping))
    reason = "" if code is None else "bye \u20ac"
    client.receive_data(protocol.start_close(code, reason))
    assert client.parser_exc is None
    *received, last_ping, close = client.events_received()
    understood = []
    for event in received:
        assert isinstance(event, websockets_frames.Frame)
        assert event.fin
        data = bytes(event.data)
        understood.append(data.decode() if event.opcode == TEXT else data)
    assert understood == sent
    assert last_ping == websockets_frames.Frame(websockets_frames.Opcode.PING, ping)
    assert client.close_rcvd == websockets_frames.Close(code or 1005, reason)

    # The client's answers come back masked.
    answers = b"".join(client.data_to_send())
    verdict = judge(protocol, [answers])
    assert verdict.pong == ping
    assert verdict.is_closed
    assert verdict.close_received
