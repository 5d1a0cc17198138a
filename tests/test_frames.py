"""The frame codec of ``dwebsocket.frames``, by sections of RFC 6455.

Every header is parsed whole, byte by byte and with data before and behind it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from dwebsocket.exceptions import InvalidPayload, ProtocolError
from dwebsocket.frames import (
    MAX_CONTROL_PAYLOAD,
    CloseCode,
    Opcode,
    apply_mask,
    encode_close,
    encode_frame,
    is_valid_close_code,
    parse_close,
    parse_header,
    unmask,
)

MASK = bytes.fromhex("37fa213d")

BUFFERS: list[Callable[[bytes], bytes | bytearray | memoryview]] = [
    bytes,
    bytearray,
    memoryview,
]

Header = tuple[int, int, int, bytes, int]


def xor(data: bytes, mask: bytes) -> bytes:
    """Mask as section 5.3 puts it, octet by octet."""
    return bytes(octet ^ mask[i % 4] for i, octet in enumerate(data))


def parse_in_all_ways(header: bytes) -> Header | None:
    """Parse ``header``; make sure that it doesn't matter how it lies in the data.

    Byte by byte, nothing must come out before the last byte, or the fault that
    comes out of the whole.
    """
    fault: ProtocolError | None = None
    result: Header | None = None
    try:
        result = parse_header(header, 0)
    except ProtocolError as exc:
        fault = exc

    for end in range(len(header)):
        try:
            assert parse_header(header[:end], 0) is None
        except ProtocolError as exc:
            assert fault is not None
            assert str(exc) == str(fault)
            break

    for before in (b"", b"\x81", b"\xff" * 20):
        for behind in (b"", b"\x81", b"\xff" * 20):
            if result is None and fault is None and behind:
                continue
            try:
                moved = parse_header(before + header + behind, len(before))
            except ProtocolError as exc:
                assert fault is not None
                assert str(exc) == str(fault)
                continue
            assert fault is None
            if result is None:
                assert moved is None
            else:
                assert moved == (*result[:4], result[4] + len(before))
                assert type(moved[3]) is bytes

    if fault is not None:
        raise fault
    return result


# Section 5.2, base framing protocol


@pytest.mark.parametrize(
    "length, encoded",
    [
        (0, "80"),
        (1, "81"),
        (125, "fd"),
        (126, "fe 007e"),
        (127, "fe 007f"),
        (65535, "fe ffff"),
        (65536, "ff 0000000000010000"),
        (2**31, "ff 0000000080000000"),
        (2**32, "ff 0000000100000000"),
        (2**63 - 1, "ff 7fffffffffffffff"),
    ],
)
@pytest.mark.parametrize("first", [0x00, 0x01, 0x02, 0x80, 0x81, 0x82, 0xF2])
def test_5_2_payload_length_is_parsed(first: int, length: int, encoded: str) -> None:
    header = bytes((first,)) + bytes.fromhex(encoded) + MASK
    expected = (first, first & 0x0F, length, MASK, len(header))
    assert parse_in_all_ways(header) == expected


@pytest.mark.parametrize(
    "encoded",
    [
        "fe 0000",
        "fe 007d",
        "ff 0000000000000000",
        "ff 000000000000007d",
        "ff 000000000000007e",
        "ff 000000000000ffff",
    ],
)
def test_5_2_payload_length_must_be_minimal(encoded: str) -> None:
    header = b"\x82" + bytes.fromhex(encoded)
    # The masking key isn't waited for.
    for behind in (b"", MASK):
        with pytest.raises(ProtocolError, match="minimal"):
            parse_in_all_ways(header + behind)


@pytest.mark.parametrize("encoded", ["ff 8000000000000000", "ff ffffffffffffffff"])
def test_5_2_most_significant_bit_of_payload_length_must_be_0(encoded: str) -> None:
    header = b"\x82" + bytes.fromhex(encoded)
    for behind in (b"", MASK):
        with pytest.raises(ProtocolError, match="63 bits"):
            parse_in_all_ways(header + behind)


@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
@pytest.mark.parametrize("fin", [0x00, 0x80])
def test_5_2_unknown_opcode_is_refused(opcode: int, fin: int) -> None:
    with pytest.raises(ProtocolError, match=f"unknown opcode {opcode}$"):
        parse_in_all_ways(bytes((fin | opcode, 0x80)) + MASK)


def test_5_2_opcodes() -> None:
    assert {opcode.name: opcode.value for opcode in Opcode} == {
        "CONTINUATION": 0x0,
        "TEXT": 0x1,
        "BINARY": 0x2,
        "CLOSE": 0x8,
        "PING": 0x9,
        "PONG": 0xA,
    }


@pytest.mark.parametrize("opcode", list(Opcode))
def test_5_2_known_opcode_is_parsed(opcode: Opcode) -> None:
    header = bytes((0x80 | opcode, 0x85)) + MASK
    assert parse_in_all_ways(header) == (0x80 | opcode, opcode, 5, MASK, 6)


@pytest.mark.parametrize("rsv", range(0x10, 0x80, 0x10))
@pytest.mark.parametrize("opcode", list(Opcode))
def test_5_2_reserved_bits_are_left_to_the_caller(opcode: Opcode, rsv: int) -> None:
    header = bytes((0x80 | rsv | opcode, 0x80)) + MASK
    assert parse_in_all_ways(header) == (0x80 | rsv | opcode, opcode, 0, MASK, 6)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "81",
        "8185",
        "818537fa21",
        "81fe",
        "81fe01",
        "81fe0100",
        "81fe010037fa21",
        "81ff",
        "81ff00000000000100",
        "81ff0000000000010000",
        "81ff000000000001000037fa21",
    ],
)
def test_5_2_incomplete_header_is_waited_for(header: str) -> None:
    assert parse_in_all_ways(bytes.fromhex(header)) is None


# Section 5.1, masking is required


@pytest.mark.parametrize("opcode", list(Opcode))
@pytest.mark.parametrize("length", ["00", "05", "7d", "7e0100", "7f0000000000010000"])
def test_5_1_unmasked_frame_is_refused(opcode: Opcode, length: str) -> None:
    with pytest.raises(ProtocolError, match="frame isn't masked"):
        parse_in_all_ways(bytes((0x80 | opcode,)) + bytes.fromhex(length))


@pytest.mark.parametrize("length", [0, 5, 125, 126, 65535, 65536])
def test_5_1_frames_of_a_server_are_not_masked(length: int) -> None:
    assert not encode_frame(Opcode.BINARY, bytes(length))[1] & 0x80


# Section 5.3, client-to-server masking


@pytest.mark.parametrize(
    "length", [*range(10), 125, 126, 510, 511, 512, 513, 514, 515, 516, 1000, 65537]
)
@pytest.mark.parametrize("mask", [MASK, b"\x00\x00\x00\x00", b"\xff\x00\x80\x01"])
@pytest.mark.parametrize("buffer", BUFFERS)
def test_5_3_octet_i_is_xored_with_mask_octet_i_modulo_4(
    buffer: Callable[[bytes], bytes | bytearray | memoryview],
    mask: bytes,
    length: int,
) -> None:
    data = bytes(i * 7 & 0xFF for i in range(length))
    assert apply_mask(buffer(data), mask) == xor(data, mask)
    assert apply_mask(apply_mask(buffer(data), mask), mask) == data


def test_5_3_all_octets_with_all_mask_octets() -> None:
    data = bytes(range(256)) * 4
    for key in range(256):
        mask = bytes((key, 255 - key, key ^ 0x55, 0))
        assert apply_mask(data, mask) == xor(data, mask)


@pytest.mark.parametrize("mask", [MASK, b"\x00\x00\x00\x00", b"\xff\x00\x80\x01"])
def test_5_3_payloads_are_unmasked_with_the_key_before_them(mask: bytes) -> None:
    for length in (*range(131), 511, 512, 65535):
        data = bytes(i * 7 + 1 & 0xFF for i in range(length))
        for before, after in (b"", b""), (b"head", b"tail"):
            unmasked = unmask(before + mask + data + after, len(before), length)
            assert type(unmasked) is bytes
            assert unmasked == xor(data, mask)


def test_5_3_masking_leaves_its_argument_alone() -> None:
    for length in (8, 1024):
        data = bytearray(length)
        apply_mask(data, MASK)
        assert data == bytes(length)


# Section 5.5, control frames


@pytest.mark.parametrize("opcode", [Opcode.CLOSE, Opcode.PING, Opcode.PONG])
@pytest.mark.parametrize("length", ["fe", "fe007e", "ff", "ff0000000000010000"])
def test_5_5_long_control_frame_is_refused(opcode: Opcode, length: str) -> None:
    with pytest.raises(ProtocolError, match="control frame is too long"):
        parse_in_all_ways(bytes((0x80 | opcode,)) + bytes.fromhex(length))


@pytest.mark.parametrize("opcode", [Opcode.CLOSE, Opcode.PING, Opcode.PONG])
def test_5_5_longest_control_frame_is_parsed(opcode: Opcode) -> None:
    header = bytes((0x80 | opcode, 0x80 | MAX_CONTROL_PAYLOAD)) + MASK
    assert parse_in_all_ways(header) == (0x80 | opcode, opcode, 125, MASK, 6)


@pytest.mark.parametrize("opcode", [Opcode.CLOSE, Opcode.PING, Opcode.PONG])
def test_5_5_fragmented_control_frame_is_refused(opcode: Opcode) -> None:
    with pytest.raises(ProtocolError, match="control frame is fragmented"):
        parse_in_all_ways(bytes((opcode, 0x80)) + MASK)


# Section 5.7, examples


@pytest.mark.parametrize(
    "opcode, payload, frame",
    [
        (Opcode.TEXT, b"Hello", "810548656c6c6f"),
        (Opcode.PING, b"Hello", "890548656c6c6f"),
        (Opcode.PONG, b"Hello", "8a0548656c6c6f"),
        (Opcode.BINARY, bytes(256), "827e0100" + "00" * 256),
        (Opcode.BINARY, bytes(65536), "827f0000000000010000" + "00" * 65536),
    ],
    ids=["text", "ping", "pong", "256 bytes", "64 KiB"],
)
def test_5_7_unmasked_examples(opcode: Opcode, payload: bytes, frame: str) -> None:
    assert encode_frame(opcode, payload) == bytes.fromhex(frame)


@pytest.mark.parametrize(
    "frame, first, opcode",
    [
        ("818537fa213d7f9f4d5158", 0x81, Opcode.TEXT),
        ("8a8537fa213d7f9f4d5158", 0x8A, Opcode.PONG),
    ],
)
def test_5_7_masked_examples(frame: str, first: int, opcode: Opcode) -> None:
    data = bytes.fromhex(frame)
    assert parse_header(data, 0) == (first, opcode, 5, MASK, 6)
    assert apply_mask(data[6:], MASK) == b"Hello"


# Section 6.1, sending data


@pytest.mark.parametrize("opcode", list(Opcode))
@pytest.mark.parametrize(
    "length, encoded",
    [
        (0, "00"),
        (125, "7d"),
        (126, "7e007e"),
        (127, "7e007f"),
        (65535, "7effff"),
        (65536, "7f0000000000010000"),
    ],
)
def test_6_1_frame_is_final_and_its_length_minimal(
    opcode: Opcode, length: int, encoded: str
) -> None:
    payload = bytes(i & 0xFF for i in range(length))
    frame = bytes((0x80 | opcode,)) + bytes.fromhex(encoded) + payload
    assert encode_frame(opcode, payload) == frame
    assert encode_frame(int(opcode), payload) == frame


# Section 7.4, status codes

VALID_CODES = [*range(1000, 1004), *range(1007, 1015), 3000, 3999, 4000, 4999]
INVALID_CODES = [
    *(0, 1, 999),
    *(1004, 1005, 1006),
    *(1015, 1016, 1100, 1999, 2000, 2999),
    *(5000, 9999, 65535),
]


@pytest.mark.parametrize("code", VALID_CODES)
def test_7_4_valid_close_code(code: int) -> None:
    assert is_valid_close_code(code)
    payload = code.to_bytes(2, "big") + b"bye"
    assert encode_close(code, "bye") == payload
    assert parse_close(payload) == (code, "bye")


@pytest.mark.parametrize("code", INVALID_CODES)
def test_7_4_invalid_close_code_is_neither_sent_nor_taken(code: int) -> None:
    assert not is_valid_close_code(code)
    with pytest.raises(ValueError, match=f"close code {code} must not be sent"):
        encode_close(code)
    with pytest.raises(ProtocolError, match=f"invalid close code {code}$"):
        parse_close(code.to_bytes(2, "big"))


@pytest.mark.parametrize("code", [-1, 65536, 10**20])
def test_7_4_close_code_has_two_octets(code: int) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{code} must not be sent")):
        encode_close(code)


def test_7_4_codes_are_all_or_none_valid_by_range() -> None:
    """Of 65,536 codes, the named ones and 3000-4999 are for close frames."""
    valid = {code for code in range(0x10000) if is_valid_close_code(code)}
    assert valid == {*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}
    assert set(CloseCode) - valid == {1005, 1006, 1015}


# Section 5.5.1, close


def test_5_5_1_close_frame_without_a_code() -> None:
    assert encode_close(None) == b""
    with pytest.raises(ValueError, match="needs a close code"):
        encode_close(None, "bye")


@pytest.mark.parametrize("reason", ["x" * 123, "\u20ac" * 41])
def test_5_5_1_longest_close_reason(reason: str) -> None:
    payload = encode_close(1000, reason)
    assert len(payload) == MAX_CONTROL_PAYLOAD
    assert parse_close(payload) == (1000, reason)


@pytest.mark.parametrize("reason", ["x" * 124, "\u20ac" * 41 + "x"])
def test_5_5_1_close_reason_is_limited_in_bytes(reason: str) -> None:
    with pytest.raises(ValueError, match="longer than 123 bytes"):
        encode_close(1000, reason)


def test_5_5_1_close_reason_must_have_a_utf_8_form() -> None:
    with pytest.raises(ValueError):
        encode_close(1000, "\ud800")


@pytest.mark.parametrize("payload", [b"\x03", b"\x00", b"\xff"])
def test_5_5_1_half_a_close_code_is_refused(payload: bytes) -> None:
    with pytest.raises(ProtocolError, match="half a close code"):
        parse_close(payload)


@pytest.mark.parametrize("buffer", BUFFERS)
def test_5_5_1_close_reason_is_text(
    buffer: Callable[[bytes], bytes | bytearray | memoryview],
) -> None:
    payload = buffer(b"\x0f\xa0\xce\xba\xe1\xbd\xb9")
    code, reason = parse_close(payload)
    assert (code, reason) == (4000, "\u03ba\u1f79")
    assert type(code) is int


@pytest.mark.parametrize("reason", [b"\xff", b"\xed\xa0\x80", b"cut \xe2\x82"])
def test_8_1_close_reason_must_be_utf_8(reason: bytes) -> None:
    with pytest.raises(InvalidPayload) as caught:
        parse_close(b"\x03\xe8" + reason)
    assert caught.value.close_code == CloseCode.INVALID_PAYLOAD
    assert isinstance(caught.value.__cause__, UnicodeDecodeError)


def test_7_1_5_close_frame_without_a_code_counts_as_1005() -> None:
    code, reason = parse_close(b"")
    assert (code, reason) == (1005, "")
    assert type(code) is int
