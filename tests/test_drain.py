"""Workers that end: no client is cut off."""

from __future__ import annotations

import asyncio
import signal

import pytest
import websockets.asyncio.client
from websockets.exceptions import ConnectionClosed

from .clients import connect, handshake
from .servers import TIMEOUT, Farm, Server, wait_for


async def hold(
    server: Server, path: str, count: int, number: signal.Signals
) -> list[int]:
    """Open connections, send a signal to the server, return the close codes."""

    async def open_one() -> websockets.asyncio.client.ClientConnection:
        return await websockets.asyncio.client.connect(
            server.ws + path, compression=None, proxy=None, open_timeout=TIMEOUT
        )

    async def close_code(websocket: websockets.asyncio.client.ClientConnection) -> int:
        try:
            while True:
                await asyncio.wait_for(websocket.recv(), TIMEOUT * 3)
        except ConnectionClosed as exc:
            return exc.rcvd.code if exc.rcvd else 1006

    opened = []
    while len(opened) < count:
        opened += await asyncio.gather(*(open_one() for _ in range(100)))
    server.process.send_signal(number)
    return await asyncio.gather(*map(close_code, opened))


@pytest.mark.parametrize(
    "number, code", [(signal.SIGTERM, 1001), (signal.SIGHUP, 1012)]
)
def test_2000_connections(farm: Farm, number: signal.Signals, code: int) -> None:
    server = farm.start("gunicorn", options=["--graceful-timeout", "20"])
    (worker,) = server.children
    codes = asyncio.run(hold(server, "/wait/", 2000, number))
    assert set(codes) == {code}
    wait_for(lambda: worker not in server.children, "the worker's end")
    # Each view has seen it as the end of its iteration and ended.
    assert f"Closed 2000 WebSockets with {code}" in server.log
    assert "Traceback" not in server.log
    if number == signal.SIGHUP:
        with connect(server, "/echo/") as websocket:
            websocket.send("to the new worker")
            assert websocket.recv() == "to the new worker"


def test_max_requests(farm: Farm) -> None:
    options = ["--max-requests", "5", "--graceful-timeout", "10"]
    server = farm.start("gunicorn", options=options)
    with connect(server, "/wait/") as websocket:
        while True:
            try:
                server.get("/page/")
                websocket.recv(timeout=0.01)
            except TimeoutError:
                continue
            except (ConnectionClosed, OSError):
                break
        with pytest.raises(ConnectionClosed) as caught:
            while True:
                websocket.recv()
    assert caught.value.rcvd.code == 1012


def test_upgrades_are_refused_and_views_end_in_time(farm: Farm) -> None:
    server = farm.start("gunicorn", options=["--graceful-timeout", "10"])
    with connect(server, "/sleep/"):
        wait_for(lambda: "sleeping" in server.get("/status/")[2], "the view")
        # On a connection that is there already, since no more are accepted soon.
        server.process.terminate()
        status = b""
        while b" 503 " not in status:
            sock, status = handshake(server, "/echo/")
            sock.close()
        assert b"\r\nRetry-After: " in status
    server.process.wait(TIMEOUT)
    # The view slept for 5 s and ended by itself.
    assert "/sleep/ closed by " in server.log
    assert "did not end in time" not in server.log
