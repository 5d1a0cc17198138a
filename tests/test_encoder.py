"""A message for many, as ``dwebsocket.encoder`` encodes it; the rest of the module is
tested with ``protocol``."""

from __future__ import annotations

import pytest
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.protocol import CLIENT, OPEN, Protocol

from dwebsocket.deflate import Deflate, Options, negotiate
from dwebsocket.encoder import Broadcast, Encoder

TEXT = "\u2603 the same again " * 40


def agree(**options: bool | int) -> Deflate:
    agreed = negotiate([("permessage-deflate", [])], Options(**options))  # type: ignore[arg-type]
    assert agreed is not None
    return agreed[1]


def decode(*frames: bytes, keeps_context: bool | None = None) -> list[bytes]:
    """Return what another implementation makes of frames."""
    client = Protocol(CLIENT, state=OPEN)
    if keeps_context is not None:
        extension = PerMessageDeflate(not keeps_context, True, 15, 15)
        client.extensions = [extension]
    client.receive_data(b"".join(frames))
    return [bytes(event.data) for event in client.events_received()]  # type: ignore[union-attr]


@pytest.mark.parametrize("payload", [b"", b"x", TEXT.encode(), bytes(70000)])
@pytest.mark.parametrize("opcode", [1, 2])
def test_it_is_encoded_once(opcode: int, payload: bytes) -> None:
    broadcast = Broadcast(opcode, payload)
    first, second = Encoder(None), Encoder(None)
    frame = first.encode_broadcast(broadcast)
    assert second.encode_broadcast(broadcast) is frame
    message = payload.decode() if opcode == 1 else payload
    assert frame == first.encode_message(message)
    assert decode(frame) == [payload]


def test_it_is_compressed_once_for_each_agreement() -> None:
    broadcast = Broadcast(1, TEXT.encode())
    plain = Encoder(None).encode_broadcast(broadcast)
    encoders = [Encoder(agree(level=level)) for level in (1, 1, 9, 9)]
    frames = [encoder.encode_broadcast(broadcast) for encoder in encoders]
    assert frames[0] is frames[1] and frames[2] is frames[3]
    assert max(map(len, frames)) < len(plain)
    assert Encoder(None).encode_broadcast(broadcast) is plain
    for frame in frames:
        assert decode(frame, keeps_context=False) == [TEXT.encode()]


def test_each_context_has_its_own() -> None:
    encoders = [Encoder(agree(server_context_takeover=True)) for _ in range(2)]
    own = encoders[0].encode_message("what the other hasn't sent " * 40)
    broadcast = Broadcast(1, TEXT.encode())
    sent = [
        [encoder.encode_broadcast(broadcast) for _ in range(2)] for encoder in encoders
    ]
    assert decode(own, *sent[0], keeps_context=True)[1:] == [TEXT.encode()] * 2
    assert decode(*sent[1], keeps_context=True) == [TEXT.encode()] * 2
    # The second refers to the first.
    assert len(sent[1][1]) < len(sent[1][0]) // 2
    assert not broadcast.frames
