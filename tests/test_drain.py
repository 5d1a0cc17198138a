"""Workers that end: nobody is cut off (issue: draining)."""

from __future__ import annotations

import asyncio
import signal

import pytest
import websockets.asyncio.client
from websockets.exceptions import ConnectionClosed

from .servers import TIMEOUT, Farm, Server


async def hold(server: Server, path: str, count: int, act) -> list[int | None]:
    """Open connections, call ``act``, return the close codes that they get."""

    async def open_one():
        return await websockets.asyncio.client.connect(
            server.ws + path, compression=None, proxy=None, open_timeout=TIMEOUT
        )

    sockets = []
    for start in range(0, count, 100):
        sockets += await asyncio.gather(
            *(open_one() for _ in range(min(100, count - start)))
        )
    act()

    async def close_code(websocket):
        try:
            while True:
                await asyncio.wait_for(websocket.recv(), 60)
        except ConnectionClosed as exc:
            return exc.rcvd.code if exc.rcvd else 1006

    return await asyncio.gather(*map(close_code, sockets))


@pytest.mark.parametrize(
    "number, code", [(signal.SIGTERM, 1001), (signal.SIGHUP, 1012)]
)
def test_2000_connections(farm: Farm, number: int, code: int) -> None:
    server = farm.start("gunicorn", options=["--graceful-timeout", "20"])
    codes = asyncio.run(
        hold(server, "/wait/", 2000, lambda: server.process.send_signal(number))
    )
    assert set(codes) == {code}
    if number == signal.SIGTERM:
        server.process.wait(TIMEOUT)
    print(server.log[-2000:])
