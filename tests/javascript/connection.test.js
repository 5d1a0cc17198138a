// The connection: how it comes back, and when it doesn't.
"use strict";

const assert = require("node:assert/strict");
const net = require("node:net");
const vm = require("node:vm");
const { once } = require("node:events");
const { readFileSync } = require("node:fs");
const { test } = require("node:test");
const { Server, connect, dwebsocket, freePort, refuse, until } = require("./helpers");
const { CLIENT, reported } = require("./helpers");

const states = (socket) => socket.all("state").map((event) => event.state);

test("states are events and an attribute", async (t) => {
  const server = await new Server(t).start();
  const socket = connect(t, server.url.replace("ws:", "http:"));
  assert.equal(socket.state, "connecting");
  socket.addEventListener("state", (event) => assert.equal(event.state, socket.state));
  await socket.next("open");
  assert.equal(socket.state, "open");
  server.last.close(1011, "oh");
  const { code, reason, wasClean, status, final, delay, why } =
    await socket.next("close");
  assert.deepEqual([code, reason, wasClean, status], [1011, "oh", true, null]);
  assert.ok(!final && delay >= 0 && delay < 1);
  assert.match(why, /internal error \(1011, "oh"\)/);
  await socket.next("open");
  socket.close(3999, "bye");
  assert.equal(socket.state, "closed");
  const wanted = ["open", "waiting", "connecting", "open", "closed"];
  assert.deepEqual(states(socket), wanted);
  const [, last] = socket.all("close");
  assert.deepEqual([last.code, last.reason, last.final], [3999, "bye", true]);
  const [closed] = await once(server.last, "close");
  assert.equal(closed, 3999);
  // Closed for good, until told otherwise.
  socket.close();
  assert.equal(socket.all("close").length, 2);
  socket.connect();
  await socket.next("open");
});

test("delays grow exponentially up to a limit, with jitter", async (t) => {
  const url = `ws://127.0.0.1:${await freePort()}/`;
  t.mock.method(Math, "random", () => 0.5);
  const socket = connect(t, url, { minDelay: 2, maxDelay: 16 });
  await until(() => socket.all("close").length >= 6);
  const delays = socket.all("close").map((event) => event.delay);
  assert.deepEqual(delays.slice(0, 6), [1, 2, 4, 8, 8, 8]);
  for (const { code, status, final } of socket.all("close")) {
    assert.deepEqual([code, status, final], [1006, null, false]);
  }
  t.mock.restoreAll();
  const other = connect(t, url, { minDelay: 16, maxDelay: 16 });
  await until(() => other.all("close").length >= 6);
  const jittered = new Set(other.all("close").map((event) => event.delay));
  assert.ok(jittered.size >= 6 && Math.max(...jittered) < 16);
});

test("a connection that lasts ends the growth, a short one doesn't", async (t) => {
  const server = await new Server(t).start();
  t.mock.method(Math, "random", () => 0.5);
  const socket = connect(t, server.url, { minDelay: 2 });
  const end = async () => {
    if (socket.state !== "open") await socket.next("open");
    server.last.terminate();
    return (await socket.next("close")).delay;
  };
  assert.deepEqual([await end(), await end(), await end()], [1, 2, 4]);
  await socket.next("open");
  const { now } = Date;
  t.mock.method(Date, "now", () => now() + 6000);
  assert.equal(await end(), 1);
});

test("after 1012 all come back at once, but not at the same time", async (t) => {
  const server = await new Server(t).start();
  const sockets = Array.from({ length: 20 }, () =>
    connect(t, server.url, { minDelay: 20000, maxDelay: 20000 }),
  );
  await until(() => sockets.every((socket) => socket.state === "open"));
  for (const connection of server.connections) connection.close(1012);
  await until(() => sockets.every((socket) => socket.all("close").length));
  const delays = sockets.map((socket) => socket.all("close")[0].delay);
  assert.equal(new Set(delays).size, 20);
  assert.ok(Math.max(...delays) < 1000 && Math.max(...delays) > 100);
  await until(() => sockets.every((socket) => socket.state === "open"));
});

for (const [code, isFinal] of [
  [1000, true],
  [1008, true],
  [3000, true],
  [3003, true],
  [1001, false],
  [1011, false],
  [1013, false],
  [4000, false],
]) {
  test(`close ${code} is ${isFinal ? "" : "not "}final`, async (t) => {
    const server = await new Server(t).start();
    const socket = connect(t, server.url);
    await socket.next("open");
    server.last.close(code, "because");
    const close = await socket.next("close");
    assert.deepEqual([close.code, close.final], [code, isFinal]);
    assert.match(close.why, new RegExp(`${code}, "because"`));
    if (!isFinal) return await socket.next("open");
    assert.equal(socket.state, "closed");
    assert.equal(server.gets.length, 0);
  });
}

for (const [status, isFinal] of [
  [401, true],
  [403, true],
  [410, true],
  [302, true],
  [400, false],
  [404, false],
  [500, false],
]) {
  test(`a refusal with ${status} is ${isFinal ? "" : "not "}final`, async (t) => {
    const server = await new Server(t).start();
    server.answer = (_, socket) => refuse(socket, status);
    server.get = (_, response) => {
      response.writeHead(status, { Location: "/login/" });
      response.end("no");
    };
    const socket = connect(t, `${server.url}path/?a=b#c`);
    const close = await socket.next("close");
    const wanted = status === 302 ? "redirect" : status;
    assert.deepEqual([close.code, close.status, close.final], [1006, wanted, isFinal]);
    assert.match(close.why, status === 302 ? /log in/ : new RegExp(status));
    // Not followed, and marked, so that the view answers as to a WebSocket.
    assert.deepEqual(
      server.gets.map(({ url, headers }) => [url, headers["websocket-probe"]]),
      [["/path/?a=b", "1"]],
    );
    if (isFinal) {
      assert.equal(socket.state, "closed");
    } else {
      server.answer = () => true;
      await socket.next("open");
    }
  });
}

test("Retry-After is obeyed", async (t) => {
  const server = await new Server(t).start();
  server.answer = (_, socket) => refuse(socket, 503);
  server.get = (_, response) => response.writeHead(503, { "Retry-After": "7" }).end();
  const socket = connect(t, server.url);
  const { status, final, delay } = await socket.next("close");
  assert.deepEqual([status, final], [503, false]);
  assert.ok(delay >= 7000 && delay < 10501);
  socket.connect();
  await socket.next("close");
  assert.equal(server.handshakes.length, 2);
});

test("without the probe nothing is asked", async (t) => {
  const server = await new Server(t).start();
  server.answer = (_, socket) => refuse(socket, 403);
  const socket = connect(t, server.url, { probe: false });
  const { status, final, why } = await socket.next("close");
  assert.deepEqual([status, final], [null, false]);
  assert.match(why, /could not be opened/);
  assert.equal(server.gets.length, 0);
});

test("what is final can be chosen", async (t) => {
  const server = await new Server(t).start();
  server.talk = (connection) => connection.close(4001);
  const isFinal = (end) => end.code === 4001 || dwebsocket.isFinal(end);
  const socket = connect(t, server.url, { isFinal });
  assert.equal((await socket.next("close")).final, true);
});

test("closing during the probe is final", async (t) => {
  const server = await new Server(t).start();
  server.answer = (_, socket) => refuse(socket, 500);
  server.get = (_, response) => {
    socket.close();
    response.end();
  };
  const socket = connect(t, server.url);
  await socket.next("close");
  await fetch(server.url.replace("ws", "http")); // the other answer came before
  assert.equal(socket.state, "closed");
  assert.equal(socket.all("close").length, 1);
});

test("closing before the connection is there opens none", async (t) => {
  const server = await new Server(t).start();
  connect(t, server.url).close();
  const socket = connect(t, server.url);
  socket.addEventListener("state", () => socket.close(), { once: true });
  await socket.next("close");
  assert.deepEqual(socket.all("open"), []);
  assert.equal(server.handshakes.length, 1);
});

test("a server that doesn't answer", async (t) => {
  const server = net.createServer(() => {}).listen(0, "127.0.0.1");
  const accepted = [];
  server.on("connection", (connection) => accepted.push(connection));
  await once(server, "listening");
  t.after(() => {
    for (const connection of accepted) connection.destroy();
    server.close();
  });
  const url = `ws://127.0.0.1:${server.address().port}/`;
  const socket = connect(t, url, { connectTimeout: 30 });
  const { code, final, why } = await socket.next("close");
  assert.deepEqual([code, final], [1006, false]);
  assert.match(why, /doesn't answer/);
  await until(() => accepted.length > 1);
});

test("URL and subprotocols may be asked for each time", async (t) => {
  const server = await new Server(t).start();
  let count = 0;
  const url = async () => {
    count += 1;
    if (count === 2) throw new Error("no token");
    return `${server.url}?token=${count}`;
  };
  const socket = connect(t, url, { protocols: () => ["chat.v1", `bearer.${count}`] });
  await socket.next("open");
  assert.equal(socket.protocol, "chat.v1");
  server.last.terminate();
  await socket.next("close");
  const { why, final } = await socket.next("close");
  assert.match(why, /no token/);
  assert.equal(final, false);
  await socket.next("open");
  const seen = server.handshakes.map(({ url, headers }) => [
    url,
    headers["sec-websocket-protocol"],
  ]);
  assert.deepEqual(
    seen.map(([url]) => url),
    ["/?token=1", "/?token=3"],
  );
  assert.match(seen[1][1], /bearer\.3/);
  const protocols = () => {
    throw new Error("no token");
  };
  const failed = await connect(t, url, { protocols }).next("close");
  assert.equal(failed.why, "Not ready to connect: no token");
});

test("mistakes show", async (t) => {
  const { Socket } = dwebsocket;
  assert.throws(() => new Socket("/ws/"), TypeError); // relative to no page
  assert.throws(() => new Socket("ws://x/", { retries: 3 }), TypeError);
  const socket = connect(t, "ws://127.0.0.1/", { protocols: ["not a token"] });
  const { final, why } = await socket.next("close");
  assert.equal(final, true);
  assert.match(why, /subprotocol/);
});

test("sleep is noticed, and the connection replaced", async (t) => {
  const server = await new Server(t).start();
  const socket = connect(t, server.url, { sleepTime: 90, minDelay: 20000 });
  await socket.next("open");
  const close = socket.next("close");
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200);
  const { why, delay, final } = await close;
  assert.deepEqual([delay, final], [0, false]);
  assert.match(why, /slept/);
  await socket.next("open");
  await until(() => server.connections[0].readyState === 3);
});

/** Give Node.js what a browser has to tell about the network. */
function fakeNetwork(t) {
  const events = new EventTarget();
  const navigator = { onLine: true };
  globalThis.addEventListener = events.addEventListener.bind(events);
  const before = Object.getOwnPropertyDescriptor(globalThis, "navigator");
  Object.defineProperty(globalThis, "navigator", {
    configurable: true,
    value: navigator,
  });
  t.after(() => {
    delete globalThis.addEventListener;
    delete globalThis.navigator;
    if (before) Object.defineProperty(globalThis, "navigator", before);
  });
  return (onLine) => {
    navigator.onLine = onLine;
    events.dispatchEvent(new Event(onLine ? "online" : "offline"));
  };
}

test("offline ends the connection, online brings it back at once", async (t) => {
  const setOnline = fakeNetwork(t);
  const server = await new Server(t).start();
  const socket = connect(t, server.url, { minDelay: 1e9, maxDelay: 1e9 });
  await socket.next("open");
  setOnline(false);
  assert.equal(socket.state, "offline");
  assert.match(socket.all("close")[0].why, /network/);
  assert.equal(socket.send("x"), false);
  setOnline(true);
  await socket.next("open");
  assert.deepEqual(states(socket), ["open", "offline", "connecting", "open"]);
  assert.equal(socket.queued, 0);
});

test("online ends the wait", async (t) => {
  const setOnline = fakeNetwork(t);
  const server = new Server(t);
  const port = await freePort();
  const url = `ws://127.0.0.1:${port}/`;
  const socket = connect(t, url, { minDelay: 1e9, maxDelay: 1e9 });
  await socket.next("close");
  assert.equal(socket.state, "waiting");
  setOnline(false);
  assert.equal(socket.state, "offline");
  await server.start(port);
  setOnline(true);
  await socket.next("open");
  // Nothing is listened to, nor waited for, once it is closed.
  socket.close();
  setOnline(false);
  setOnline(true);
  assert.equal(socket.state, "closed");
});

test("a browser that errs about being offline connects nevertheless", async (t) => {
  fakeNetwork(t)(false);
  const server = await new Server(t).start();
  const socket = connect(t, server.url);
  assert.equal(socket.state, "offline");
  await socket.next("open");
  assert.equal(socket.state, "open");
});

test("online replaces an attempt that was made offline", async (t) => {
  const setOnline = fakeNetwork(t);
  setOnline(false);
  const server = await new Server(t).start();
  let ended = false;
  server.answer = (_, connection) => {
    connection.on("end", () => (ended = true) && connection.end()).resume();
  };
  const socket = connect(t, server.url);
  await until(() => server.handshakes.length === 1);
  server.answer = () => true;
  setOnline(true);
  await socket.next("open");
  await until(() => ended);
});

test("functions may be handed over before the script has loaded", () => {
  const failure = new Error("of a function");
  const seen = [];
  const load = (early) => {
    const context = vm.createContext({
      EventTarget,
      reportError: (it) => seen.push(it),
    });
    context.dwebsocket = early;
    // An array of the page, as the script expects it.
    if (early) context.dwebsocket = vm.runInContext("[]", context);
    context.dwebsocket?.push(...early);
    const source = readFileSync(CLIENT, "utf8");
    vm.runInContext(source, context);
    const { dwebsocket } = context;
    vm.runInContext(source, context);
    assert.equal(context.dwebsocket, dwebsocket); // loading it twice changes nothing
    return dwebsocket;
  };
  const fail = () => {
    throw failure;
  };
  const note = (dwebsocket) => seen.push(dwebsocket);
  const loaded = load([fail, note]);
  assert.deepEqual(seen, [failure, loaded]);
  loaded.push(note);
  assert.equal(seen[2], loaded);
  assert.equal(typeof load(undefined).connect, "function");
});

test("no error was reported", () => assert.deepEqual(reported, []));
