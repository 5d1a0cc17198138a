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
from dwebsocket import WebSocket
from dwebsocket.signals import websocket_closed, websocket_message, websocket_opened

from .clients import frame
from .servers import TIMEOUT
from .test_upgrade import Server, on_gevent, receive_all

__all__ = ["on_gevent"]


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


def wait_for_end(open_: int) -> None:
    with gevent.Timeout(TIMEOUT):
        while dwebsocket.stats()["open"] > open_:
            gevent.sleep(0.001)


def echo(request: HttpRequest) -> None:
    for message in request.websocket:
        request.websocket.send(message)


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
    before = dwebsocket.stats()["open"]
    server = Server(view)
    client = server.start()
    for text in (b"1", b"2", b"3"):
        client.sendall(frame(1, text))
        assert client.recv(100) == b"\x81\x01" + text
    receive_all(client)
    wait_for_end(before)
    names = [name for name, _ in events]
    assert names == ["opened", "message", "message", "message", "closed"]
    for _, arguments in events:
        assert arguments["sender"] is WebSocket
        assert arguments["request"] is server.request
        assert arguments["websocket"] is server.request.websocket
    messages = [kwargs["message"] for name, kwargs in events if name == "message"]
    assert messages == ["1", "2", "3"]
    closed = events[-1][1]
    assert (closed["code"], closed["reason"]) == (1000, "")
    assert 0 <= closed["duration"] < TIMEOUT


def test_the_view_may_end_first(events: list[tuple[str, dict[str, Any]]]) -> None:
    before = dwebsocket.stats()["open"]

    def view(request: HttpRequest) -> None:
        request.websocket.close(4000, "done")

    receive_all(Server(view).start())
    wait_for_end(before)
    assert [name for name, _ in events] == ["opened", "closed"]
    assert (events[-1][1]["code"], events[-1][1]["reason"]) == (4000, "done")


def test_log_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dwebsocket")
    before = dwebsocket.stats()["open"]
    client = Server(echo).start()
    client.sendall(frame(1, b"hello"))
    assert client.recv(100) == b"\x81\x05hello"
    receive_all(client)
    wait_for_end(before)
    # 11 + 8 bytes of frames with their masking keys, 7 + 4 without.
    (record,) = caplog.records
    assert re.fullmatch(
        r"/path/ closed by client with 1000 after \d+\.\d s, user unknown, "
        "in 1 messages 19 bytes, out 1 messages 11 bytes",
        record.getMessage(),
    )


def test_stats() -> None:
    before = dwebsocket.stats()
    client = Server(echo).start()
    client.sendall(frame(1, b"hello"))
    assert client.recv(100) == b"\x81\x05hello"
    during = dwebsocket.stats()
    assert during["open"] == before["open"] + 1
    assert during["opened"] == before["opened"] + 1
    for name, size in [("messages_in", 1), ("messages_out", 1)]:
        assert during[name] == before[name] + size
    assert during["bytes_in"] == before["bytes_in"] + 11
    assert during["bytes_out"] == before["bytes_out"] + 7
    assert during["outbox_bytes"] == 0
    receive_all(client)
    wait_for_end(before["open"])
    after = dwebsocket.stats()
    assert after["closed"][1000] == before["closed"].get(1000, 0) + 1
    # What has ended still counts.
    assert after["bytes_in"] == before["bytes_in"] + 19
    refused = Server(echo, HTTP_ORIGIN="http://elsewhere").response.status_code
    assert refused == 403
    assert dwebsocket.stats()["refused"][403] == before["refused"].get(403, 0) + 1
