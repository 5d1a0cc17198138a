"""aiohttp on uvloop."""

import sys

import uvloop
from aiohttp import WSMsgType, web


async def echo(request):
    websocket = web.WebSocketResponse(compress=False, max_msg_size=2**25)
    await websocket.prepare(request)
    async for message in websocket:
        if message.type == WSMsgType.TEXT:
            await websocket.send_str(message.data)
        elif message.type == WSMsgType.BINARY:
            await websocket.send_bytes(message.data)
    return websocket


async def hello(request):
    return web.Response(text="Hello")


application = web.Application()
application.add_routes([web.get("/echo/", echo), web.get("/hello/", hello)])
web.run_app(
    application,
    host="127.0.0.1",
    port=int(sys.argv[1]),
    print=None,
    access_log=None,
    loop=uvloop.new_event_loop(),
)
