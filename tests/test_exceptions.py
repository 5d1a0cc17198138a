"""The exception tree of ``dwebsocket.exceptions`` and what each carries."""

from __future__ import annotations

import pickle

import pytest

from dwebsocket import exceptions
from dwebsocket.exceptions import (
    ConnectionClosed,
    HandshakeError,
    InvalidPayload,
    MessageTooBig,
    ProtocolError,
    UnsupportedServer,
    WebSocketError,
)


@pytest.mark.parametrize(
    "exception, base",
    [
        (WebSocketError, Exception),
        (HandshakeError, WebSocketError),
        (ProtocolError, WebSocketError),
        (InvalidPayload, ProtocolError),
        (MessageTooBig, ProtocolError),
        (ConnectionClosed, WebSocketError),
        (UnsupportedServer, WebSocketError),
    ],
)
def test_tree(exception: type[Exception], base: type[Exception]) -> None:
    assert exception.__bases__ == (base,)


def test_all_exceptions_are_public_and_drawn_in_the_docstring() -> None:
    defined = {
        name
        for name, value in vars(exceptions).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    assert set(exceptions.__all__) == defined
    assert exceptions.__doc__ is not None
    for name in defined:
        assert name in exceptions.__doc__


@pytest.mark.parametrize(
    "exception, close_code",
    [(ProtocolError, 1002), (InvalidPayload, 1007), (MessageTooBig, 1009)],
)
def test_7_4_1_faults_carry_their_close_code(
    exception: type[ProtocolError], close_code: int
) -> None:
    assert exception.close_code == close_code
    error = exception("what was wrong")
    assert error.close_code == close_code
    assert str(error) == "what was wrong"


def test_handshake_error_is_a_bad_request_unless_told_otherwise() -> None:
    error = HandshakeError("Why.")
    assert (str(error), error.status_code, error.headers) == ("Why.", 400, {})


def test_handshake_error_keeps_its_own_copy_of_the_headers() -> None:
    headers = {"Retry-After": "5"}
    error = HandshakeError("Full.", status_code=503, headers=headers)
    headers.clear()
    assert error.status_code == 503
    assert error.headers == {"Retry-After": "5"}
    assert HandshakeError("Full.").headers is not HandshakeError("Full.").headers


@pytest.mark.parametrize(
    "error, code, reason, text",
    [
        (ConnectionClosed(1001, "going away"), 1001, "going away", "1001 going away"),
        (ConnectionClosed(1006), 1006, "", "1006"),
    ],
)
def test_connection_closed_tells_code_and_reason(
    error: ConnectionClosed, code: int, reason: str, text: str
) -> None:
    assert (error.code, error.reason, str(error)) == (code, reason, text)
    assert error.args == (code, reason)


@pytest.mark.parametrize(
    "error",
    [
        HandshakeError("Why.", status_code=426, headers={"Upgrade": "websocket"}),
        InvalidPayload("text isn't UTF-8"),
        ConnectionClosed(4000, "bye"),
        UnsupportedServer("no socket"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_exceptions_survive_pickling(error: WebSocketError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
