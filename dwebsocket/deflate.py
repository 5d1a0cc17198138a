"""The extension permessage-deflate, RFC 7692: negotiation and the data itself.

Knows single messages only: which frames they lie in, and the bit RSV1 that says
"compressed", are ``protocol``'s.  Standard library only: no Django, no gevent, no
sockets.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .exceptions import InvalidPayload, MessageTooBig
from .frames import Buffer

__all__ = ["Compressor", "Deflate", "Inflater", "Options", "negotiate"]

_NAME = "permessage-deflate"

#: Section 7.1.2: "a decimal integer value without leading zeroes between 8 to
#: 15, inclusive".
_WINDOW_BITS = {str(bits): bits for bits in range(8, 16)}
#: zlib has no window of 256 bytes: it refuses to compress with one, and compressors
#: that take the 8 use 9.
_MIN_WINDOW_BITS = 9

#: What the sender cuts off the end of a message (sections 7.2.1 and 7.2.2).
_TAIL = b"\x00\x00\xff\xff"
#: An empty last block: behind a whole block it is the end, within one it isn't.
_LAST_BLOCK = b"\x03\x00"

#: Bytes for one call of zlib.  It copies what is left of the input each time, so
#: that is short where there may be a call for every two bytes: after a last block.
_INPUT_SIZE = 16384
_INPUT_SIZE_AFTER_LAST_BLOCK = 256
#: What zlib makes in one buffer, with nothing to join.
_OUTPUT_SIZE = 32768


class Options(NamedTuple):
    """What the server wants of the extension.

    * ``server_context_takeover``, ``client_context_takeover``: whether messages
      refer to earlier ones of the same connection.  That makes them shorter, above
      all short ones.  It costs each connection ``2 ** (window bits + 2) +
      2 ** (memory_level + 9)`` bytes to send and ``2 ** window bits`` + 7 KiB to
      receive, from the first compressed message on.
    * ``server_max_window_bits``, ``client_max_window_bits``: 9 to 15, the power of
      2 that says how far back they refer.  Some clients can't be told.
    * ``threshold``: bytes of payload below which a message is sent as it is.  At
      128 bytes, JSON without context becomes 20 bytes shorter, less than half of
      the packet's own headers.
    * ``level``: 1, fast, to 9, short
    * ``memory_level``: 1 to 9, as in zlib
    """

    server_context_takeover: bool = False
    client_context_takeover: bool = False
    server_max_window_bits: int = 15
    client_max_window_bits: int = 15
    threshold: int = 256
    level: int = 6
    memory_level: int = 8


class Compressor:
    """Compresses messages; the same for all connections if it keeps no context.

    ``keeps_context`` tells whether its messages refer to earlier ones: then they
    have to be sent in the order in which they were compressed, and all of them,
    and only one thread may use it.  Otherwise what it returns suits every
    connection with this compressor, at any time.
    """

    __slots__ = (
        "_flush_mode",
        "_idle",
        "_level",
        "_memory_level",
        "_threshold",
        "_window_bits",
        "keeps_context",
    )

    def __init__(self, options: Options) -> None:
        self.keeps_context = options.server_context_takeover
        # A full flush forgets what was before and takes a tenth of the time that a
        # new stream does.
        self._flush_mode = (
            zlib.Z_SYNC_FLUSH if self.keeps_context else zlib.Z_FULL_FLUSH
        )
        # zlib makes no block of nothing behind a flush.
        self._threshold = max(options.threshold, 1)
        self._level = options.level
        self._memory_level = options.memory_level
        self._window_bits = options.server_max_window_bits
        # Streams that no thread is using: there is one, but for threads that
        # compress at the same time.
        self._idle: list[zlib._Compress] = []

    def compress(self, payload: bytes) -> bytes | None:
        """Return the compressed payload, or None: send the message as it is.

        That is for a message below the threshold and, without context, for one
        that doesn't become shorter.
        """
        if len(payload) < self._threshold:
            return None
        try:
            stream = self._idle.pop()
        except IndexError:
            stream = zlib.compressobj(
                self._level, zlib.DEFLATED, -self._window_bits, self._memory_level
            )
        compressed = stream.compress(payload) + stream.flush(self._flush_mode)
        self._idle.append(stream)
        # Section 7.2.1: "Remove 4 octets (that are 0x00 0x00 0xff 0xff) from the
        # tail end."
        compressed = compressed[:-4]
        if self.keeps_context or len(compressed) < len(payload):
            return compressed
        return None


class Inflater:
    """Inflates the messages of a client, piece by piece.

    After an error it is of no use any more.
    """

    __slots__ = ("_is_begun", "_keeps_context", "_size", "_stream", "_window_bits")

    def __init__(self, window_bits: int, *, keeps_context: bool) -> None:
        self._window_bits = window_bits
        self._keeps_context = keeps_context
        self._stream: zlib._Decompress | None = None
        self._is_begun = False
        # Of the message so far, inflated.
        self._size = 0

    def decompress(
        self, data: Buffer, *, is_last: bool, max_size: int | None
    ) -> bytes | bytearray:
        """Inflate the next piece of a message; return what it gives, perhaps b"".

        ``is_last`` ends the message.  ``max_size`` is in bytes of the whole
        message, inflated; None means no limit.  One call makes no more than is
        left of it and one byte, and without a limit up to 1032 times ``data``.

        Raises MessageTooBig as soon as the limit is passed, InvalidPayload for
        what isn't a sequence of whole DEFLATE blocks.
        """
        size = len(data)
        if size:
            self._is_begun = True
        elif not self._is_begun:
            # Section 7.2.3.6 wants an octet for an empty message.  There are
            # clients that send none; no other meaning is possible.
            return b""
        if not is_last:
            return self._inflate(data, size, max_size)
        # Section 7.2.2: "Append 4 octets of 0x00 0x00 0xff 0xff to the tail end
        # of the payload of the message."
        output = self._inflate(b"".join((data, _TAIL)), size, max_size)
        self._end_message()
        return output

    def _inflate(
        self, data: Buffer, size: int, max_size: int | None
    ) -> bytes | bytearray:
        """Inflate ``data``, of which ``size`` bytes are the client's."""
        output: bytes | bytearray = b""
        view = memoryview(data)
        position = 0
        input_size = _INPUT_SIZE
        while True:
            stream = self._stream
            if stream is None:
                # The tail isn't missed where a last block has ended the message.
                if position == size or position == len(view):
                    return output
                stream = self._stream = zlib.decompressobj(-self._window_bits)
            room = _OUTPUT_SIZE
            if max_size is not None and room > max_size - self._size:
                room = max_size - self._size + 1
            taken = view[position : position + input_size]
            try:
                piece = stream.decompress(taken, room)
            except zlib.error as exc:
                raise _invalid() from exc
            if piece:
                self._size += len(piece)
                if max_size is not None and self._size > max_size:
                    raise MessageTooBig(f"message is longer than {max_size} bytes")
                if not output:
                    output = piece
                else:
                    if isinstance(output, bytes):
                        output = bytearray(output)
                    output += piece
            position += len(taken)
            if stream.eof:
                # Section 7.2.1: "An endpoint MAY use both DEFLATE blocks with the
                # "BFINAL" bit set to 0 and DEFLATE blocks with the "BFINAL" bit
                # set to 1."  What follows refers to nothing before it: the data
                # set of RFC 1951 has ended.
                position -= len(stream.unused_data)
                self._stream = None
                input_size = _INPUT_SIZE_AFTER_LAST_BLOCK
                continue
            position -= len(stream.unconsumed_tail)
            if position == len(view) and len(piece) < room:
                return output

    def _end_message(self) -> None:
        """Make sure that no block is cut off, and be ready for the next message."""
        self._is_begun = False
        self._size = 0
        stream = self._stream
        if stream is None:
            return
        if self._keeps_context:
            stream = stream.copy()
        else:
            self._stream = None
        try:
            is_whole = not stream.decompress(_LAST_BLOCK, 1) and stream.eof
        except zlib.error as exc:
            raise _invalid() from exc
        if not is_whole:
            raise _invalid()


class Deflate:
    """The extension as agreed on with a client.

    Without context takeover on both sides, one object serves all connections with
    the same parameters.

    Attributes to read:

    * ``compressor``: for what is sent; see there who may share a message
    """

    __slots__ = ("_inflater", "_window_bits", "compressor")

    def __init__(
        self, compressor: Compressor, window_bits: int, *, keeps_context: bool
    ) -> None:
        self.compressor = compressor
        self._window_bits = window_bits
        self._inflater = (
            Inflater(window_bits, keeps_context=True) if keeps_context else None
        )

    def compress(self, payload: bytes) -> bytes | None:
        """Do as ``Compressor.compress`` does."""
        return self.compressor.compress(payload)

    def start_message(self) -> Inflater:
        """Return the inflater for a compressed message that begins."""
        if self._inflater is not None:
            return self._inflater
        return Inflater(self._window_bits, keeps_context=False)


def negotiate(
    offers: Iterable[tuple[str, Sequence[tuple[str, str | None]]]], options: Options
) -> tuple[str, Deflate] | None:
    """Accept the first offer of the extension that is valid (sections 5 and 7.1).

    ``offers`` are those of all extensions, as ``handshake.parse_extensions`` gives
    them.  Returns what the response header says and the extension itself, or None
    when there is nothing to accept: then messages aren't compressed.
    """
    for name, parameters in offers:
        if name == _NAME:
            accepted = _accept(parameters, options)
            if accepted is not None:
                return accepted
    return None


def _accept(
    parameters: Sequence[tuple[str, str | None]], options: Options
) -> tuple[str, Deflate] | None:
    """Accept an offer, or return None.

    Section 7: "A server MUST decline an extension negotiation offer for this
    extension if any of the following conditions are met: The negotiation offer
    contains an extension parameter not defined for use in an offer.  (...) with
    an invalid value.  (...) multiple extension parameters with the same name.
    The server doesn't support the offered configuration."
    """
    offer = dict(parameters)
    if len(offer) < len(parameters):
        return None
    for name, value in parameters:
        if name in ("server_no_context_takeover", "client_no_context_takeover"):
            is_valid = value is None
        elif name == "server_max_window_bits":
            is_valid = _WINDOW_BITS.get(value or "", 0) >= _MIN_WINDOW_BITS
        elif name == "client_max_window_bits":
            is_valid = value is None or value in _WINDOW_BITS
        else:
            is_valid = False
        if not is_valid:
            return None

    # Section 7.1.1.1: "A server accepts an extension negotiation offer that
    # includes the "server_no_context_takeover" extension parameter by including"
    # it in the response, and section 7.1.1.2 allows both without an offer.
    server_takeover = options.server_context_takeover and (
        "server_no_context_takeover" not in offer
    )
    client_takeover = options.client_context_takeover and (
        "client_no_context_takeover" not in offer
    )
    server_bits = min(
        options.server_max_window_bits,
        _WINDOW_BITS[offer.get("server_max_window_bits") or "15"],
    )
    # Section 7.1.2.2: "If a received extension negotiation offer doesn't have the
    # "client_max_window_bits" extension parameter, the corresponding extension
    # negotiation response to the offer MUST NOT include" it.
    client_bits = 15
    if "client_max_window_bits" in offer:
        client_bits = min(
            options.client_max_window_bits,
            _WINDOW_BITS[offer["client_max_window_bits"] or "15"],
        )

    response = [_NAME]
    if not server_takeover:
        response.append("server_no_context_takeover")
    if not client_takeover:
        response.append("client_no_context_takeover")
    if server_bits < 15 or "server_max_window_bits" in offer:
        response.append(f"server_max_window_bits={server_bits}")
    if client_bits < 15:
        response.append(f"client_max_window_bits={client_bits}")

    compressor_options = options._replace(
        server_context_takeover=server_takeover,
        client_context_takeover=False,
        server_max_window_bits=server_bits,
        client_max_window_bits=15,
    )
    if server_takeover:
        compressor = Compressor(compressor_options)
    else:
        compressor = _shared_compressor(compressor_options)
    if client_takeover:
        client_bits = max(client_bits, _MIN_WINDOW_BITS)
        deflate = Deflate(compressor, client_bits, keeps_context=True)
    elif server_takeover:
        deflate = Deflate(compressor, 15, keeps_context=False)
    else:
        deflate = _shared_deflate(compressor)
    return "; ".join(response), deflate


# All that a client can choose here are the window bits: seven values.


@functools.cache
def _shared_compressor(options: Options) -> Compressor:
    return Compressor(options)


@functools.cache
def _shared_deflate(compressor: Compressor) -> Deflate:
    # With nothing to keep, the largest window costs nothing and takes all.
    return Deflate(compressor, 15, keeps_context=False)


def _invalid() -> InvalidPayload:
    # RFC 6455 section 7.4.1: 1007 is for "data within a message that was not
    # consistent with the type of the message"; the frames themselves are right.
    return InvalidPayload("compressed message isn't valid")
