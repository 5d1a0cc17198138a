// Client with the package "ws" for test_interop.  Reads from standard input what
// to do, prints what came of it; one JSON object each.
"use strict";

const WebSocket = require("ws");

const task = JSON.parse(require("fs").readFileSync(0, "utf8"));
const socket = new WebSocket(task.url, { perMessageDeflate: task.compression });
const echoes = [];

socket.on("open", () => {
  for (const { text, base64, fragments } of task.messages) {
    const payload =
      text === undefined ? Buffer.from(base64, "base64") : Buffer.from(text);
    const size = Math.ceil(payload.length / fragments);
    const binary = text === undefined;
    for (let i = 1; i <= fragments; i++) {
      const fragment = payload.subarray((i - 1) * size, i * size);
      socket.send(fragment, { binary, compress: true, fin: i === fragments });
    }
  }
});
socket.on("message", (data, isBinary) => {
  echoes.push(
    isBinary ? { base64: data.toString("base64") } : { text: data.toString() }
  );
  if (echoes.length === task.messages.length) socket.close(1000);
});
socket.on("close", (code) => {
  console.log(JSON.stringify({ code, echoes, extensions: socket.extensions }));
});
