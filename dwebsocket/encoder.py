"""What a server sends: messages and pings as frames.

Standard library only: no Django, no gevent, no sockets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .deflate import Deflate
from .frames import (
    MAX_CONTROL_PAYLOAD,
    Buffer,
    Opcode,
    encode_frame,
    encode_header,
)

if TYPE_CHECKING:
    from . import uncompiled as cython
else:
    try:
        import cython
    except ImportError:
        from . import uncompiled as cython

__all__ = ["RSV1", "Broadcast", "Encoder"]

#: Of a frame's first byte (section 5.2); RFC 7692 section 6: the message is compressed.
RSV1 = 0x40


class Broadcast:
    """A message for many connections: text (in UTF-8) or binary, by its opcode.

    It is encoded, and compressed, once for all that agreed on the same.
    """

    __slots__ = ("frames", "opcode", "payload")

    def __init__(self, opcode: int, payload: bytes) -> None:
        self.opcode = opcode
        self.payload = payload
        #: Frames by their compressor, None for those that don't compress.
        self.frames: dict[Any, bytes] = {}


class Encoder:
    """The sending half of ``Protocol``; ``deflate`` is the extension, if agreed on."""

    __slots__ = ("_deflate",)

    def __init__(self, deflate: Deflate | None) -> None:
        self._deflate = deflate

    def encode_message(self, message: str | Buffer) -> bytes:
        """Return the frame of a message: text for str, binary for bytes-like.

        Raises TypeError for anything else, ValueError for a str that has no
        UTF-8 form (lone surrogates).
        """
        if isinstance(message, str):
            if cython.compiled and self._deflate is None and _is_ascii(message):  # noqa: F821
                return _encode_ascii(message)  # noqa: F821
            opcode = 1
            # Named, the encoding isn't looked up; a subclass may have its own way.
            payload = str.encode(message, "utf-8")
        elif isinstance(message, (bytes, bytearray, memoryview)):
            opcode = 2
            payload = bytes(message)
        else:
            raise TypeError(
                f"a message is str or bytes-like, not {type(message).__name__}"
            )
        if self._deflate is not None:
            opcode, payload = _compress(self._deflate, opcode, payload)
        return encode_frame(opcode, payload)

    def encode_broadcast(self, broadcast: Broadcast) -> bytes:
        """Return the frame of a message that others get as well."""
        compressor = None
        if self._deflate is not None:
            compressor = self._deflate.compressor
            if compressor.keeps_context:
                # It refers to what was sent on this connection before.
                return self._encode(broadcast.opcode, broadcast.payload)
        frame = broadcast.frames.get(compressor)
        if frame is None:
            frame = self._encode(broadcast.opcode, broadcast.payload)
            broadcast.frames[compressor] = frame
        return frame

    def encode_long(self, message: str | bytes) -> tuple[bytes, bytes]:
        """Return header and payload of a message's frame, not joined.

        Raises like ``encode_message``.
        """
        if isinstance(message, str):
            opcode = 1
            payload = str.encode(message)
        else:
            opcode = 2
            payload = message
        if self._deflate is not None:
            opcode, payload = _compress(self._deflate, opcode, payload)
        return encode_header(opcode, len(payload)), payload

    def _encode(self, opcode: int, payload: bytes) -> bytes:
        if self._deflate is not None:
            opcode, payload = _compress(self._deflate, opcode, payload)
        return encode_frame(opcode, payload)

    def encode_ping(self, payload: Buffer = b"") -> bytes:
        """Return a ping frame.  Raises ValueError above 125 bytes of payload."""
        if not isinstance(payload, (bytes, bytearray, memoryview)):
            raise TypeError(
                f"a ping payload is bytes-like, not {type(payload).__name__}"
            )
        payload = bytes(payload)
        if len(payload) > MAX_CONTROL_PAYLOAD:
            raise ValueError("ping payload is longer than 125 bytes")
        return encode_frame(Opcode.PING, payload)


def _compress(deflate: Deflate, opcode: int, payload: bytes) -> tuple[int, bytes]:
    compressed = deflate.compress(payload)
    return (opcode, payload) if compressed is None else (RSV1 | opcode, compressed)
