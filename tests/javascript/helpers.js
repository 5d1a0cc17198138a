// What the tests of the client share: servers of the package "ws", and waiting.
"use strict";

const http = require("node:http");
const net = require("node:net");
const path = require("node:path");
const { once } = require("node:events");
const WebSocket = require("ws");

globalThis.WebSocket = WebSocket;

/** What the client, and the functions that it calls, have reported. */
const reported = [];
globalThis.reportError = (error) => reported.push(error);

/** Where the package's scripts are: it may be installed elsewhere. */
const STATIC =
  process.env.STATIC ?? path.resolve(__dirname, "../../dwebsocket/static/dwebsocket");
const CLIENT = path.join(STATIC, "dwebsocket.js");
require(CLIENT);
const dwebsocket = globalThis.dwebsocket;

/**
 * A server for one test.
 *
 * Its `answer(request, socket)` may answer an upgrade request by plain HTTP; what it
 * returns true for is accepted.  `get(request, response)` answers other requests.
 * `connections` are all that were accepted, `handshakes` and `gets` all requests.
 */
class Server {
  constructor(t) {
    this.answer = () => true;
    this.get = (request, response) => response.writeHead(204).end();
    this.talk = () => {};
    this.connections = [];
    this.handshakes = [];
    this.gets = [];
    this.http = http.createServer((request, response) => {
      this.gets.push(request);
      this.get(request, response);
    });
    this.websocket = new WebSocket.Server({ noServer: true });
    this.http.on("upgrade", (request, socket, head) => {
      this.handshakes.push(request);
      if (!this.answer(request, socket)) return;
      this.websocket.handleUpgrade(request, socket, head, (connection) => {
        this.connections.push(connection);
        this.talk(connection);
      });
    });
    t.after(() => this.stop());
  }

  async start(port = 0) {
    this.http.listen(port, "127.0.0.1");
    await once(this.http, "listening");
    this.port = this.http.address().port;
    this.url = `ws://127.0.0.1:${this.port}/`;
    return this;
  }

  stop() {
    for (const connection of this.websocket.clients) connection.terminate();
    this.http.closeAllConnections();
    this.http.close();
  }

  get last() {
    return this.connections.at(-1);
  }
}

/** Answer an upgrade request by plain HTTP. */
function refuse(socket, status) {
  socket.end(`HTTP/1.1 ${status} No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
}

/** Connect for one test; `events` are all the socket's, `next(type)` awaits one. */
function connect(t, url, options = {}) {
  const socket = dwebsocket.connect(url, { minDelay: 1, ...options });
  t.after(() => socket.close());
  socket.events = [];
  for (const type of ["open", "close", "state", "message", "error"]) {
    socket.addEventListener(type, (event) => socket.events.push(event));
  }
  socket.next = (type) =>
    new Promise((resolve) => socket.addEventListener(type, resolve, { once: true }));
  socket.all = (type) => socket.events.filter((event) => event.type === type);
  return socket;
}

/** Have each typed message answered by `reply(message)`, as the server does. */
function converse(server, reply) {
  server.talk = (connection) => {
    connection.on("message", (data) => {
      const answer = reply(JSON.parse(data), connection);
      if (answer) connection.send(JSON.stringify(answer));
    });
  };
}

/** A port on which nobody listens. */
async function freePort() {
  const server = net.createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

async function until(condition) {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 2));
}

module.exports = {
  CLIENT,
  STATIC,
  Server,
  connect,
  converse,
  dwebsocket,
  freePort,
  refuse,
  reported,
  until,
};
