"""picows on uvloop: a callback per frame, which it echoes without copying it."""

import sys

import uvloop
from picows import WSListener, WSMsgType, ws_create_server

MESSAGES = (WSMsgType.TEXT, WSMsgType.BINARY)


class Echo(WSListener):
    def on_ws_frame(self, transport, frame):
        if frame.msg_type in MESSAGES:
            transport.send(frame.msg_type, frame.get_payload_as_memoryview())
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()


async def main():
    server = await ws_create_server(
        lambda request: Echo(),
        "127.0.0.1",
        int(sys.argv[1]),
        max_frame_size=2**25,
    )
    await server.serve_forever()


uvloop.run(main())
