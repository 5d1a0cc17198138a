"""What must hold for any input, as functions of bytes for ``tests.fuzz``.

A target returns when all is well and raises otherwise.  ``SEEDS`` are inputs to
start from.  Nothing here needs the fuzzer itself.
"""

from __future__ import annotations

import gc
import re
import zlib
from collections.abc import Callable, Iterable
from typing import Any

from dwebsocket.deflate import Deflate, Options, negotiate
from dwebsocket.exceptions import (
    HandshakeError,
    InvalidPayload,
    MessageTooBig,
    ProtocolError,
)
from dwebsocket.frames import (
    apply_mask,
    encode_close,
    is_valid_close_code,
    parse_close,
    parse_header,
    unmask,
)
from dwebsocket.handshake import (
    accept_key,
    check_origin,
    check_request,
    check_response_headers,
    choose_subprotocol,
    is_websocket_request,
    parse_extensions,
    parse_subprotocols,
)
from dwebsocket.message import IncomingMessage
from dwebsocket.protocol import Message, Protocol, State

TAIL = b"\x00\x00\xff\xff"
LIMITS = (None, 0, 1, 10, 125, 126, 1000, 100_000)


def cut(data: bytes, sizes: Iterable[int]) -> list[bytes]:
    """Return ``data`` in pieces of ``sizes``, in turn."""
    sizes = [max(size, 1) for size in sizes] or [1]
    pieces: list[bytes] = []
    position = 0
    while position < len(data):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(data[position : position + size])
        position += size
    return pieces or [b""]


def mask_naively(data: bytes, mask: bytes) -> bytes:
    """Mask as RFC 6455 section 5.3 puts it, octet by octet."""
    return bytes(octet ^ mask[i % 4] for i, octet in enumerate(data))


# frames


def read_header_naively(data: bytes) -> tuple[int, int, int, bytes, int] | None | str:
    """Return what section 5.2 makes of ``data``: a header, None or a fault."""
    if len(data) < 2:
        return None
    fin, opcode = data[0] >> 7, data[0] % 16
    if opcode not in (0, 1, 2, 8, 9, 10):
        return "opcode"
    if data[1] < 128:
        return "not masked"
    short = data[1] - 128
    if opcode > 7 and (short > 125 or not fin):
        return "control frame"
    extended = {126: 2, 127: 8}.get(short, 0)
    length = short
    if extended:
        field = data[2 : 2 + extended]
        if len(field) < extended:
            return None
        length = sum(octet << 8 * i for i, octet in enumerate(reversed(field)))
        if length < {2: 126, 8: 65536}[extended] or length >= 2**63:
            return "length"
    start = 2 + extended + 4
    if len(data) < start:
        return None
    return data[0], opcode, length, data[start - 4 : start], start


def fuzz_frames(data: bytes) -> None:
    expected = read_header_naively(data)
    for before in (b"", b"\x81\x85"):
        try:
            header: Any = parse_header(before + data, len(before))
        except ProtocolError as exc:
            assert type(exc) is ProtocolError
            header = "fault"
        if isinstance(expected, tuple):
            *start, position = expected
            assert header == (*start, position + len(before))
        else:
            assert header == ("fault" if expected else None)

    mask, payload = data[:4].ljust(4, b"\0"), data[4:]
    masked = mask_naively(payload, mask)
    assert apply_mask(payload, mask) == masked
    assert apply_mask(memoryview(payload), mask) == masked
    assert apply_mask(apply_mask(payload * 9, mask), mask) == payload * 9
    short = payload[:125]
    assert unmask(mask + short, 0, len(short)) == masked[:125]

    try:
        code, reason = parse_close(data[:125])
    except InvalidPayload as exc:
        assert exc.close_code == 1007
    except ProtocolError as exc:
        assert exc.close_code == 1002
    else:
        assert is_valid_close_code(code) or (code, data) == (1005, b"")
        if data:
            assert encode_close(code, reason) == data[:125]


# deflate


def inflate_by_zlib(data: bytes) -> bytes | None:
    """Return the message of a compressed payload; None if it isn't one.

    By the letter of RFC 7692 section 7.2.2: with the tail it is a sequence of whole
    blocks, which a last block makes a stream, or several.
    """
    message = b""
    rest = data + TAIL + b"\x03\x00"
    while data:
        stream = zlib.decompressobj(-15)
        try:
            message += stream.decompress(rest)
        except zlib.error:
            return None
        if not stream.eof:
            return None
        rest = stream.unused_data
        if rest in (b"", b"\x03\x00", TAIL + b"\x03\x00"):
            break
    return message


def agree(options: Options) -> Deflate:
    """Return the extension, the client offering no more than that."""
    agreed = negotiate([("permessage-deflate", [])], options)
    assert agreed is not None
    return agreed[1]


def inflate(
    deflate: Deflate, messages: list[list[bytes]], limit: int | None
) -> list[bytes | None]:
    """Return the messages that come in pieces; None is the first fault."""
    inflated: list[bytes | None] = []
    for pieces in messages:
        inflater = deflate.start_message()
        message = b""
        try:
            for i, piece in enumerate(pieces):
                is_last = i == len(pieces) - 1
                part = inflater.decompress(piece, is_last=is_last, max_size=limit)
                assert limit is None or len(message) + len(part) <= limit
                message += part
        except (InvalidPayload, MessageTooBig):
            return [*inflated, None]
        inflated.append(message)
    return inflated


def fuzz_deflate(data: bytes) -> None:
    flags, size, data = data[:1], data[1:2], data[2:]
    options = Options(bool(ord(flags or b"\0") & 1), bool(ord(flags or b"\0") & 1))
    limit = LIMITS[ord(flags or b"\0") >> 1 & 7]
    messages = data.split(b"MESSAGE")

    whole = inflate(agree(options), [[message] for message in messages], limit)
    for cutter in (
        lambda message: cut(message, [1]),
        lambda message: [b"", *cut(message, [*size, 3]), b""],
    ):
        assert inflate(agree(options), list(map(cutter, messages)), limit) == whole
    # A message of no bytes at all is empty, and nothing comes of it.
    present = [[message] for message in messages if message]
    inflated_present = [
        inflated for message, inflated in zip(messages, whole, strict=False) if message
    ]
    assert inflate(agree(options), present, limit) == inflated_present
    if limit is None and not options.client_context_takeover:
        for message, inflated in zip(messages, whole, strict=False):
            assert inflate_by_zlib(message) == inflated

    deflate = agree(options)
    stream = zlib.decompressobj(-15)
    for payload in (data, data * 50, data):
        compressed = deflate.compress(payload)
        if compressed is not None:
            assert options.server_context_takeover or len(compressed) < len(payload)
            if not options.server_context_takeover:
                stream = zlib.decompressobj(-15)
            assert stream.decompress(compressed + TAIL) == payload
        else:
            assert len(payload) < 256 or not options.server_context_takeover


# handshake

ENVIRON = {
    "REQUEST_METHOD": "GET",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "HTTP_HOST": "server.example.com",
    "HTTP_UPGRADE": "websocket",
    "HTTP_CONNECTION": "Upgrade",
    "HTTP_SEC_WEBSOCKET_KEY": "dGhlIHNhbXBsZSBub25jZQ==",
    "HTTP_SEC_WEBSOCKET_VERSION": "13",
    "HTTP_SEC_WEBSOCKET_PROTOCOL": "chat, superchat",
    "HTTP_SEC_WEBSOCKET_EXTENSIONS": "permessage-deflate; client_max_window_bits",
    "HTTP_ORIGIN": "http://example.com",
    "CONTENT_LENGTH": "",
    "HTTP_TRANSFER_ENCODING": "",
}
TOKEN = re.compile(r"[!-~]+")
OFFERED = re.compile(
    "(?:server|client)_no_context_takeover"
    "|server_max_window_bits=(?:9|1[0-5])"
    "|client_max_window_bits(?:=(?:[89]|1[0-5]))?"
)
AGREED = re.compile(
    "(?:server|client)_no_context_takeover"
    "|(?:server|client)_max_window_bits=(?:[89]|1[0-5])"
)


def is_acceptable(offer: tuple[str, list[tuple[str, str | None]]]) -> bool:
    """Tell whether RFC 7692 section 7 lets a server accept the offer."""
    name, parameters = offer
    names = [name for name, _ in parameters]
    texts = [name if value is None else f"{name}={value}" for name, value in parameters]
    return (
        name == "permessage-deflate"
        and len(set(names)) == len(names)
        and all(map(OFFERED.fullmatch, texts))
    )


def fuzz_handshake(data: bytes) -> None:
    """Each line is a letter, for the number of the variable, and a value."""
    environ = dict(ENVIRON)
    names = list(ENVIRON)
    # PEP 3333: strings with one character for each byte.
    for line in data.decode("latin-1").split("\n"):
        if line:
            environ[names[ord(line[0]) % len(names)]] = line[1:]

    is_websocket = is_websocket_request(environ)
    assert is_websocket in (True, False)
    try:
        check_request(environ)
    except HandshakeError as exc:
        assert exc.status_code in (400, 426)
        assert (exc.status_code == 426) == ("Sec-WebSocket-Version" in exc.headers)
        assert str(exc)
    else:
        assert environ["REQUEST_METHOD"] == "GET"
        assert len(accept_key(environ)) == 28
        offered = parse_subprotocols(environ)
        assert offered and all(map(TOKEN.fullmatch, offered))
        assert choose_subprotocol(offered, ["none", offered[-1]]) == offered[-1]
    for options in (Options(), Options(True, True, 10, 10)):
        try:
            offers = parse_extensions(environ)
        except HandshakeError as exc:
            assert exc.status_code == 400
        else:
            agreed = negotiate(offers, options)
            assert (agreed is not None) == any(map(is_acceptable, offers))
            if agreed is not None:
                name, *parameters = agreed[0].split("; ")
                assert name == "permessage-deflate"
                assert all(map(AGREED.fullmatch, parameters))
                assert len(set(parameters)) == len(parameters)

    origin = environ["HTTP_ORIGIN"]
    host = environ["HTTP_HOST"]
    for is_secure in (False, True):
        for allowed in (None, [host], ["https://*.example.com"], "*"):
            try:
                check_origin(environ, host=host, is_secure=is_secure, allowed=allowed)
            except HandshakeError as exc:
                assert exc.status_code == 403
                assert allowed != "*"
                continue
            if allowed is None:
                assert re.fullmatch(r"https?://[^@/\\?#\s]+", origin.lower())
            elif allowed == ["https://*.example.com"]:
                assert re.fullmatch(
                    r"https://[^@/\\?#\s]*\.example\.com(:0*443|:)?|"
                    r"https://\*\.example\.com",
                    origin.lower(),
                )

    for value in environ.values():
        try:
            ((name, text),) = check_response_headers({"X-" + host: value})
        except ValueError:
            continue
        assert not re.search("[\r\n\0]", name + text)


# protocol


def outcome(
    pieces: list[bytes],
    limit: int | None,
    close_after: int | None,
    compression: Options | None = None,
) -> tuple[Any, ...]:
    """Feed ``pieces``; check what must hold at every moment; return the rest.

    ``close_after`` is how many bytes there are before our own close frame.
    """
    deflate = None if compression is None else agree(compression)
    protocol = Protocol(max_message_size=limit, deflate=deflate)
    messages: list[Message] = []
    replies: list[bytes] = []
    position = 0
    for piece in pieces:
        if position == close_after and protocol.state is State.OPEN:
            replies.append(protocol.start_close(1001))
        position += len(piece)
        was_open = protocol.state is State.OPEN
        got = protocol.receive_data(piece)
        assert was_open or not got
        messages += got
        while protocol.is_held:
            assert deflate is not None and limit is not None
            assert protocol.state is State.OPEN
            assert sum(map(size_of, got)) >= limit
            got = protocol.receive_data(b"")
            messages += got
        replies += protocol.replies
        protocol.replies.clear()
        check_size(protocol, limit)
    for message in messages:
        assert limit is None or size_of(message) <= limit
    for i, reply in enumerate(replies):
        assert reply[0] == 0x8A or (reply[0] == 0x88 and i == len(replies) - 1)
        assert reply[1] == len(reply) - 2 <= 125
        if reply[0] == 0x88:
            parse_close(reply[2:])
    result = (
        messages,
        replies,
        protocol.state,
        protocol.close_code,
        protocol.close_reason,
        protocol.close_sent,
        protocol.close_received,
        protocol.closed_by,
        protocol.pong,
    )
    assert protocol.close_sent == any(reply[0] == 0x88 for reply in replies)
    if protocol.state is State.CLOSED:
        assert protocol.receive_data(b"\x81\x80mask\x89\x80mask") == []
        assert not protocol.replies
    protocol.receive_eof()
    assert protocol.state is State.CLOSED
    check_size(protocol, limit)
    return result


def size_of(message: Message) -> int:
    return len(message.encode() if isinstance(message, str) else message)


def check_size(protocol: Protocol, limit: int | None) -> None:
    """Check that no more is kept than a message, a control frame and a header.

    Of a compiled protocol that isn't all to be seen; the fuzzer runs the source.
    """
    for name in Protocol.__slots__:
        if not name.startswith("_"):
            value = getattr(protocol, name)
            assert not isinstance(value, (bytes, str)) or len(value) <= 125
    size = 0
    for value in gc.get_referents(protocol):
        if isinstance(value, (bytes, bytearray)):
            size += len(value)
        elif isinstance(value, IncomingMessage):
            size += sum(
                len(part) for part in gc.get_referents(value) if type(part) is bytearray
            )
    size -= len(protocol.pong or b"")
    if protocol.state is State.CLOSED:
        assert size <= 4  # The last masking key
    elif limit is not None:
        assert size <= limit + 125 + 14 + 4


def encode_frames(data: bytes) -> bytes:
    """Return frames with what else ``data`` says: first byte, length, payload."""
    stream = b""
    while len(data) > 1:
        first, length = data[:2]
        payload = data[2 : 2 + length]
        data = data[2 + length :]
        mask = bytes((first, length, first ^ 0xFF, 0x5A))
        short = len(payload)
        header = bytes((first, 0x80 | min(short, 126)))
        if short > 125:
            header += short.to_bytes(2, "big")
        stream += header + mask + mask_naively(payload, mask)
    return stream


def name_one_fault(result: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return ``result`` with one and the same fault for those of a compressed message.

    Of several, which is seen first depends on how the message is cut.
    """
    messages, replies, state, code, reason, sent, *rest = result
    if sent and code in (1007, 1009):
        replies, code, reason = replies[:-1], 1007, ""
    return messages, replies, state, code, reason, sent, *rest


def fuzz_protocol(data: bytes) -> None:
    flags, data = data[:3].ljust(3, b"\0"), data[3:]
    limit = LIMITS[flags[0] & 7]
    stream = encode_frames(data) if flags[0] & 8 else data
    close_after = flags[1] if flags[0] & 16 else None
    takeover = bool(flags[0] & 64)
    compression = Options(takeover, takeover) if flags[0] & 32 else None
    whole = [stream]
    if close_after is not None:
        whole = [stream[:close_after], stream[close_after:]]
    result = outcome(whole, limit, close_after, compression)
    for sizes in ([1], [flags[2], *flags]):
        pieces = [piece for part in whole for piece in cut(part, sizes)]
        again = outcome(pieces, limit, close_after, compression)
        assert again == result or (
            compression is not None and name_one_fault(again) == name_one_fault(result)
        )

    # Behind whole messages, the same again gives the same again.
    messages = result[0]
    probe = b"\x82\x80mask"
    probed, _, state, *_ = outcome([stream, probe], limit, None, compression)
    if close_after is None and state is State.OPEN and probed == [*messages, b""]:
        repeated, *_ = outcome([stream, stream], limit, None, compression)
        assert repeated == messages * 2


TARGETS: dict[str, Callable[[bytes], None]] = {
    "deflate": fuzz_deflate,
    "frames": fuzz_frames,
    "handshake": fuzz_handshake,
    "protocol": fuzz_protocol,
}

_HELLO = bytes.fromhex("f2 48 cd c9 c9 07 00")
#: 1000 bytes, inflated.
_ZEROS = zlib.compress(bytes(1000))[2:-4].ljust(18, b"\0")
_OFFER = "permessage-deflate; server_max_window_bits=10; client_no_context_takeover"


def _lines(environ: dict[str, str]) -> bytes:
    letters = {name: chr(60 + i) for i, name in enumerate(ENVIRON)}
    return "\n".join(letters[k] + v for k, v in environ.items()).encode()


SEEDS: dict[str, list[bytes]] = {
    "deflate": [
        b"\x00\x03" + _HELLO,
        b"\x01\x03" + _HELLO + b"MESSAGE" + bytes.fromhex("f2 00 11 00 00"),
        b"\x08\x01\x00\x05\x00\xfa\xffHello\x00",
        b"\x00\x02\xf3" + _HELLO[1:] + b"\x00",
        b"\x01\x05\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",
        b"\x0c\x09" + zlib.compress(b"Hello" * 1000)[2:-4],
        b"\x00\x09" + zlib.compress(bytes(70_000))[2:-4] + _HELLO,
        b"\x0f\x05" + zlib.compress(bytes(99_999), 1)[2:-4] + b"\x00MESSAGE\x00",
        b"\x01\x05" + _HELLO + b"MESSAGEMESSAGE" + _HELLO,
    ],
    "frames": [
        b"\x81\x85maskHello",
        b"\x82\xfe\x01\x00mask",
        b"\x82\xff\x00\x00\x00\x00\x00\x01\x00\x00mask",
        b"\x03\xe8bye",
        b"mask" + bytes(range(125)),
        b"\x0b\xb8" + "\u20ac".encode(),
    ],
    "handshake": [
        _lines(dict(ENVIRON)),
        _lines({"HTTP_SEC_WEBSOCKET_KEY": "8", "HTTP_UPGRADE": "h2c , WebSocket"}),
        _lines({"HTTP_SEC_WEBSOCKET_VERSION": "8", "HTTP_CONNECTION": "close"}),
        _lines({"REQUEST_METHOD": "POST", "SERVER_PROTOCOL": "HTTP/2"}),
        _lines({"CONTENT_LENGTH": "1", "HTTP_TRANSFER_ENCODING": "chunked"}),
        _lines({"HTTP_SEC_WEBSOCKET_EXTENSIONS": f'{_OFFER}, x; y="z"; w'}),
        _lines({"HTTP_SEC_WEBSOCKET_EXTENSIONS": f"{_OFFER}; {_OFFER[20:]}, {_OFFER}"}),
        _lines({"HTTP_SEC_WEBSOCKET_EXTENSIONS": f"{_OFFER}; {_OFFER[20:]}"}),
        _lines({"HTTP_ORIGIN": "http://server.example.com"}),
        _lines({"HTTP_ORIGIN": "http://server.example.com/"}),
        _lines({"HTTP_ORIGIN": "http://me@server.example.com"}),
        _lines({"HTTP_ORIGIN": "https://[::1]:443", "HTTP_HOST": "[::1]"}),
        _lines({"HTTP_ORIGIN": "https://a.example.com:1", "HTTP_HOST": "a.b:1"}),
    ],
    "protocol": [
        b"\x00\x00\x00\x81\x85\0\0\0\0Hello",
        b"\x05\x00\x02\x01\x82maskHe\x89\x81maskp\x80\x83maskllo\x88\x82mask\x03\xe8",
        b"\x08\x00\x00\x01\x02He\x8a\x01p\x80\x03llo\x88\x05\x03\xe8bye",
        b"\x1c\x02\x07\x82\x7f" + bytes(127) + b"\x88\x02\x03\xe8",
        b"\x1c\x08\x07\x82\x00\x89\x01x\x82\x01y\x89\x00\x88\x00",
        b"\x0b\x00\x03\x02\x03bin\x80\x03ary\x01\x03tex\x80\x01t",
        b"\x0c\x00\x03\x89\x09",
        b"\x08\x00\x01\x01\x02\xe2\x82\x80\x01\xac",
        b"\x00\x00\x05\x82\xfe\x00\x7e\0\0\0\0" + bytes(126),
        b"\x28\x00\x03\xc1\x07" + _HELLO + b"\x89\x01x\xc1\x07" + _HELLO,
        b"\x68\x00\x02\x41\x03" + _HELLO[:3] + b"\x80\x04" + _HELLO[3:],
        b"\x69\x00\x09\xc2\x07" + _HELLO + b"\xc2\x05\xf2\x00\x11\x00\x00",
        b"\x7a\x09\x04" + (b"\xc1\x07" + _HELLO) * 5 + b"\x88\x02\x03\xe8",
        b"\x2e\x00\x20\xc2\x12" + _ZEROS + b"\x89\x01x\xc2\x12" + _ZEROS + b"\x88\0",
    ],
}
