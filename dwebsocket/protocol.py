"""The server's side of a WebSocket connection: bytes in, messages and bytes out.

Rules of this module:

* It is passive.  No sockets, no clocks, no waiting: ``transport`` feeds it what
  was received and writes what it returns.
* Whatever the peer does wrong ends in ``Protocol._fail``, the one place that
  turns a ProtocolError into a close frame.
* Nothing is kept of a message that is over, and nothing of a message's
  payload is awaited that would exceed the limit.

Standard library only: no Django, no gevent, no sockets.
"""

from __future__ import annotations

import codecs
import enum

from .exceptions import InvalidPayload, MessageTooBig, ProtocolError
from .frames import (
    MAX_CONTROL_PAYLOAD,
    Buffer,
    CloseCode,
    Opcode,
    apply_mask,
    encode_close,
    encode_frame,
    parse_close,
    parse_header,
    unmask_short,
)

__all__ = ["Message", "Protocol", "State"]

#: Text arrives as str, binary as bytes.
Message = str | bytes

_new_decoder = codecs.getincrementaldecoder("utf-8")


class State(enum.IntEnum):
    """How far a connection is (RFC 6455 section 7.1)."""

    #: Messages go both ways.
    OPEN = 1
    #: A close frame was sent; the peer's is awaited, its messages are dropped.
    CLOSING = 2
    #: Nothing more is read or sent.
    CLOSED = 3


_OPEN = State.OPEN


class Protocol:
    """State of one connection after its opening handshake.

    ``max_message_size`` is in bytes of payload, all fragments together; None
    means no limit.

    Attributes to read:

    * ``state``
    * ``replies``: frames that answer what was received, to be sent in this order
    * ``close_code``, ``close_reason``: of the first close frame, sent or
      received; None and "" while there was none
    * ``close_sent``, ``close_received``: whether there was such a frame
    * ``closed_by``: "client" or "server", whose close frame was first, "nobody"
      when the connection was lost without one; "" while it is open
    * ``pong``: payload of the last pong received, None after it was taken
    """

    __slots__ = (
        "_control",
        "_decoder",
        "_fin",
        "_header",
        "_mask",
        "_message_opcode",
        "_opcode",
        "_parts",
        "_remaining",
        "_size",
        "close_code",
        "close_reason",
        "close_received",
        "close_sent",
        "closed_by",
        "max_message_size",
        "pong",
        "replies",
        "state",
    )

    def __init__(self, *, max_message_size: int | None = None) -> None:
        self.max_message_size = max_message_size
        self.state = State.OPEN
        self.replies: list[bytes] = []
        self.close_code: int | None = None
        self.close_reason = ""
        self.close_sent = False
        self.close_received = False
        self.closed_by = ""
        self.pong: bytes | None = None
        # The start of a header that isn't complete yet.
        self._header = b""
        # The frame whose payload is arriving.
        self._opcode = 0
        self._fin = False
        self._mask = b""
        self._remaining = 0
        self._control: bytearray | None = None
        # The message that is arriving: its opcode (0: none), bytes so far, text
        # or bytes so far.
        self._message_opcode = 0
        self._size = 0
        self._parts: list[str] | bytearray | None = None
        self._decoder: codecs.IncrementalDecoder | None = None

    # Sending

    def encode_message(self, message: str | Buffer) -> bytes:
        """Return the frame of a message: text for str, binary for bytes-like.

        Raises TypeError for anything else, ValueError for a str that has no
        UTF-8 form (lone surrogates).
        """
        if isinstance(message, str):
            return encode_frame(1, message.encode())
        if isinstance(message, bytes):
            return encode_frame(2, message)
        if isinstance(message, (bytearray, memoryview)):
            return encode_frame(2, bytes(message))
        raise TypeError(f"a message is str or bytes-like, not {type(message).__name__}")

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

    def start_close(self, code: int | None = 1000, reason: str = "") -> bytes:
        """Start the closing handshake (section 7.1.2); return the close frame.

        Only while the state is OPEN.  Raises ValueError for a code or reason
        that must not be sent, and then nothing has changed.
        """
        frame = encode_frame(Opcode.CLOSE, encode_close(code, reason))
        if code is None:
            code = int(CloseCode.NO_STATUS_RECEIVED)
        self._set_close(code, reason, "server")
        self.close_sent = True
        self.state = State.CLOSING
        return frame

    # Receiving

    def receive_data(self, data: Buffer) -> list[Message]:
        """Take bytes of the peer; return the messages that they complete.

        ``data`` may be cut anywhere and isn't kept.  Look at ``replies``,
        ``pong`` and ``state`` afterwards.  Never raises: a fault of the peer
        fails the connection.
        """
        messages: list[Message] = []
        try:
            if self.state is _OPEN:
                if not (self._remaining or self._message_opcode or self._header):
                    data = self._parse_short(data, messages)
                    if not data:
                        return messages
            elif self.state is State.CLOSED:
                return messages
            self._parse(data, messages)
        except ProtocolError as exc:
            self._fail(exc)
        return messages

    def receive_eof(self) -> None:
        """The peer ended the stream, or the connection was lost.

        Section 7.1.5: without a close frame "_The WebSocket Connection Close
        Code_ is considered to be 1006".
        """
        self._set_close(int(CloseCode.ABNORMAL_CLOSURE), "", "nobody")
        self._end()

    def _parse_short(self, data: Buffer, messages: list[Message]) -> Buffer:
        """Parse what nearly always comes: short messages, each in one whole frame.

        Returns what comes after them.
        """
        limit = self.max_message_size
        position = 0
        end = len(data)
        while position + 6 <= end:
            first = data[position]
            length = data[position + 1] - 0x80
            frame_end = position + 6 + length
            if (
                (first != 0x81 and first != 0x82)
                or not 0 <= length < 126
                or frame_end > end
                or (limit is not None and length > limit)
            ):
                break
            payload = unmask_short(data[position + 2 : frame_end], length)
            messages.append(_decode(payload) if first == 0x81 else payload)
            position = frame_end
        return data[position:] if position else data

    def _parse(self, data: Buffer, messages: list[Message]) -> None:
        if self._header:
            data = self._header + bytes(data)
            self._header = b""
        position = 0
        end = len(data)
        while position < end:
            if not self._remaining:
                header = parse_header(data, position)
                if header is None:
                    self._header = bytes(data[position:])
                    return
                position = self._start_frame(*header)
            taken = min(self._remaining, end - position)
            if taken:
                payload = apply_mask(data[position : position + taken], self._mask)
                position += taken
                self._remaining -= taken
                turn = taken & 3
                if turn:
                    self._mask = self._mask[turn:] + self._mask[:turn]
            else:
                payload = b""
            if self._opcode >= 8:
                self._receive_control(payload)
                if self.close_received:
                    return
            else:
                self._receive_payload(payload, messages)

    def _start_frame(
        self, first: int, opcode: int, length: int, mask: bytes, position: int
    ) -> int:
        # Section 5.2: "MUST be 0 unless an extension is negotiated that defines
        # meanings for non-zero values."
        if first & 0x70:
            raise ProtocolError("reserved bits are set")
        if opcode < 8:
            # Section 5.4: fragments of one message follow each other, only
            # control frames may come between them.
            if opcode == Opcode.CONTINUATION:
                if not self._message_opcode:
                    raise ProtocolError("continuation of no message")
            elif self._message_opcode:
                raise ProtocolError("new message inside a fragmented one")
            else:
                self._message_opcode = opcode
                self._size = 0
            self._size += length
            if self.max_message_size is not None and self._size > self.max_message_size:
                raise MessageTooBig(
                    f"message is longer than {self.max_message_size} bytes"
                )
        self._opcode = opcode
        self._fin = bool(first & 0x80)
        self._mask = mask
        self._remaining = length
        return position

    def _receive_payload(self, payload: Buffer, messages: list[Message]) -> None:
        """Add a piece of a data frame to the message, and end what is complete."""
        is_last = self._fin and not self._remaining
        if self._message_opcode == Opcode.TEXT:
            if self._decoder is None:
                if is_last:
                    self._message_opcode = 0
                    self._deliver(_decode(payload), messages)
                    return
                self._decoder = _new_decoder()
                self._parts = []
            assert isinstance(self._parts, list)
            try:
                text = self._decoder.decode(bytes(payload), is_last)
            except UnicodeDecodeError as exc:
                raise InvalidPayload("text isn't UTF-8") from exc
            if text:
                self._parts.append(text)
            if is_last:
                message: Message = "".join(self._parts)
        else:
            if self._parts is None:
                self._parts = bytearray()
            assert isinstance(self._parts, bytearray)
            self._parts += payload
            if is_last:
                message = bytes(self._parts)
        if is_last:
            self._forget_message()
            self._deliver(message, messages)

    def _receive_control(self, payload: Buffer) -> None:
        if self._remaining or self._control is not None:
            if self._control is None:
                self._control = bytearray()
            self._control += payload
            if self._remaining:
                return
            payload = self._control
            self._control = None
        payload = bytes(payload)
        if self._opcode == Opcode.PING:
            # Section 5.5.2: "Upon receipt of a Ping frame, an endpoint MUST
            # send a Pong frame in response, unless it already received a Close
            # frame."  After our own close frame nothing may follow (5.5.1).
            if not self.close_sent:
                self.replies.append(encode_frame(Opcode.PONG, payload))
        elif self._opcode == Opcode.PONG:
            self.pong = payload
        else:
            self._receive_close(payload)

    def _receive_close(self, payload: bytes) -> None:
        code, reason = parse_close(payload)
        self.close_received = True
        self._set_close(code, reason, "client")
        if not self.close_sent:
            # Section 5.5.1: "If an endpoint receives a Close frame and did not
            # previously send a Close frame, the endpoint MUST send a Close
            # frame in response.  (...) it typically echos the status code it
            # received."
            self.replies.append(encode_frame(Opcode.CLOSE, payload[:2]))
            self.close_sent = True
        self._end()

    def _deliver(self, message: Message, messages: list[Message]) -> None:
        if self.state is State.OPEN:
            messages.append(message)

    # Ending

    def _fail(self, error: ProtocolError) -> None:
        """_Fail the WebSocket Connection_ (section 7.1.7) because of ``error``."""
        self._set_close(error.close_code, str(error), "server")
        if not self.close_sent:
            payload = encode_close(error.close_code, str(error))
            self.replies.append(encode_frame(Opcode.CLOSE, payload))
            self.close_sent = True
        self._end()

    def _end(self) -> None:
        self.state = State.CLOSED
        self._header = b""
        self._remaining = 0
        self._control = None
        self._forget_message()

    def _forget_message(self) -> None:
        self._message_opcode = 0
        self._parts = None
        self._decoder = None

    def _set_close(self, code: int, reason: str, closed_by: str) -> None:
        if self.close_code is None:
            self.close_code = code
            self.close_reason = reason
            self.closed_by = closed_by


def _decode(payload: Buffer) -> str:
    try:
        return str(payload, "utf-8")
    except UnicodeDecodeError as exc:
        # Section 8.1: "When an endpoint is to interpret a byte stream as UTF-8
        # but finds that the byte stream is not, in fact, a valid UTF-8 stream,
        # that endpoint MUST _Fail the WebSocket Connection_."
        raise InvalidPayload("text isn't UTF-8") from exc
