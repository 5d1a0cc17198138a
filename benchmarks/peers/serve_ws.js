// ws on Node.js, with its native companion bufferutil.
const { WebSocketServer } = require("ws");

const server = new WebSocketServer({
  host: "127.0.0.1",
  port: Number(process.argv[2]),
  perMessageDeflate: false,
});
server.on("connection", (websocket) => {
  websocket.on("message", (data, isBinary) =>
    websocket.send(data, { binary: isBinary }),
  );
});
