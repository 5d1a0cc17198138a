"""Signals, the log line and the counters of a connection's life."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from django.http import HttpRequest

import dwebsocket
from dwebsocket import WebSocket, require_websocket
from dwebsocket.signals import websocket_closed, websocket_message, websocket_opened
from dwebsocket.testing import connect

from .servers import TIMEOUT


@pytest.fixture
def events() -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """Every signal that is sent, with its arguments."""
    sent: list[tuple[str, dict[str, Any]]] = []

    def opened(**kwargs: Any) -> None:
        gevent.sleep(0)  # a receiver may wait: it isn't in the hub
        sent.append(("opened", kwargs))

    def message(**kwargs: Any) -> None:
        sent.append(("message", kwargs))

    def closed(**kwargs: Any) -> None:
        gevent.sleep(0)
        sent.append(("closed", kwargs))

    signals = [websocket_opened, websocket_message, websocket_closed]
    receivers = [opened, message, closed]
    for signal, receiver in zip(signals, receivers, strict=True):
        signal.connect(receiver)
    yield sent
    for signal, receiver in zip(signals, receivers, strict=True):
        signal.disconnect(receiver)


@require_websocket
def echo(request: HttpRequest) -> None:
    for message in request.websocket:
        request.websocket.send(message)


@require_websocket
def read_all_ways(request: HttpRequest) -> None:
    websocket = request.websocket
    websocket.send(websocket.wait())
    while not websocket.has_messages():
        gevent.sleep(0.001)
    websocket.send(websocket.read())
    for message in websocket:
        websocket.send(message)


@pytest.mark.parametrize("view", [echo, read_all_ways])
def test_signals(events: list[tuple[str, dict[str, Any]]], view: Any) -> None:
    with connect(view) as websocket:
        for text in "123":
            websocket.send(text)
            assert websocket.wait() == text
    names = [name for name, _ in events]
    assert names == ["opened", "message", "message", "message", "closed"]
    request = websocket.response.wsgi_request
    for _, arguments in events:
        assert arguments["sender"] is WebSocket
        assert arguments["request"] is request
        assert arguments["websocket"] is request.websocket
    messages = [kwargs["message"] for name, kwargs in events if name == "message"]
    assert messages == ["1", "2", "3"]
    closed = events[-1][1]
    assert (closed["code"], closed["reason"]) == (1000, "")
    assert 0 <= closed["duration"] < TIMEOUT


def test_the_view_may_end_first(events: list[tuple[str, dict[str, Any]]]) -> None:
    @require_websocket
    def view(request: HttpRequest) -> None:
        request.websocket.close(4000, "done")

    connect(view).close()
    assert [name for name, _ in events] == ["opened", "closed"]
    assert (events[-1][1]["code"], events[-1][1]["reason"]) == (4000, "done")


def test_log_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dwebsocket")
    with connect(echo, "/path/") as websocket:
        websocket.send("hello")
    # 11 + 8 bytes of frames with their masking keys, 7 + 4 without.
    (record,) = caplog.records
    assert re.fullmatch(
        r"/path/ closed by client with 1000 after \d+\.\d s, user unknown, "
        "in 1 messages 19 bytes, out 1 messages 11 bytes",
        record.getMessage(),
    )


def test_stats() -> None:
    before = dwebsocket.stats()
    with connect(echo) as websocket:
        websocket.send("hello")
        during = dwebsocket.stats()
        assert during["open"] == before["open"] + 1
        assert during["opened"] == before["opened"] + 1
        for name, size in [("messages_in", 1), ("messages_out", 1)]:
            assert during[name] == before[name] + size
        assert during["bytes_in"] == before["bytes_in"] + 11
        assert during["bytes_out"] == before["bytes_out"] + 7
        assert during["outbox_bytes"] == 0
    after = dwebsocket.stats()
    assert after["open"] == before["open"]
    assert after["closed"][1000] == before["closed"].get(1000, 0) + 1
    # What has ended still counts.
    assert after["bytes_in"] == before["bytes_in"] + 19
    refused = connect(echo, headers={"Origin": "http://elsewhere"})
    assert refused.response.status_code == 403
    assert dwebsocket.stats()["refused"][403] == before["refused"].get(403, 0) + 1
