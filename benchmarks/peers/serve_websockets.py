"""websockets' asyncio server on uvloop."""

import sys

import uvloop
from websockets.asyncio.server import serve


async def echo(websocket):
    async for message in websocket:
        await websocket.send(message)


async def main():
    async with serve(
        echo, "127.0.0.1", int(sys.argv[1]), compression=None, max_size=2**25
    ) as server:
        await server.serve_forever()


uvloop.run(main())
