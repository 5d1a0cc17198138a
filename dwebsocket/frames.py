"""Frames of RFC 6455 section 5: opcodes, close codes, masking, encoding.

Knows single frames only: how they follow each other is ``protocol``'s.
Standard library only: no Django, no gevent, no sockets.
"""

from __future__ import annotations

import enum
import sys
from typing import TYPE_CHECKING

from .exceptions import InvalidPayload, ProtocolError

if TYPE_CHECKING:
    from . import uncompiled as cython
else:
    try:
        # Not needed to run: setup.py compiles with it; frames.pxd has the C.
        import cython
    except ImportError:
        from . import uncompiled as cython

__all__ = [
    "MAX_CONTROL_PAYLOAD",
    "Buffer",
    "CloseCode",
    "Opcode",
    "apply_mask",
    "apply_mask_within",
    "encode_close",
    "encode_frame",
    "encode_header",
    "is_ascii_within",
    "is_compiled",
    "is_valid_close_code",
    "parse_close",
    "parse_header",
    "unmask",
]

Buffer = bytes | bytearray | memoryview

#: Bytes of payload that a control frame may have (section 5.5).
MAX_CONTROL_PAYLOAD = 125

#: ``apply_mask`` goes over to tables at this many bytes, where they are faster.
_TABLES_FROM = 512


class Opcode(enum.IntEnum):
    """What a frame is (section 5.2)."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


class CloseCode(enum.IntEnum):
    """Why a connection was closed (section 7.4.1 and the IANA registry)."""

    NORMAL_CLOSURE = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    NO_STATUS_RECEIVED = 1005
    ABNORMAL_CLOSURE = 1006
    INVALID_PAYLOAD = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    MANDATORY_EXTENSION = 1010
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    BAD_GATEWAY = 1014
    TLS_HANDSHAKE = 1015


_NEVER_SENT = frozenset(
    (
        CloseCode.NO_STATUS_RECEIVED,
        CloseCode.ABNORMAL_CLOSURE,
        CloseCode.TLS_HANDSHAKE,
    )
)
_DEFINED = frozenset(CloseCode) - _NEVER_SENT

_SHORT_HEADERS = [
    [bytes((0x80 | opcode, length)) for length in range(126)] for opcode in range(16)
]
_MAX_REPEATED = 128
#: By length of a payload: the factor that repeats a masking key so often.
_REPETITIONS = [
    sum(1 << 32 * word for word in range((length + 3) >> 2))
    for length in range(_MAX_REPEATED + 1)
]
_from_bytes = int.from_bytes
_XOR_TABLES: list[bytes] = []


def is_valid_close_code(code: int) -> bool:
    """Tell whether a close frame may carry ``code`` (section 7.4)."""
    return code in _DEFINED or 3000 <= code < 5000


def is_compiled() -> bool:
    """Tell whether the hot path runs compiled rather than from its source."""
    return bool(cython.compiled)


def encode_header(opcode: int, length: int) -> bytes:
    """Return the header of a server's frame; RSV bits may be set in ``opcode``.

    Section 5.1: "A server MUST NOT mask any frames that it sends to the client."
    """
    if length < 126:
        return bytes((0x80 | opcode, length))
    if length < 0x10000:
        return bytes((0x80 | opcode, 126)) + length.to_bytes(2, "big")
    return bytes((0x80 | opcode, 127)) + length.to_bytes(8, "big")


def encode_frame(opcode: int, payload: bytes) -> bytes:
    """Return one whole unfragmented frame."""
    if cython.compiled:
        return _encode(opcode, payload)  # noqa: F821
    length = len(payload)
    if length < 126 and opcode < 16:
        return _SHORT_HEADERS[opcode][length] + payload
    return encode_header(opcode, length) + payload


def parse_header(data: bytes, position: int) -> tuple[int, int, int, bytes, int] | None:
    """Parse the header of a client's frame that starts at ``data[position]``.

    Returns ``(first byte, opcode, payload length, masking key, position of the
    payload)``, or None when the header isn't complete yet.  Everything that a
    single frame of a client can have wrong in its header raises ProtocolError;
    RSV bits are the caller's, because extensions define them.
    """
    available = len(data) - position
    if available < 2:
        return None
    first, second = data[position], data[position + 1]
    opcode = first & 0x0F
    length = second & 0x7F
    # Section 5.2: "If an unknown opcode is received, the receiving endpoint
    # MUST _Fail the WebSocket Connection_."
    if opcode in (3, 4, 5, 6, 7) or opcode > 10:
        raise ProtocolError(f"unknown opcode {opcode}")
    # Section 5.1: "The server MUST close the connection upon receiving a frame
    # that is not masked."
    if not second & 0x80:
        raise ProtocolError("frame isn't masked")
    if opcode >= 8:
        # Section 5.5: "All control frames MUST have a payload length of 125
        # bytes or less and MUST NOT be fragmented."
        if length > MAX_CONTROL_PAYLOAD:
            raise ProtocolError("control frame is too long")
        if not first & 0x80:
            raise ProtocolError("control frame is fragmented")
    start = position + 2
    if length == 126:
        if available < 4:
            return None
        length = int.from_bytes(data[start : start + 2], "big")
        # Section 5.2: "the minimal number of bytes MUST be used to encode the
        # length"
        if length < 126:
            raise ProtocolError("payload length isn't encoded minimally")
        start += 2
    elif length == 127:
        if available < 10:
            return None
        length = int.from_bytes(data[start : start + 8], "big")
        if length < 0x10000:
            raise ProtocolError("payload length isn't encoded minimally")
        # Section 5.2: "the most significant bit MUST be 0"
        if length >> 63:
            raise ProtocolError("payload length is more than 63 bits")
        start += 8
    if len(data) < start + 4:
        return None
    return first, opcode, length, data[start : start + 4], start + 4


def apply_mask(
    data: Buffer, mask: bytes, start: int = 0, end: int | None = None
) -> bytes | bytearray:
    """Return ``data[start:end]`` masked or unmasked with 4 bytes (section 5.3)."""
    if end is None:
        end = len(data)
    length = end - start
    if cython.compiled:
        return _apply_mask(bytes(data), start, length, mask)  # noqa: F821
    if length < len(data):
        data = data[start:end]
    if length < _TABLES_FROM:
        key = (mask * ((length + 3) >> 2))[:length]
        return (
            int.from_bytes(data, sys.byteorder) ^ int.from_bytes(key, sys.byteorder)
        ).to_bytes(length, sys.byteorder)
    if not _XOR_TABLES:
        _XOR_TABLES.extend([bytes([i ^ key for i in range(256)]) for key in range(256)])
    masked = bytearray(data)
    for i in range(4):
        masked[i::4] = masked[i::4].translate(_XOR_TABLES[mask[i]])
    return masked


def unmask(data: Buffer, start: int, length: int) -> bytes:
    """Return the payload of ``length`` bytes behind the masking key at ``start``."""
    if cython.compiled:
        return _unmask(data, start, length)  # noqa: F821
    if length <= _MAX_REPEATED:
        # The same as apply_mask, in a third of the time.
        value = _from_bytes(data[start : start + 4 + length], "little")
        return (value >> 32 ^ (value & 0xFFFFFFFF) * _REPETITIONS[length]).to_bytes(
            length + 3, "little"
        )[:length]
    end = start + 4 + length
    return bytes(apply_mask(data, bytes(data[start : start + 4]), start + 4, end))


def apply_mask_within(data: bytearray, mask: bytes, start: int, end: int) -> None:
    """Mask or unmask ``data[start:end]`` where it is."""
    if cython.compiled:
        _apply_mask_within(data, mask, start, end)  # noqa: F821
    else:
        data[start:end] = apply_mask(data, mask, start, end)


def is_ascii_within(data: bytearray, start: int, end: int) -> bool:
    """Tell whether ``data[start:end]`` is ASCII."""
    if cython.compiled:
        return _is_ascii_within(data, start, end)  # noqa: F821
    return data[start:end].isascii()


def encode_close(code: int | None, reason: str = "") -> bytes:
    """Return the payload of a close frame (section 5.5.1).

    ``None`` makes a close frame without a code.  Raises ValueError for a code
    that must not be sent and for a reason longer than 123 bytes of UTF-8.
    """
    if code is None:
        if reason:
            raise ValueError("a close reason needs a close code")
        return b""
    if not is_valid_close_code(code):
        raise ValueError(f"close code {code} must not be sent")
    payload = code.to_bytes(2, "big") + reason.encode()
    if len(payload) > MAX_CONTROL_PAYLOAD:
        raise ValueError("close reason is longer than 123 bytes")
    return payload


def parse_close(payload: Buffer) -> tuple[int, str]:
    """Return code and reason of a close frame's payload (section 5.5.1).

    Section 7.1.5: "If this Close control frame contains no status code, _The
    WebSocket Connection Close Code_ is considered to be 1005."
    """
    if not payload:
        return int(CloseCode.NO_STATUS_RECEIVED), ""
    if len(payload) == 1:
        raise ProtocolError("close frame has half a close code")
    code = int.from_bytes(payload[:2], "big")
    if not is_valid_close_code(code):
        raise ProtocolError(f"invalid close code {code}")
    try:
        return code, str(payload[2:], "utf-8")
    except UnicodeDecodeError as exc:
        raise InvalidPayload("close reason isn't UTF-8") from exc
