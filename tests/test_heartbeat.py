"""Heartbeats, with a view whose interval and timeout are 0.4 s each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .clients import connect, handshake
from .servers import Farm, wait_for


def status(server) -> dict:
    return json.loads(server.get("/status/")[2])


def test_a_silent_peer_is_closed_and_the_view_ends(farm: Farm) -> None:
    server = farm("gunicorn")
    sock, received = handshake(server, "/heartbeat/")
    with sock:
        received = received.partition(b"\r\n\r\n")[2]
        while data := sock.recv(1000):
            received += data
    # One ping, and then no patience.
    assert received == b"\x89\x00"
    wait_for(lambda: "silent 1006" in status(server)["events"], "the view's end")


def test_a_peer_that_answers_stays_and_is_measured(farm: Farm) -> None:
    server = farm("gunicorn")
    with connect(server, "/heartbeat/", ping_interval=None) as websocket:
        latency = None
        while latency is None:
            # Who speaks isn't asked whether he lives.
            with pytest.raises(TimeoutError):
                websocket.recv(timeout=0.5)
            websocket.send("")
            latency, silence = json.loads(websocket.recv())
            assert 0 <= silence < 0.8
        assert 0 < latency < 10
    assert websocket.close_code == 1000


def test_tcp_keepalive_is_the_back_stop(farm: Farm) -> None:
    server = farm("gunicorn")
    sock, _ = handshake(server, "/echo/")
    with sock:
        # proc(5): local and remote address, and the timer; 2 is keepalive.
        ends = f"0100007F:{server.port:04X} 0100007F:{sock.getsockname()[1]:04X}"

        def timer() -> int:
            table = Path("/proc/net/tcp").read_text()
            return int(table.partition(ends)[2].split()[2].partition(":")[0])

        # Before, it waits for the acknowledgement of the 101.
        wait_for(lambda: timer() == 2, "the timer")


def test_any_byte_is_a_sign_of_life(farm: Farm) -> None:
    server = farm("gunicorn")
    sock, received = handshake(server, "/heartbeat/")
    with sock:
        sock.settimeout(0.1)
        for _ in range(20):
            # A pong that nobody asked for, byte by byte.
            for byte in b"\x8a\x80\0\0\0\0":
                sock.sendall(bytes([byte]))
            try:
                assert sock.recv(1000) == b"\x89\x00"
            except TimeoutError:
                pass


def test_a_stall_of_the_server_is_not_taken_for_silence(farm: Farm) -> None:
    server = farm("gunicorn")
    with (
        connect(server, "/heartbeat/", ping_interval=None) as other,
        connect(server, "/heartbeat/", ping_interval=None) as websocket,
    ):
        websocket.send("stall")
        websocket.recv()
        for _ in range(3):
            other.send("")
            other.recv()
