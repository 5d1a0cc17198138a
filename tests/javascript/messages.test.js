// Messages: typed, raw, requests, the queue.
"use strict";

const assert = require("node:assert/strict");
const { test } = require("node:test");
const { Server, connect, converse, dwebsocket, reported, until } = require("./helpers");

const { SocketError } = dwebsocket;

async function open(t, reply, options) {
  const server = await new Server(t).start();
  converse(server, reply);
  const socket = connect(t, server.url, options);
  await socket.next("open");
  return { server, socket };
}

test("typed messages go out as an envelope and come to their handlers", async (t) => {
  const received = [];
  const { server, socket } = await open(t, (message) => void received.push(message));
  assert.equal(socket.send("chat.message", { text: "ü" }, { room: 1 }), true);
  assert.equal(socket.send("chat.leave"), true);
  await until(() => received.length === 2);
  assert.deepEqual(received, [
    { type: "chat.message", content: { text: "ü" }, meta: { room: 1 } },
    { type: "chat.leave", content: null },
  ]);

  const calls = [];
  const handler = (...parameters) => calls.push(parameters);
  const stop = socket.on("chat.message", handler);
  socket.on("chat.message", (content) => calls.push([content, "second"]));
  socket.on("chat.other", () => assert.fail());
  const message = { type: "chat.message", content: [1], meta: { by: "ann" } };
  server.last.send(JSON.stringify(message));
  await until(() => calls.length === 2);
  assert.deepEqual(calls, [
    [[1], { by: "ann" }, message],
    [[1], "second"],
  ]);
  stop();
  server.last.send('{"type": "chat.message"}');
  await until(() => calls.length === 3);
  assert.deepEqual(calls[2], [null, "second"]);
});

test("a handler that fails keeps no other from being called", async (t) => {
  const { server, socket } = await open(t, () => {});
  const failure = new Error("of a handler");
  socket.on("x", () => {
    throw failure;
  });
  const called = new Promise((resolve) => socket.on("x", resolve));
  server.last.send('{"type": "x", "content": 1}');
  assert.equal(await called, 1);
  assert.equal(reported.pop(), failure);
});

test("text that is no typed message is a message event only", async (t) => {
  const { server, socket } = await open(t, () => {});
  socket.on(undefined, () => assert.fail());
  const texts = ["", "text", "{", "{}", "[1]", '{"type": 1}', '"x"', '{"type":"x"}'];
  const called = new Promise((resolve) => socket.on("x", resolve));
  for (const text of texts) server.last.send(text);
  await called;
  const data = socket.all("message").map((event) => event.data);
  assert.deepEqual(data, texts);
});

test("raw text and binary, both ways", async (t) => {
  const server = await new Server(t).start();
  server.talk = (connection) => {
    connection.on("message", (data, binary) => connection.send(data, { binary }));
  };
  const socket = connect(t, server.url);
  await socket.next("open");
  socket.sendRaw("text");
  socket.sendRaw(new Uint8Array([1, 2, 3]));
  socket.sendRaw(new Uint8Array([4]).buffer);
  await until(() => socket.all("message").length === 3);
  const [text, bytes, buffer] = socket.all("message").map((event) => event.data);
  assert.equal(text, "text");
  assert.deepEqual(bytes, new Uint8Array([1, 2, 3]).buffer);
  assert.deepEqual(buffer, new Uint8Array([4]).buffer);
});

test("a request gets the reply with its id", async (t) => {
  const waiting = [];
  const { socket } = await open(t, (message, connection) => {
    waiting.push(message);
    if (waiting.length < 2) return;
    for (const { id, content, meta } of waiting.reverse()) {
      const reply = { type: "reply", id, content: [content, meta ?? null] };
      connection.send(JSON.stringify(reply));
    }
  });
  const replies = await Promise.all([
    socket.request("chat.history", 1),
    socket.request("chat.history", 2, { meta: { room: 3 } }),
  ]);
  assert.deepEqual(replies, [
    [1, null],
    [2, { room: 3 }],
  ]);
});

test("an error reply rejects the request", async (t) => {
  const content = { code: "invalid", message: "Look.", fields: { text: ["Missing."] } };
  const { socket } = await open(t, ({ id }) => ({ type: "error", id, content }));
  const error = await socket.request("x").catch((it) => it);
  assert.ok(error instanceof SocketError && error instanceof Error);
  const { name, code, message, fields } = error;
  assert.deepEqual(
    { name, code, message, fields },
    { name: "SocketError", ...content },
  );
  assert.deepEqual(socket.all("error"), []);
});

test("an error without an id is an event", async (t) => {
  const content = { code: "bad_json", message: "No." };
  const { socket } = await open(t, () => ({ type: "error", content }));
  socket.send("x");
  const { error } = await socket.next("error");
  assert.ok(error instanceof SocketError);
  assert.deepEqual([error.code, error.message, error.fields], ["bad_json", "No.", {}]);
});

test("a request times out, and a late reply is nobody's", async (t) => {
  const ids = [];
  const { server, socket } = await open(t, ({ id }) => void ids.push(id));
  const request = socket.request("slow", 1, { timeout: 30 });
  await assert.rejects(request, { code: "timeout", name: "SocketError" });
  await until(() => ids.length === 1);
  for (const type of ["reply", "error"]) {
    server.last.send(JSON.stringify({ type, id: ids[0], content: {} }));
  }
  await until(() => socket.all("message").length === 2);
  assert.deepEqual(socket.all("error"), []);
});

test("a request that times out while it waits is not sent later", async (t) => {
  const types = [];
  const server = await new Server(t).start();
  const { port } = server;
  server.stop();
  const socket = connect(t, server.url);
  await assert.rejects(socket.request("late", 1, { timeout: 5 }), { code: "timeout" });
  assert.equal(socket.queued, 0);
  socket.send("after");
  const again = new Server(t);
  converse(again, ({ type }) => void types.push(type));
  await again.start(port);
  await until(() => types.length);
  assert.deepEqual(types, ["after"]);
});

test("a request in flight is rejected when the connection is lost", async (t) => {
  const { server, socket } = await open(t, (_, connection) => connection.terminate());
  const requests = [
    socket.request("x"),
    socket.request("x", 1, { timeout: null }),
    socket.request("x", 1, { timeout: Infinity }),
  ];
  for (const request of requests) {
    await assert.rejects(request, { code: "connection_lost", message: /1006/ });
  }
  await socket.next("open");
  // What was made while there was no connection goes out on the next.
  converse(server, ({ id }) => ({ type: "reply", id, content: "fine" }));
  server.last.terminate();
  await socket.next("close");
  assert.equal(await socket.request("y"), "fine");
});

test("messages wait in order; what listeners of open send goes first", async (t) => {
  const received = [];
  const server = await new Server(t).start();
  server.talk = (connection) =>
    connection.on("message", (data, binary) =>
      received.push(binary ? [...data] : data.toString()),
    );
  const socket = connect(t, server.url);
  socket.addEventListener("open", () => socket.sendRaw("join"));
  const bytes = new Uint8Array([1, 2]);
  assert.equal(socket.sendRaw("a"), false);
  assert.equal(socket.sendRaw(bytes), false);
  bytes[0] = 9;
  assert.equal(socket.sendRaw("c"), false);
  assert.equal(socket.queued, 3);
  await until(() => received.length === 4);
  assert.deepEqual(received, ["join", "a", [1, 2], "c"]);
  assert.equal(socket.queued, 0);
  server.last.terminate();
  await socket.next("close");
  socket.sendRaw("d");
  await until(() => received.length === 6);
  assert.deepEqual(received.slice(4), ["join", "d"]);
});

test("a full queue refuses", async (t) => {
  const server = await new Server(t).start();
  const socket = connect(t, server.url, { queueSize: 2 });
  socket.send("a");
  socket.sendRaw("b");
  assert.throws(() => socket.send("c"), { code: "queue_full", name: "SocketError" });
  assert.throws(() => socket.sendRaw("c"), { code: "queue_full" });
  await assert.rejects(socket.request("c"), { code: "queue_full" });
  assert.equal(socket.queued, 2);
  await socket.next("open");
  assert.equal(socket.send("d"), true);
});

test("closing tells what was not sent", async (t) => {
  const server = await new Server(t).start();
  const socket = connect(t, server.url);
  socket.sendRaw("a");
  const request = socket.request("b");
  socket.close();
  await assert.rejects(request, { code: "closed" });
  const [{ unsent, final, delay }] = socket.all("close");
  assert.deepEqual([final, delay, unsent.length, unsent[0]], [true, null, 2, "a"]);
  assert.throws(() => socket.send("c"), { code: "closed" });
  await assert.rejects(socket.request("c"), { code: "closed" });
});
