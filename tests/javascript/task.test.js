// TaskWatch: what it knows of a task, whatever gets lost, comes late or comes twice.
"use strict";

const assert = require("node:assert/strict");
const path = require("node:path");
const { test } = require("node:test");
const { STATIC, Server, connect, converse, until } = require("./helpers");

require(path.join(STATIC, "dwebsocket-task.js"));
const { TaskWatch, texts } = globalThis.dwebsocketTask;

const RUN = 1000;

/** A line of the log. */
const line = (number) => ({ number, time: 0, level: "INFO", text: `line ${number}` });

const message = (type, seq, content, more = {}) => ({
  type,
  content,
  meta: { task: "a", run: RUN, seq, ...more },
});

const progress = (seq, current, more) =>
  message("task.progress", seq, { state: "running", current }, more);

const log = (seq, ...numbers) =>
  message("task.log", seq, { lines: numbers.map((number) => line(number)) });

/** The state of a task, as the server tells it. */
const snapshot = (seq, current, numbers = [], more = {}) => ({
  task: "a",
  state: "running",
  current,
  total: 10,
  text: "",
  run: RUN,
  seq,
  log: numbers.map((number) => line(number)),
  ...more,
});

/**
 * A watch of the task "a", whose server answers with `answers`, in turn, the last for
 * ever: the state, null for no answer, or what a function returns.  `changes` are all
 * events, `asked` counts the questions, `tell()` sends messages.
 */
async function watch(t, ...answers) {
  const server = await new Server(t).start();
  const talk = { asked: 0, changes: [], unwatched: 0, server };
  converse(server, ({ type, content, id }, connection) => {
    assert.deepEqual(content, { task: "ref" });
    if (type === "task.unwatch") {
      talk.unwatched++;
      return null;
    }
    assert.equal(type, "task.watch");
    talk.asked++;
    const answer = answers.length > 1 ? answers.shift() : answers[0];
    const state = typeof answer === "function" ? answer(connection) : answer;
    return state && (state.type ? { ...state, id } : { type: "reply", id, content: state });
  });
  talk.socket = connect(t, server.url);
  talk.tell = (...messages) => {
    for (const it of messages) server.last.send(JSON.stringify(it));
  };
  talk.watch = new TaskWatch(talk.socket, "ref");
  t.after(() => talk.watch.stop());
  talk.watch.addEventListener("change", (event) => talk.changes.push(event));
  return talk;
}

const numbers = ({ watch }) => watch.state.log.map(({ number }) => number);

test("a snapshot, then each message on top of it", async (t) => {
  const talk = await watch(t, snapshot(RUN + 4, 3, [1, 2]));
  await until(() => talk.watch.isKnown);
  assert.deepEqual(talk.changes.map((event) => event.live), [false]);
  talk.tell(log(RUN + 5, 3), progress(RUN + 6, 4));
  await until(() => talk.changes.length === 3);
  assert.deepEqual(numbers(talk), [1, 2, 3]);
  const { current, total, state, seq } = talk.watch.state;
  assert.deepEqual([current, total, state, seq], [4, 10, "running", RUN + 6]);
  assert.ok(talk.changes[2].live);
  assert.equal(talk.changes[2].previous.current, 3);
  assert.equal(talk.changes[2].state, talk.watch.state);
  talk.tell(message("task.done", RUN + 7, { state: "done", current: 10 }));
  await until(() => talk.watch.state.state === "done");
  assert.equal(talk.asked, 1);
});

test("what comes before the answer is kept, what is in it isn't repeated", async (t) => {
  const talk = await watch(t, (connection) => {
    for (const it of [log(RUN + 4, 3), progress(RUN + 5, 4), log(RUN + 6, 4)]) {
      connection.send(JSON.stringify(it));
    }
    return snapshot(RUN + 5, 4, [1, 2, 3]);
  });
  await until(() => talk.changes.length === 2);
  assert.deepEqual(numbers(talk), [1, 2, 3, 4]);
  talk.tell(log(RUN + 6, 4), log(RUN + 3, 2), log(RUN + 7, 5));
  await until(() => talk.changes.length === 3);
  assert.deepEqual(numbers(talk), [1, 2, 3, 4, 5]);
  assert.equal(talk.asked, 1);
});

test("after a gap it asks again", async (t) => {
  const all = snapshot(RUN + 9, 6, [1, 2, 3, 4]);
  const talk = await watch(t, snapshot(RUN + 4, 3, [1, 2]), all);
  await until(() => talk.watch.isKnown);
  talk.tell(progress(RUN + 8, 6));
  await until(() => numbers(talk).length === 4);
  assert.deepEqual(talk.changes.map((event) => event.live), [false, true, false]);
  assert.equal(talk.asked, 2);
});

test("an answer that is older changes nothing", async (t) => {
  const talk = await watch(t, snapshot(RUN + 4, 3), snapshot(RUN + 4, 3), { task: "a" });
  await until(() => talk.watch.isKnown);
  for (const [seq, asked] of [[RUN + 8, 2], [RUN + 11, 3]]) {
    talk.tell(progress(seq, seq));
    await until(() => talk.asked === asked && talk.watch.state.seq === seq);
    // The answer has come when the next message is applied.
    talk.tell(progress(seq + 1, seq + 1));
    await until(() => talk.watch.state.seq === seq + 1);
    assert.equal(talk.watch.state.current, seq + 1);
  }
});

test("one that hasn't begun, and one that is begun again", async (t) => {
  const talk = await watch(t, { task: "a", state: null });
  await until(() => talk.watch.isKnown);
  assert.equal(talk.watch.state.state, null);
  talk.tell(progress(RUN, 0), log(RUN + 1, 1));
  await until(() => numbers(talk).length === 1);
  const run = 2000;
  talk.tell(progress(run, 0, { run }));
  await until(() => talk.watch.state.run === run);
  assert.deepEqual(numbers(talk), []);
  assert.equal(talk.asked, 1);
  // The beginning of the third was lost, and the first comes late.
  talk.tell(progress(3002, 1, { run: 3000 }), log(RUN + 2, 2));
  await until(() => talk.asked === 2);
  assert.deepEqual([talk.watch.state.seq, numbers(talk)], [3002, []]);
});

test("other tasks of the connection are none of its business", async (t) => {
  const talk = await watch(t, snapshot(RUN + 4, 3));
  await until(() => talk.watch.isKnown);
  talk.tell(progress(RUN + 5, 9, { task: "b" }), progress(RUN + 5, 4));
  await until(() => talk.changes.length === 2);
  assert.equal(talk.watch.state.current, 4);
});

test("it asks on each connection", async (t) => {
  const done = snapshot(RUN + 9, 10, [1, 2], { state: "done" });
  const talk = await watch(t, snapshot(RUN + 4, 3, [1]), done);
  await until(() => talk.watch.isKnown);
  talk.server.last.terminate();
  await until(() => talk.watch.state.state === "done");
  assert.deepEqual(numbers(talk), [1, 2]);
  assert.equal(talk.changes.length, 2);
});

test("silence makes it ask, until the task is over", async (t) => {
  t.mock.timers.enable({ apis: ["setInterval", "Date"], now: Date.now() });
  const done = snapshot(RUN + 9, 10, [], { state: "done" });
  const talk = await watch(t, snapshot(RUN + 4, 3), done);
  await until(() => talk.watch.isKnown);
  t.mock.timers.tick(10000);
  talk.tell(progress(RUN + 5, 4));
  await until(() => talk.watch.state.current === 4);
  t.mock.timers.tick(10000);
  assert.equal(talk.watch.state.state, "running");
  t.mock.timers.tick(5000);
  await until(() => talk.watch.state.state === "done");
  assert.equal(talk.asked, 2);
  t.mock.timers.tick(60000);
  talk.tell(progress(RUN + 10, 5));
  await until(() => talk.watch.state.current === 5);
  assert.equal(talk.asked, 2);
});

test("a refusal is told, another error is tried again", async (t) => {
  t.mock.timers.enable({ apis: ["setInterval", "Date"], now: Date.now() });
  const error = (code) => ({ type: "error", content: { code, message: "No." } });
  const refused = await watch(t, error("forbidden"));
  const event = await new Promise((resolve) =>
    refused.watch.addEventListener("refused", resolve),
  );
  assert.deepEqual([event.error.code, event.error.message], ["forbidden", "No."]);
  assert.ok(!refused.watch.isKnown);
  const talk = await watch(t, error("internal_error"), snapshot(RUN, 0));
  await until(() => talk.asked === 1);
  t.mock.timers.tick(15000);
  await until(() => talk.watch.isKnown);
});

test("the log is bounded", async (t) => {
  const talk = await watch(t, snapshot(RUN, 0));
  await until(() => talk.watch.isKnown);
  talk.tell(log(RUN + 1, ...Array.from({ length: 600 }, (_, index) => index + 1)));
  await until(() => talk.changes.length === 2);
  assert.deepEqual([numbers(talk).length, numbers(talk).at(-1)], [500, 600]);
});

test("the last watch of a task on a connection ends it", async (t) => {
  const talk = await watch(t, snapshot(RUN, 0));
  const second = new TaskWatch(talk.socket, "ref");
  await until(() => talk.watch.isKnown && second.isKnown);
  second.stop();
  second.stop();
  talk.tell(progress(RUN + 1, 1));
  await until(() => talk.watch.state.current === 1);
  assert.deepEqual([talk.unwatched, second.state.current], [0, 0]);
  talk.watch.stop();
  await until(() => talk.unwatched === 1);
});

test("texts are there to be translated", () => {
  texts.done = "Fertig";
  assert.equal(globalThis.dwebsocketTask.texts.done, "Fertig");
});
