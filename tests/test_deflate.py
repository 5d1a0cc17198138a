"""The extension permessage-deflate of ``dwebsocket.deflate``, by sections of RFC 7692.

What goes over the wire is checked against ``websockets`` as well, in both
directions and with all parameters.
"""

from __future__ import annotations

import gc
import itertools
import os
import random
import threading
import tracemalloc
import zlib
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import NegotiationError
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    ServerPerMessageDeflateFactory,
)
from websockets.frames import Frame, Opcode

from dwebsocket.deflate import Deflate, Options, negotiate
from dwebsocket.exceptions import InvalidPayload, MessageTooBig
from dwebsocket.handshake import parse_extensions

from .fuzz_targets import TAIL, inflate_by_zlib

#: The same examples in every run; more of them, at random, when asked for.
EXAMPLES = settings(
    max_examples=int(os.environ.get("DWEBSOCKET_HYPOTHESIS_EXAMPLES", "100")),
    derandomize="DWEBSOCKET_HYPOTHESIS_EXAMPLES" not in os.environ,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

EVERYTHING = Options(server_context_takeover=True, client_context_takeover=True)


def agree(header: str, options: Options) -> tuple[str, Deflate] | None:
    """Negotiate as the handshake does, about the value of a request header."""
    offers = parse_extensions({"HTTP_SEC_WEBSOCKET_EXTENSIONS": header})
    return negotiate(offers, options)


def make(options: Options = EVERYTHING, offer: str = "permessage-deflate") -> Deflate:
    agreed = agree(offer, options)
    assert agreed is not None
    return agreed[1]


def compress(payload: bytes, *, level: int = 6, window_bits: int = 15) -> bytes:
    """Do what section 7.2.1 says, with a stream of its own."""
    stream = zlib.compressobj(level, zlib.DEFLATED, -window_bits)
    compressed = stream.compress(payload) + stream.flush(zlib.Z_SYNC_FLUSH)
    assert compressed.endswith(TAIL)
    return compressed[:-4]


def compress_finally(payload: bytes) -> bytes:
    """The same with a last block, as in section 7.2.3.4."""
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(payload) + stream.flush() + b"\x00"


def inflate(
    deflate: Deflate, pieces: Iterable[bytes], max_size: int | None = None
) -> bytes:
    """Inflate one message."""
    *pieces, last = pieces
    inflater = deflate.start_message()
    message = b""
    for piece in pieces:
        message += inflater.decompress(piece, is_last=False, max_size=max_size)
    return message + inflater.decompress(last, is_last=True, max_size=max_size)


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)] or [b""]


def ways_to_cut(data: bytes) -> Iterator[list[bytes]]:
    """Yield ``data`` whole, in bytes, and whole with an empty frame behind."""
    yield [data]
    yield cut(data, 1)
    yield [data, b""]
    yield [b"", *cut(data, 2), b""]


# Section 7.1, negotiation

ALONE = "permessage-deflate"
NO_TAKEOVER = f"{ALONE}; server_no_context_takeover; client_no_context_takeover"


@pytest.mark.parametrize(
    ("offer", "options", "response"),
    [
        # What browsers offer, and the defaults
        (f"{ALONE}; client_max_window_bits", Options(), NO_TAKEOVER),
        (ALONE, Options(), NO_TAKEOVER),
        (NO_TAKEOVER, Options(), NO_TAKEOVER),
        # 7.1.1.1 and 7.1.1.2
        (ALONE, EVERYTHING, ALONE),
        (
            f"{ALONE}; server_no_context_takeover",
            EVERYTHING,
            f"{ALONE}; server_no_context_takeover",
        ),
        (
            f"{ALONE}; client_no_context_takeover",
            EVERYTHING,
            f"{ALONE}; client_no_context_takeover",
        ),
        (
            f"{ALONE}; client_no_context_takeover; server_no_context_takeover",
            EVERYTHING,
            NO_TAKEOVER,
        ),
        (
            ALONE,
            Options(server_context_takeover=True),
            f"{ALONE}; client_no_context_takeover",
        ),
        (
            ALONE,
            Options(client_context_takeover=True),
            f"{ALONE}; server_no_context_takeover",
        ),
        # 7.1.2.1
        (
            f"{ALONE}; server_max_window_bits=9",
            EVERYTHING,
            f"{ALONE}; server_max_window_bits=9",
        ),
        (
            f"{ALONE}; server_max_window_bits=15",
            EVERYTHING,
            f"{ALONE}; server_max_window_bits=15",
        ),
        (
            f'{ALONE}; server_max_window_bits="12"',
            EVERYTHING,
            f"{ALONE}; server_max_window_bits=12",
        ),
        (
            f"{ALONE}; server_max_window_bits=12",
            EVERYTHING._replace(server_max_window_bits=10),
            f"{ALONE}; server_max_window_bits=10",
        ),
        (
            f"{ALONE}; server_max_window_bits=10",
            EVERYTHING._replace(server_max_window_bits=12),
            f"{ALONE}; server_max_window_bits=10",
        ),
        (
            ALONE,
            EVERYTHING._replace(server_max_window_bits=12),
            f"{ALONE}; server_max_window_bits=12",
        ),
        # 7.1.2.2
        (f"{ALONE}; client_max_window_bits", EVERYTHING, ALONE),
        (f"{ALONE}; client_max_window_bits=15", EVERYTHING, ALONE),
        (
            f"{ALONE}; client_max_window_bits=10",
            EVERYTHING,
            f"{ALONE}; client_max_window_bits=10",
        ),
        (
            f"{ALONE}; client_max_window_bits=8",
            EVERYTHING,
            f"{ALONE}; client_max_window_bits=8",
        ),
        (
            f"{ALONE}; client_max_window_bits",
            EVERYTHING._replace(client_max_window_bits=12),
            f"{ALONE}; client_max_window_bits=12",
        ),
        (
            f"{ALONE}; client_max_window_bits=10",
            EVERYTHING._replace(client_max_window_bits=12),
            f"{ALONE}; client_max_window_bits=10",
        ),
        (
            f"{ALONE}; client_max_window_bits=12",
            EVERYTHING._replace(client_max_window_bits=10),
            f"{ALONE}; client_max_window_bits=10",
        ),
        (ALONE, EVERYTHING._replace(client_max_window_bits=12), ALONE),
        # All four
        (
            f"{NO_TAKEOVER}; server_max_window_bits=9; client_max_window_bits=11",
            Options(server_max_window_bits=10, client_max_window_bits=10),
            f"{NO_TAKEOVER}; server_max_window_bits=9; client_max_window_bits=10",
        ),
    ],
)
def test_7_1_response(offer: str, options: Options, response: str) -> None:
    agreed = agree(offer, options)
    assert agreed is not None
    assert agreed[0] == response


BAD_PARAMETERS = [
    # Not defined
    "unknown",
    "unknown=1",
    "Server_No_Context_Takeover",
    "server_max_window_bit=10",
    # Invalid values
    "server_no_context_takeover=1",
    "server_no_context_takeover=true",
    "client_no_context_takeover=1",
    'client_no_context_takeover="x"',
    "server_max_window_bits",
    *(f"server_max_window_bits={value}" for value in ("7", "16", "0", "010", "09")),
    *(f"server_max_window_bits={value}" for value in ("-9", "+9", "1e1", "x", "9.0")),
    *(f"client_max_window_bits={value}" for value in ("7", "16", "0", "010", "09")),
    *(f"client_max_window_bits={value}" for value in ("-9", "+9", "1e1", "x", "true")),
    # Several of the same name
    "server_no_context_takeover; server_no_context_takeover",
    "client_no_context_takeover; client_no_context_takeover",
    "server_max_window_bits=10; server_max_window_bits=10",
    "server_max_window_bits=10; server_max_window_bits=11",
    "client_max_window_bits; client_max_window_bits",
    "client_max_window_bits=10; client_max_window_bits",
    # A window that zlib doesn't have
    "server_max_window_bits=8",
]


@pytest.mark.parametrize("parameters", BAD_PARAMETERS)
@pytest.mark.parametrize("options", [Options(), EVERYTHING])
def test_7_a_bad_offer_is_declined(parameters: str, options: Options) -> None:
    bad = f"{ALONE}; {parameters}"
    assert agree(bad, options) is None
    good = "client_max_window_bits=10"
    if "client_max_window_bits" not in parameters:
        assert agree(f"{bad}; {good}", options) is None
        assert agree(f"{ALONE}; {good}; {parameters}", options) is None
    # Section 5: the next offer has its turn.
    response, _ = agree(f"{bad}, {bad}, {ALONE}; {good}, {ALONE}", options) or ("", 0)
    assert response.endswith("client_max_window_bits=10")


def test_5_first_of_several_offers_wins() -> None:
    header = f"{ALONE}; server_max_window_bits=10, {ALONE}; server_max_window_bits=11"
    response, _ = agree(header, EVERYTHING) or ("", 0)
    assert response == f"{ALONE}; server_max_window_bits=10"


def test_5_other_extensions_are_left_alone() -> None:
    assert agree("x-webkit-deflate-frame", Options()) is None
    assert agree("Permessage-Deflate", Options()) is None
    header = f"permessage-bzip2; unknown=1, {ALONE}, x-webkit-deflate-frame"
    assert (agree(header, EVERYTHING) or [""])[0] == ALONE
    assert negotiate([], Options()) is None


def test_without_context_there_is_one_object_for_all_connections() -> None:
    deflate = make(Options())
    assert make(Options(), NO_TAKEOVER) is deflate
    assert make(Options(), f"{ALONE}; client_max_window_bits=10") is deflate
    assert make(EVERYTHING, NO_TAKEOVER) is deflate
    assert not deflate.compressor.keeps_context
    assert make(Options(), f"{ALONE}; server_max_window_bits=10") is not deflate
    assert make(Options(threshold=1)) is not deflate


def test_connections_that_keep_no_context_to_send_share_the_compressor() -> None:
    one = make(EVERYTHING, f"{ALONE}; server_no_context_takeover")
    other = make(EVERYTHING, f"{ALONE}; server_no_context_takeover")
    assert one is not other
    assert one.compressor is other.compressor is make(Options()).compressor


def test_context_is_of_one_connection() -> None:
    one, other = make(), make()
    assert one is not other
    assert one.compressor is not other.compressor
    assert one.compressor.keeps_context
    assert one.start_message() is not other.start_message()
    to_send = Options(server_context_takeover=True)
    assert make(to_send).compressor is not make(to_send).compressor


def parse_parameters(header: str) -> list[tuple[str, str | None]]:
    ((name, parameters),) = parse_extensions({"HTTP_SEC_WEBSOCKET_EXTENSIONS": header})
    assert name == ALONE
    return parameters


@EXAMPLES
@given(
    st.lists(
        st.sampled_from(
            [*BAD_PARAMETERS, *parse_parameters(NO_TAKEOVER), "client_max_window_bits"]
        ).map(lambda parameter: parameter if type(parameter) is str else parameter[0])
        | st.builds(
            "{}_max_window_bits={}".format,
            st.sampled_from(["server", "client"]),
            st.integers(7, 16),
        ),
        max_size=4,
    ),
    st.booleans(),
    st.booleans(),
    st.integers(9, 15),
    st.integers(9, 15),
)
def test_an_offer_is_declined_when_websockets_declines_it(
    parameters: list[str],
    server_takeover: bool,
    client_takeover: bool,
    server_bits: int,
    client_bits: int,
) -> None:
    offer = "; ".join([ALONE, *parameters])
    agreed = agree(
        offer, Options(server_takeover, client_takeover, server_bits, client_bits)
    )
    factory = ServerPerMessageDeflateFactory(
        not server_takeover, not client_takeover, server_bits, client_bits
    )
    try:
        expected, _ = factory.process_request_params(parse_parameters(offer), [])
    except NegotiationError:
        # websockets makes a smaller window of its own of an 8; see above.
        assert agreed is None
    else:
        if "server_max_window_bits=8" in parameters:
            assert agreed is None
            return
        assert agreed is not None
        response = parse_parameters(agreed[0])
        # No window bits mean 15.
        assert {item for item in response if item[1] != "15"} == {
            item for item in expected if item[1] != "15"
        }


# Section 7.2.3, examples

HELLO = bytes.fromhex("f2 48 cd c9 c9 07 00")
HELLO_AGAIN = bytes.fromhex("f2 00 11 00 00")


@pytest.mark.parametrize("options", [Options(), EVERYTHING])
@pytest.mark.parametrize(
    ("compressed", "message"),
    [
        pytest.param("f2 48 cd c9 c9 07 00", b"Hello", id="7.2.3.1"),
        pytest.param("00 05 00 fa ff 48 65 6c 6c 6f 00", b"Hello", id="7.2.3.3"),
        pytest.param("f3 48 cd c9 c9 07 00 00", b"Hello", id="7.2.3.4"),
        pytest.param("f2 48 05 00 00 00 ff ff ca c9 c9 07 00", b"Hello", id="7.2.3.5"),
        pytest.param("00", b"", id="7.2.3.6"),
    ],
)
def test_7_2_3_examples(compressed: str, message: bytes, options: Options) -> None:
    deflate = make(options)
    for pieces in ways_to_cut(bytes.fromhex(compressed)):
        assert inflate(deflate, pieces) == message


def test_7_2_3_1_a_message_compressed_using_one_block() -> None:
    deflate = make(EVERYTHING._replace(threshold=0))
    assert deflate.compress(b"Hello") == HELLO
    fragments = [bytes.fromhex("f2 48 cd"), bytes.fromhex("c9 c9 07 00")]
    assert inflate(deflate, fragments) == b"Hello"


def test_7_2_3_2_sharing_the_window() -> None:
    deflate = make(EVERYTHING._replace(threshold=0))
    assert deflate.compress(b"Hello") == HELLO
    assert deflate.compress(b"Hello") == HELLO_AGAIN
    assert inflate(deflate, [HELLO]) == b"Hello"
    assert inflate(deflate, [HELLO_AGAIN]) == b"Hello"
    for pieces in ways_to_cut(HELLO_AGAIN):
        assert inflate(deflate, pieces) == b"Hello"


def test_7_2_3_2_not_sharing_the_window() -> None:
    deflate = make(Options())
    assert inflate(deflate, [HELLO]) == b"Hello"
    assert inflate(deflate, [HELLO]) == b"Hello"
    with pytest.raises(InvalidPayload):
        inflate(deflate, [HELLO_AGAIN])
    assert inflate(deflate, [HELLO]) == b"Hello"


@pytest.mark.parametrize("options", [Options(), EVERYTHING])
def test_7_2_1_blocks_may_be_last_ones(options: Options) -> None:
    deflate = make(options)
    last = compress_finally(b"Hello")[:-1]
    big = compress_finally(b"0123456789" * 10_000)[:-1]
    for before, behind in itertools.product((b"", last, HELLO + TAIL), (HELLO, b"\0")):
        data = before + last + last + behind
        message = b"Hello" * (2 + bool(before) + (behind == HELLO))
        for pieces in ways_to_cut(data):
            assert inflate(deflate, pieces) == message
    assert inflate(deflate, [big + big + HELLO]) == b"0123456789" * 20_000 + b"Hello"
    # Empty ones, and the shortest input between them.
    assert inflate(deflate, [b"\x03\x00" * 1000 + HELLO]) == b"Hello"


@pytest.mark.parametrize("options", [Options(), EVERYTHING])
def test_7_2_1_a_last_block_may_be_all(options: Options) -> None:
    """The octet that 7.2.3.4 puts behind it isn't missed."""
    deflate = make(options)
    for pieces in ways_to_cut(compress_finally(b"Hello")[:-1]):
        assert inflate(deflate, pieces) == b"Hello"


@pytest.mark.parametrize("options", [Options(), EVERYTHING])
def test_7_2_3_6_no_octet_at_all_is_an_empty_message(options: Options) -> None:
    deflate = make(options)
    for pieces in ([b""], [b"", b""]):
        assert inflate(deflate, pieces) == b""
        # It isn't in the way of the next message.
        assert inflate(deflate, [HELLO]) == b"Hello"


# Section 7.2.1, compression

TEXT = b'{"user": "alice", "text": "the quick brown fox"}, ' * 20


@pytest.mark.parametrize("options", [Options(), EVERYTHING])
def test_short_messages_are_not_compressed(options: Options) -> None:
    deflate = make(options._replace(threshold=500))
    assert deflate.compress(TEXT[:499]) is None
    assert deflate.compress(b"") is None
    compressed = deflate.compress(TEXT[:500])
    assert compressed is not None
    assert len(compressed) < 120
    assert deflate.compress(TEXT[:499]) is None
    assert make(Options()).compress(TEXT[:255]) is None
    assert make(Options()).compress(TEXT[:256]) is not None


@pytest.mark.parametrize("options", [Options(), EVERYTHING])
def test_empty_messages_are_not_compressed(options: Options) -> None:
    deflate = make(options._replace(threshold=0))
    for _ in range(3):
        assert deflate.compress(b"") is None
        assert deflate.compress(TEXT) is not None


def test_what_becomes_no_shorter_is_not_compressed() -> None:
    noise = random.Random(1).randbytes(1000)
    assert make(Options()).compress(noise) is None
    # With context the client's window has to go along with ours.
    deflate = make()
    first, second = deflate.compress(noise), deflate.compress(noise)
    assert first is not None and len(first) > 1000
    assert second is not None and len(second) < 50
    assert inflate(deflate, [first]) == inflate(deflate, [second]) == noise


def test_7_1_1_1_without_context_messages_stand_alone() -> None:
    """All are compressed by one stream, and understood in any order."""
    deflate = make(Options(threshold=0))
    rng = random.Random(2)
    messages = [TEXT * n for n in (1, 1, 2, 50, 1, 700, 1, 3)]
    messages += [TEXT[: rng.randrange(100, 1000)] for _ in range(200)]
    pairs = [(message, deflate.compress(message)) for message in messages]
    rng.shuffle(pairs)
    for message, compressed in pairs:
        assert compressed is not None
        assert zlib.decompressobj(-15).decompress(compressed + TAIL) == message
        assert len(compressed) == len(compress(message))


@pytest.mark.parametrize("bits", range(9, 16))
def test_7_1_2_1_window_of_the_server(bits: int) -> None:
    """Nothing refers to what is further back; so a small window inflates it."""
    noise = random.Random(bits).randbytes(1 << bits)
    for options in (Options(), EVERYTHING):
        deflate = make(options, f"{ALONE}; server_max_window_bits={bits}")
        stream = zlib.decompressobj(-bits)
        for message in (noise[:200] * 4, noise * 3, noise[:200] * 9):
            compressed = deflate.compress(message)
            # Too far back to see that it comes again.
            is_noise = message == noise * 3
            if compressed is None:
                assert is_noise and options != EVERYTHING
            else:
                assert stream.decompress(compressed + TAIL) == message
                assert (len(compressed) < len(message) * 0.8) == (not is_noise)


def test_threads_do_not_mix_their_messages() -> None:
    deflate = make(Options())
    start = threading.Barrier(4)
    faults: list[int] = []

    def run(number: int) -> None:
        payload = b"%d " % number * 20_000
        start.wait(30)
        for _ in range(20):
            compressed = deflate.compress(payload)
            if compressed is None or inflate(deflate, [compressed]) != payload:
                faults.append(number)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


# Section 7.2.2, decompression


@pytest.mark.parametrize("options", [Options(), EVERYTHING])
@pytest.mark.parametrize("size", [1, 100, 32767, 32768, 32769, 65536, 300_000])
def test_size_limit(options: Options, size: int) -> None:
    deflate = make(options)
    for message in (bytes(size), random.Random(3).randbytes(size)):
        compressed = compress(message)
        for pieces in (
            [compressed],
            cut(compressed, 7 + size // 1000),
            [compressed, b""],
        ):
            for limit in (None, size, size + 1):
                assert inflate(deflate, pieces, limit) == message
        for limit in (0, size // 2, size - 1):
            for pieces in (
                [compressed],
                cut(compressed, 7 + size // 1000),
                [compressed, b""],
            ):
                with pytest.raises(MessageTooBig, match=f"longer than {limit} bytes"):
                    inflate(make(options), pieces, limit)


@pytest.mark.parametrize("options", [Options(), EVERYTHING])
def test_size_limit_is_of_each_message(options: Options) -> None:
    deflate = make(options)
    for _ in range(5):
        assert inflate(deflate, [compress(TEXT)], len(TEXT)) == TEXT


def make_bomb() -> bytes:
    """Return 50 KB that become 50 MB."""
    stream = zlib.compressobj(9, wbits=-15)
    million = bytes(1_000_000)
    parts = [stream.compress(million) for _ in range(50)]
    bomb = b"".join(parts) + stream.flush(zlib.Z_SYNC_FLUSH)[:-4]
    assert len(bomb) < 50_000
    return bomb


@pytest.mark.parametrize("options", [Options(), EVERYTHING])
@pytest.mark.parametrize("piece_size", [50_000, 1000, 10])
def test_a_bomb_costs_no_more_than_the_limit(options: Options, piece_size: int) -> None:
    limit = 2**20
    pieces = cut(make_bomb(), piece_size)
    inflater = make(options).start_message()
    message: bytes | bytearray = b""
    gc.collect()
    tracemalloc.start()
    try:
        with pytest.raises(MessageTooBig):
            for piece in pieces:
                part = inflater.decompress(piece, is_last=False, max_size=limit)
                if isinstance(message, bytes):
                    message = bytearray(part) if isinstance(part, bytes) else part
                else:
                    message += part
                del part
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # An eighth is how a growing bytearray rounds up.
    assert peak < limit * 9 / 8 + 150_000


def test_many_last_blocks_take_no_more_memory() -> None:
    pieces = [b"\x03\x00" * 16_384, b"\x00"]
    gc.collect()
    tracemalloc.start()
    try:
        assert inflate(make(), pieces, 1000) == b""
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 200_000


DAMAGED = {
    "reserved block type": b"\x07",
    "reserved block type later": HELLO + TAIL + b"\x06",
    "wrong length of a stored block": b"\x00\x05\x00\xfa\xfeHello\x00",
    "distance too far back": HELLO_AGAIN,
    "bad code lengths": b"\xfc\xff\xff\xff\xff",
    "bits behind the last block": compress_finally(b"Hello")[:-1] + b"\xff",
}


@pytest.mark.parametrize("options", [Options(), EVERYTHING])
@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_data(name: str, options: Options) -> None:
    for pieces in ways_to_cut(DAMAGED[name]):
        with pytest.raises(InvalidPayload) as caught:
            inflate(make(options), pieces)
        assert caught.value.close_code == 1007
        assert len(str(caught.value)) < 100


@pytest.mark.parametrize("options", [Options(), EVERYTHING])
@pytest.mark.parametrize("level", [0, 1, 9])
def test_truncated_data(options: Options, level: int) -> None:
    """However a message is cut off, its end is missed.

    Without compression there are two places where there is none: behind the header
    of a block, which makes an empty message, and where the tail completes a block.
    """
    compressed = compress(TEXT[:200] + TEXT, level=level)
    for end in range(1, len(compressed)):
        for pieces in ([compressed[:end]], [compressed[: end // 2], compressed[:end]]):
            pieces[-1] = pieces[-1][sum(map(len, pieces[:-1])) :]
            try:
                message = inflate(make(options), pieces)
            except InvalidPayload:
                continue
            assert level == 0
            if end == 1:
                assert message == b""
            else:
                assert end == 5 + 200 + len(TEXT) - len(TAIL)
                assert message == (TEXT[:200] + TEXT)[: -len(TAIL)] + TAIL


def test_the_tail_may_be_payload() -> None:
    """Section 7.2.2 to the letter: it is appended, whatever it completes."""
    stored = b"\x00\x04\x00\xfb\xff"
    for options in (Options(), EVERYTHING):
        for pieces in ways_to_cut(stored):
            assert inflate(make(options), pieces) == TAIL
        for missing in (b"\x01\x05\x00\xfa\xff", b"\x01\x06\x00\xf9\xff"):
            for pieces in ways_to_cut(missing):
                with pytest.raises(InvalidPayload):
                    inflate(make(options), pieces)


def test_an_error_leaves_nothing_to_other_connections() -> None:
    deflate = make(Options())
    for bad in (*DAMAGED.values(), HELLO[:4]):
        with pytest.raises(InvalidPayload):
            inflate(deflate, [bad])
        assert inflate(deflate, [HELLO]) == b"Hello"
    with pytest.raises(MessageTooBig):
        inflate(deflate, [make_bomb()], 1000)
    assert inflate(deflate, [HELLO]) == b"Hello"
    begun = deflate.start_message()
    begun.decompress(HELLO[:3], is_last=False, max_size=None)
    assert inflate(deflate, [HELLO]) == b"Hello"
    assert begun.decompress(HELLO[3:], is_last=True, max_size=None).endswith(b"lo")


def test_context_over_many_messages() -> None:
    deflate = make(EVERYTHING._replace(threshold=20))
    client = zlib.compressobj(wbits=-15)
    server = zlib.decompressobj(-15)
    rng = random.Random(4)
    for number in range(2000):
        message = b'{"number": %d, "user": "%d"}' % (number, rng.randrange(20))
        compressed = client.compress(message) + client.flush(zlib.Z_SYNC_FLUSH)
        assert compressed.endswith(TAIL)
        pieces = cut(compressed[:-4], rng.randrange(1, 40))
        assert inflate(deflate, pieces, len(message)) == message
        answer = deflate.compress(message)
        assert answer is not None
        assert number < 20 or len(answer) < len(message) * 0.6
        assert server.decompress(answer + TAIL) == message
        # In between: not compressed, so not in the window of either side.
        assert deflate.compress(b"short") is None


def test_memory_of_a_connection() -> None:
    """None without context; with context what ``Options`` says, once it is used."""
    small = EVERYTHING._replace(
        server_max_window_bits=10, client_max_window_bits=10, memory_level=2
    )
    offer = f"{ALONE}; client_max_window_bits"
    compressed = compress(TEXT, window_bits=10)

    def measure(options: Options, *, is_used: bool) -> int:
        make(options, offer).compress(TEXT)  # What is shared
        connections: list[Deflate | None] = [None] * 20
        gc.collect()
        tracemalloc.start()
        try:
            for i in range(len(connections)):
                connections[i] = deflate = make(options, offer)
                if is_used:
                    assert deflate.compress(TEXT) is not None
                    assert inflate(deflate, [compressed]) == TEXT
            gc.collect()  # Free lists as well
            size, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        return size // len(connections)

    assert measure(Options(), is_used=True) < 50
    assert measure(EVERYTHING, is_used=False) < 1000
    assert 8_000 < measure(small, is_used=True) < 30_000
    assert 250_000 < measure(EVERYTHING, is_used=True) < 350_000


# Against websockets

#: Repetitions from nearby to further away than any window.
BLOCKS = [random.Random(size).randbytes(size) for size in (200, 600, 5000, 40_000)]
PAYLOADS = (
    st.binary(max_size=300)
    | st.text(max_size=100).map(str.encode)
    | st.builds(
        lambda block, times, end: block * times + end,
        st.sampled_from([b"x", b"abc", TEXT, *BLOCKS]),
        st.integers(1, 3),
        st.binary(max_size=5),
    )
)
BITS = st.integers(9, 15)


@EXAMPLES
@given(
    st.builds(
        Options,
        st.booleans(),
        st.booleans(),
        BITS,
        BITS,
        st.just(0),
        st.integers(1, 9),
        st.integers(1, 9),
    ),
    st.builds(
        ClientPerMessageDeflateFactory,
        st.booleans(),
        st.booleans(),
        st.none() | BITS,
        st.none() | st.just(True) | BITS,
    ),
    st.lists(PAYLOADS, max_size=5),
    st.integers(1, 1000),
    st.integers(1, 1000),
)
def test_round_trips_with_websockets(
    options: Options,
    factory: ClientPerMessageDeflateFactory,
    messages: list[bytes],
    frame_size: int,
    read_size: int,
) -> None:
    offer = [(ALONE, list(factory.get_request_params()))]
    agreed = negotiate(offer, options)
    assert agreed is not None
    client = factory.process_response_params(parse_parameters(agreed[0]), [])
    deflate = agreed[1]
    for message in messages:
        # From the client, in frames, read in pieces
        pieces = []
        opcode = Opcode.TEXT
        fragments = cut(message, max(frame_size, len(message) // 5))
        for number, fragment in enumerate(fragments):
            is_last = number == len(fragments) - 1
            frame = client.encode(Frame(opcode, fragment, is_last))
            pieces += cut(bytes(frame.data), max(read_size, len(message) // 20))
            opcode = Opcode.CONT
        assert inflate(deflate, pieces, len(message)) == message
        # To the client
        compressed = deflate.compress(message)
        if compressed is None:
            assert (
                not message
                or not options.server_context_takeover
                or (factory.server_no_context_takeover)
            )
            continue
        for data, is_last, opcode in (
            [(compressed, True, Opcode.TEXT)]
            if len(compressed) % 2
            else [
                (compressed[:3], False, Opcode.TEXT),
                (compressed[3:], True, Opcode.CONT),
            ]
        ):
            frame = client.decode(Frame(opcode, data, is_last, opcode is Opcode.TEXT))
            assert message.startswith(frame.data)
            message = message[len(frame.data) :]
        assert message == b""


#: Anything at all, and nearly valid data.
@st.composite
def data_of_any_kind(draw: st.DrawFn) -> bytes:
    data = bytearray(
        draw(
            st.binary(max_size=40)
            | st.builds(compress, PAYLOADS, level=st.sampled_from([0, 1, 9]))
            | st.builds(compress_finally, PAYLOADS)
            | st.lists(
                st.sampled_from([HELLO, HELLO_AGAIN, TAIL, b"\x03\x00", b"\x00"]),
                max_size=5,
            ).map(b"".join)
        )
    )
    for _ in range(draw(st.integers(0, 2))):
        position = draw(st.integers(0, len(data)))
        if position < len(data):
            data[position] ^= 1 << draw(st.integers(0, 7))
        else:
            del data[position // 2 :]
    return bytes(data)


@EXAMPLES
@given(
    st.lists(data_of_any_kind(), min_size=1, max_size=3),
    st.integers(1, 20),
    st.none() | st.integers(0, 300) | st.just(50_000),
    st.sampled_from([Options(), EVERYTHING]),
)
def test_result_does_not_depend_on_how_the_data_is_cut(
    messages: list[bytes], size: int, limit: int | None, options: Options
) -> None:
    outcomes = []
    for cutter in (
        lambda data: [data],
        lambda data: cut(data, 1 + len(data) // 2000),
        lambda data: cut(data, size + len(data) // 1000),
        lambda data: [*cut(data, size + len(data) // 1000), b""],
    ):
        deflate = make(options)
        outcome: list[bytes | type] = []
        for data in messages:
            try:
                message = inflate(deflate, cutter(data), limit)
            except (InvalidPayload, MessageTooBig):
                # If it is both, the first to be noticed counts.
                outcome.append(Exception)
                break
            assert limit is None or len(message) <= limit
            outcome.append(message)
        outcomes.append(outcome)
    assert all(outcome == outcomes[0] for outcome in outcomes)


@EXAMPLES
@given(data_of_any_kind())
def test_valid_data_is_what_zlib_calls_a_stream(data: bytes) -> None:
    """With the tail and a last block behind it, it is one, or several."""
    expected = inflate_by_zlib(data)
    if expected is not None:
        assert inflate(make(), [data]) == expected
    else:
        with pytest.raises(InvalidPayload, match="isn't valid"):
            inflate(make(), [data])
