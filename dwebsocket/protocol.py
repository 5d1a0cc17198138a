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

import enum
import sys

from .deflate import Deflate
from .encoder import RSV1, Encoder
from .exceptions import ProtocolError
from .frames import (
    Buffer,
    CloseCode,
    Opcode,
    apply_mask,
    encode_close,
    encode_frame,
    parse_close,
    parse_header,
    unmask,
)
from .message import LONG, IncomingMessage, Message, unmask_text

__all__ = ["Message", "Protocol", "State"]


class State(enum.IntEnum):
    """How far a connection is (RFC 6455 section 7.1)."""

    #: Messages go both ways.
    OPEN = 1
    #: A close frame was sent; the peer's is awaited, its messages are dropped.
    CLOSING = 2
    #: Nothing more is read or sent.
    CLOSED = 3


_OPEN = State.OPEN
_CLOSED = State.CLOSED
_LONG = LONG


class Protocol(Encoder):
    """State of one connection after its opening handshake.

    ``max_message_size`` is in bytes of payload, all fragments together and, if
    compressed, inflated; None means no limit.  ``deflate`` is the extension
    permessage-deflate, if agreed on.

    Attributes to read:

    * ``state``
    * ``replies``: frames that answer what was received, to be sent in this order
    * ``close_code``, ``close_reason``: of the first close frame, sent or
      received; None and "" while there was none
    * ``close_sent``, ``close_received``: whether there was such a frame
    * ``closed_by``: "client" or "server", whose close frame was first, "nobody"
      when the connection was lost without one; "" while it is open
    * ``pong``: payload of the last pong received, None after it was taken
    * ``message``: the one whose frames are arriving, or None
    * ``is_held``: the messages inflated so far are as long as one may be; call
      ``receive_data`` with what comes, or b"", when they are taken
    """

    __slots__ = (
        "_control",
        "_fin",
        "_inflated_size",
        "_mask",
        "_max_message_size",
        "_opcode",
        "_remaining",
        "_unparsed",
        "close_code",
        "close_reason",
        "close_received",
        "close_sent",
        "closed_by",
        "is_held",
        "message",
        "pong",
        "replies",
        "state",
    )

    def __init__(
        self, *, max_message_size: int | None = None, deflate: Deflate | None = None
    ) -> None:
        super().__init__(deflate)
        self._max_message_size = (
            sys.maxsize if max_message_size is None else max_message_size
        )
        self.state = State.OPEN
        self.replies: list[bytes] = []
        self.close_code: int | None = None
        self.close_reason = ""
        self.close_sent = False
        self.close_received = False
        self.closed_by = ""
        self.pong: bytes | None = None
        self.is_held = False
        # The start of a header that isn't complete yet, or all that comes after
        # the message at which this is held.
        self._unparsed = b""
        # The frame whose payload is arriving.
        self._opcode = 0
        self._fin = False
        self._mask = b""
        self._remaining = 0
        self._control: bytearray | None = None
        # The message whose frames are arriving.
        self.message: IncomingMessage | None = None
        # By the messages of this call.
        self._inflated_size = 0

    # Sending

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

        ``data`` may be cut anywhere.  Look at ``replies``, ``pong``, ``is_held``
        and ``state`` afterwards.  Never raises: a fault of the peer fails the
        connection.
        """
        octets = data if type(data) is bytes else bytes(data)
        received = self.receive_octets(octets, len(octets))
        return received if isinstance(received, list) else [received]

    def receive_octets(self, octets: Buffer, size: int) -> Message | list[Message]:
        """Do as ``receive_data`` does, with the first ``size`` bytes of a buffer.

        A message alone, which is what nearly always comes, isn't put into a list.
        """
        messages: list[Message] = []
        position = 0
        try:
            # Messages in one frame, all of it here.
            while position + 6 <= size and not (
                self._unparsed
                or self._remaining
                or self.message is not None
                or self.state is not _OPEN
            ):
                first = octets[position]
                length = octets[position + 1] - 0x80
                start = position + 2
                if length == 126:
                    length = octets[position + 2] << 8 | octets[position + 3]
                    start = position + 4
                    if length < 126:
                        break
                elif length < 0 or length == 127:
                    break
                end = start + 4 + length
                if end > size or length > self._max_message_size:
                    break
                if first == 0x82:
                    message: Message = unmask(octets, start, length)
                elif first != 0x81:
                    break
                else:
                    message = unmask_text(octets, start, length)
                if end == size and not messages:
                    return message
                messages.append(message)
                position = end
            # What is held back may be asked for with no bytes at all.
            if position < size or not size:
                self._parse(bytes(octets[position:size]), messages)
        except ProtocolError as exc:
            self._fail(exc)
        return messages

    def get_buffer(self) -> memoryview | None:
        """Return room for what comes next, if that is the rest of a long payload.

        After the bytes were put there call ``buffer_filled``, and ``receive_data``
        where this returns None.
        """
        incoming = self.message
        if (
            self._remaining < _LONG
            or self.state is not _OPEN
            or incoming is None
            or incoming.is_compressed
        ):
            return None
        return incoming.reserve(self._remaining)

    def buffer_filled(self, size: int) -> list[Message]:
        """Take ``size`` bytes that are in the buffer; otherwise like ``receive_data``.

        The buffer must be released.
        """
        incoming = self.message
        assert incoming is not None
        self._remaining -= size
        is_last = self._fin and not self._remaining
        try:
            message = incoming.fill(size, self._mask, is_last)
        except ProtocolError as exc:
            self._fail(exc)
            return []
        self._turn_mask(size)
        if is_last:
            self.message = None
        return [] if message is None else [message]

    def receive_eof(self) -> None:
        """The peer ended the stream, or the connection was lost.

        Section 7.1.5: without a close frame "_The WebSocket Connection Close
        Code_ is considered to be 1006".
        """
        self._set_close(int(CloseCode.ABNORMAL_CLOSURE), "", "nobody")
        self._end()

    def _parse(self, data: bytes, messages: list[Message]) -> None:
        if self.state is _CLOSED:
            return
        if self._unparsed:
            data = self._unparsed + data
            self._unparsed = b""
        self.is_held = False
        self._inflated_size = 0
        position = 0
        end = len(data)
        while position < end:
            if not self._remaining:
                if self.is_held:
                    self._unparsed = data[position:]
                    return
                header = parse_header(data, position)
                if header is None:
                    self._unparsed = data[position:]
                    return
                position = self._start_frame(*header)
            taken = min(self._remaining, end - position)
            if taken:
                payload = apply_mask(data, self._mask, position, position + taken)
                position += taken
                self._remaining -= taken
                self._turn_mask(taken)
            else:
                payload = b""
            if self._opcode >= 8:
                self._receive_control(payload)
                if self.close_received:
                    return
            else:
                self._receive_payload(payload, messages)
        self.is_held = False

    def _turn_mask(self, size: int) -> None:
        turn = size & 3
        if turn:
            self._mask = self._mask[turn:] + self._mask[:turn]

    def _start_frame(
        self, first: int, opcode: int, length: int, mask: bytes, position: int
    ) -> int:
        # Section 5.2: "MUST be 0 unless an extension is negotiated that defines
        # meanings for non-zero values."  RFC 7692 section 6.1: of a message's
        # frames, RSV1 is set in the first only.
        is_compressed = first & 0x70 == RSV1 and self._deflate is not None
        if first & 0x70 and not (is_compressed and opcode in (1, 2)):
            raise ProtocolError("reserved bits are set")
        if opcode < 8:
            # Section 5.4: fragments of one message follow each other, only
            # control frames may come between them.
            message = self.message
            if opcode == 0:
                if message is None:
                    raise ProtocolError("continuation of no message")
            elif message is not None:
                raise ProtocolError("new message inside a fragmented one")
            else:
                inflater = None
                if is_compressed:
                    assert self._deflate is not None
                    inflater = self._deflate.start_message()
                message = self.message = IncomingMessage(
                    opcode, self._max_message_size, inflater
                )
            message.announce(length)
        self._opcode = opcode
        self._fin = bool(first & 0x80)
        self._mask = mask
        self._remaining = length
        return position

    def _receive_payload(self, payload: Buffer, messages: list[Message]) -> None:
        """Add a piece of a data frame to its message, and end what is complete."""
        incoming = self.message
        assert incoming is not None
        is_last = self._fin and not self._remaining
        is_open = self.state is _OPEN
        # What will be dropped isn't worth inflating.
        if is_open or not incoming.is_compressed:
            size = incoming.size
            message = incoming.add(payload, is_last)
            self._inflated_size += incoming.size - size
            if message is not None and is_open:
                messages.append(message)
                # One read may hold a thousand messages that inflate to the limit.
                self.is_held = (
                    incoming.is_compressed
                    and self._inflated_size >= self._max_message_size
                )
        if is_last:
            self.message = None

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
        self.is_held = False
        self._unparsed = b""
        self._remaining = 0
        self._control = None
        self.message = None

    def _set_close(self, code: int, reason: str, closed_by: str) -> None:
        if self.close_code is None:
            self.close_code = code
            self.close_reason = reason
            self.closed_by = closed_by
