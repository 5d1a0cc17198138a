"""A message that arrives in pieces: fragments of RFC 6455 section 5.4, parts of them.

Knows one message: what may follow what is ``protocol``'s.  Standard library only: no
Django, no gevent, no sockets.
"""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

from .deflate import Inflater
from .exceptions import InvalidPayload, MessageTooBig
from .frames import Buffer, apply_mask_within, is_ascii_within, unmask

if TYPE_CHECKING:
    from . import uncompiled as cython
else:
    try:
        import cython
    except ImportError:
        from . import uncompiled as cython

__all__ = ["LONG", "IncomingMessage", "Message", "decode_text", "unmask_text"]

#: Text arrives as str, binary as bytes.
Message = str | bytes

#: Payloads that lack so many bytes are received where they are kept.
LONG = 32768

_new_decoder = codecs.getincrementaldecoder("utf-8")


class IncomingMessage:
    """A message until its last byte has come.

    ``opcode`` is its first frame's, ``max_size`` the limit in bytes, after
    inflation if there is an ``inflater``.
    """

    __slots__ = (
        "_decoder",
        "_filled",
        "_inflater",
        "_is_text",
        "_max_size",
        "_parts",
        "size",
    )

    def __init__(
        self, opcode: int, max_size: int, inflater: Inflater | None = None
    ) -> None:
        self._is_text = opcode == 1
        self._max_size = max_size
        self._inflater = inflater
        self._decoder: codecs.IncrementalDecoder | None = None
        # What has come, in the first so many bytes.
        self._parts: bytearray | None = None
        self._filled = 0
        #: Bytes announced or, if it is compressed, inflated so far.
        self.size = 0

    @property
    def is_compressed(self) -> bool:
        return self._inflater is not None

    def announce(self, length: int) -> None:
        """Take note of a frame; raise MessageTooBig before its payload has come."""
        # What is compressed is measured when it is inflated.
        if self._inflater is None:
            if length > self._max_size - self.size:
                raise MessageTooBig(f"message is longer than {self._max_size} bytes")
            self.size += length

    def add(self, payload: Buffer, is_last: bool) -> Message | None:
        """Add a piece; return the message if that was the last, else None.

        Raises InvalidPayload and, inflating, MessageTooBig.
        """
        if self._inflater is not None:
            payload = self._inflater.decompress(
                payload, is_last=is_last, max_size=self._max_size
            )
            self.size += len(payload)
        if is_last and self._parts is None:
            return decode_text(payload) if self._is_text else bytes(payload)
        if self._parts is None:
            self._parts = bytearray()
        elif len(self._parts) > self._filled:
            del self._parts[self._filled :]
        self._parts += payload
        return self._take(len(payload), is_last)

    def reserve(self, length: int) -> memoryview:
        """Return room for up to ``length`` bytes that come next, for ``fill``."""
        if self._parts is None:
            self._parts = bytearray()
        if len(self._parts) < self._filled + LONG:
            # Never much more than has come: what is announced costs nothing.
            more = min(length, max(self._filled, 2 * LONG))
            if cython.compiled:
                _resize(self._parts, len(self._parts) + more)  # noqa: F821
            else:
                self._parts += bytes(more)
        return memoryview(self._parts)[self._filled : self._filled + length]

    def fill(self, size: int, mask: bytes, is_last: bool) -> Message | None:
        """Add ``size`` masked bytes that are where ``reserve`` said; like ``add``."""
        assert self._parts is not None
        end = self._filled + size
        apply_mask_within(self._parts, mask, self._filled, end)
        if is_last:
            del self._parts[end:]
        return self._take(size, is_last)

    def _take(self, size: int, is_last: bool) -> Message | None:
        parts = self._parts
        assert parts is not None
        start = self._filled
        self._filled += size
        if self._is_text:
            # Only to see at once what isn't UTF-8: kept piece by piece, text in
            # short fragments would take forty times its bytes.
            if self._decoder is None and not is_ascii_within(
                parts, start, self._filled
            ):
                self._decoder = _new_decoder()
            if self._decoder is not None:
                try:
                    self._decoder.decode(parts[start : self._filled], is_last)
                except UnicodeDecodeError as exc:
                    raise _not_utf8() from exc
        if not is_last:
            return None
        return decode_text(parts) if self._is_text else bytes(parts)


def decode_text(payload: Buffer) -> str:
    """Return the text of a whole message."""
    try:
        return str(payload, "utf-8")
    except UnicodeDecodeError as exc:
        raise _not_utf8() from exc


def unmask_text(data: Buffer, start: int, length: int) -> str:
    """Return the text of ``length`` bytes behind the masking key at ``start``."""
    try:
        if cython.compiled:
            return _unmask_text(data, start, length)  # noqa: F821
        # Named, the encoding isn't looked up.
        return unmask(data, start, length).decode("utf-8")
    except UnicodeDecodeError as exc:
        raise _not_utf8() from exc


def _not_utf8() -> InvalidPayload:
    # Section 8.1: "When an endpoint is to interpret a byte stream as UTF-8 but finds
    # that the byte stream is not, in fact, a valid UTF-8 stream, that endpoint MUST
    # _Fail the WebSocket Connection_."
    return InvalidPayload("text isn't UTF-8")
