"""``dwebsocket.groups.envelope``: what travels between processes."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dwebsocket.exceptions import ProtocolError
from dwebsocket.frames import is_valid_close_code
from dwebsocket.groups.envelope import MAX_SIZE, Envelope, make_close, make_message

ids = st.text(min_size=1).filter(lambda text: len(text.encode()) <= 200)
keys = st.text().filter(lambda text: len(text.encode()) <= 200)
close_codes = st.integers(1000, 4999).filter(is_valid_close_code)

envelopes = st.one_of(
    st.builds(
        make_message,
        st.text() | st.binary(),
        target=st.none() | ids,
        exclude=st.none() | ids,
        key=st.none() | keys,
    ),
    st.builds(
        make_close,
        close_codes,
        st.text().filter(lambda text: len(text.encode()) <= 123),
        target=st.none() | ids,
    ),
    st.builds(make_close, st.none(), st.just("")),
)


@given(envelopes)
@example(make_message("", key=""))
@example(make_message(b"\0", target="a" * 200, exclude="b" * 200, key="c" * 200))
def test_it_arrives_as_it_was(envelope: Envelope) -> None:
    assert Envelope.decode(envelope.encode()) == envelope


@given(envelopes, st.data())
def test_a_part_is_refused(envelope: Envelope, data: st.DataObject) -> None:
    encoded = envelope.encode()
    end = len(encoded) - len(envelope.payload)
    cut = data.draw(st.integers(0, end - 1))
    with pytest.raises(ValueError):
        Envelope.decode(encoded[:cut])


@given(st.binary() | st.binary().map(lambda data: b"\x01\x08\0\0\xff\xff" + data))
@example(b"\x01\x09\0\0\xff\xff")
@example(b"\x01\x08\0\0\xff\xff\x03")
@example(b"\x01\x08\0\0\xff\xff\x03\xed")
@example(b"\x01\x08\0\0\xff\xff\x03\xe8\xff")
@example(b"\x01\x08\0\0\xff\xff\x03\xe8" + b"x" * 124)
@example(b"\x02\x01\0\0\xff\xffx")
def test_anything_is_refused_or_an_envelope(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        envelope = Envelope.decode(data)
        assert envelope.opcode in (1, 2, 8)
        assert Envelope.decode(envelope.encode()) == envelope
        if envelope.opcode == 8:
            # It can be sent.
            make_close(*envelope.parse_close())


@pytest.mark.parametrize(
    "message, opcode, payload",
    [
        ("\u2603", 1, b"\xe2\x98\x83"),
        (b"\xff", 2, b"\xff"),
        (bytearray(b"a"), 2, b"a"),
        (memoryview(b"abc")[1:], 2, b"bc"),
        (type("Text", (str,), {})("a"), 1, b"a"),
    ],
)
def test_messages(message: Any, opcode: int, payload: bytes) -> None:
    envelope = make_message(message)
    assert envelope == (opcode, payload, None, None, None)
    assert type(envelope.payload) is bytes


@pytest.mark.parametrize("message", [None, 1, ["a"], object()])
def test_what_is_no_message(message: Any) -> None:
    with pytest.raises(TypeError, match="str or bytes-like"):
        make_message(message)


def test_limits() -> None:
    assert len(make_message(bytes(MAX_SIZE)).payload) == MAX_SIZE == 16 * 1024 * 1024
    for message in (bytes(MAX_SIZE + 1), "\xe4" * (MAX_SIZE // 2 + 1), "\ud800"):
        with pytest.raises(ValueError):
            make_message(message)
    assert make_message("", key="\xe4" * 100).key == "\xe4" * 100
    for key in ("\xe4" * 101, "\ud800"):
        with pytest.raises(ValueError):
            make_message("", key=key)


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 2000, 5000])
def test_codes_that_are_not_sent(code: int) -> None:
    with pytest.raises((ProtocolError, ValueError)):
        make_close(code, "")
