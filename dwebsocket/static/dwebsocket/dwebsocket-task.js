/* <dwebsocket-task task="report-42">: how far a task is, what it logs, how it ends.
 *
 * A classic script beside dwebsocket.js, in any order; as an ES module it is in
 * dwebsocket-task.module.js.  Sets the global `dwebsocketTask`.  Reference:
 * docs/tasks.rst.  All times are in milliseconds.
 */
"use strict";

(() => {
  if (globalThis.dwebsocketTask) return; // loaded twice

  const DEFAULT_URL = "/tasks/";

  /* A running task that is silent for so long is asked for: the end may be lost. */
  const QUIET_TIME = 15000;
  const RETRY_TIME = 5000;
  const MAX_LINES = 500;
  const WARNING_LEVELS = new Set(["WARNING", "ERROR", "CRITICAL"]);

  /* What asking again won't change. */
  const REFUSALS = new Set(["forbidden", "bad_message", "unknown_type"]);

  const NOTHING = Object.freeze({
    task: null,
    state: null,
    current: 0,
    total: null,
    text: "",
    result: null,
    error: null,
    started: null,
    ended: null,
    log: [],
    run: 0,
    seq: 0,
  });

  /* Shown to people, and to be translated. */
  const texts = {
    loading: "Loading",
    unknown: "Not started yet",
    waiting: "Waiting for another attempt",
    running: "Running",
    done: "Done",
    failed: "Failed",
    progress: "Progress",
    log: "Log",
    of: "of",
    skipped: "lines left out",
    away: "Connection lost, trying again",
    refused: "This task can\u2019t be shown",
  };

  const isOver = ({ state }) => state === "done" || state === "failed";

  /* What a socket watches: how often, by name. */
  const watched = new WeakMap();

  function count(socket, name, change) {
    if (!watched.has(socket)) watched.set(socket, new Map());
    const names = watched.get(socket);
    const number = (names.get(name) ?? 0) + change;
    names.set(name, number);
    return number;
  }

  /* What is known of a task: a snapshot, and each message once on top of it.
   *
   * "change" says that `state` is another; its `live` is false for what had happened
   * before.  "refused" has an `error`.
   */
  class TaskWatch extends EventTarget {
    #socket;
    #task;
    #state = NOTHING;
    #isKnown = false;
    /* Stands for the question that is on its way. */
    #question = null;
    /* What has come since; what the answer has already is dropped then. */
    #held = [];
    #heardAt = Date.now();
    #retry;
    #end = new AbortController();

    constructor(socket, task) {
      super();
      this.#socket = socket;
      this.#task = task;
      const { signal } = this.#end;
      for (const type of ["task.progress", "task.log", "task.done", "task.failed"]) {
        const stop = socket.on(type, (content, meta) => {
          this.#receive({ type, content, meta });
        });
        signal.addEventListener("abort", stop);
      }
      socket.addEventListener("open", () => this.#ask(), { signal });
      const clock = setInterval(() => {
        const isQuiet = Date.now() - this.#heardAt >= QUIET_TIME;
        if (isQuiet && !isOver(this.#state) && !this.#question) this.#ask();
      }, QUIET_TIME / 3);
      signal.addEventListener("abort", () => clearInterval(clock));
      this.#ask();
    }

    get state() {
      return this.#state;
    }

    /* Whether the server has told what it knows. */
    get isKnown() {
      return this.#isKnown;
    }

    stop() {
      if (this.#end.signal.aborted) return;
      this.#end.abort();
      clearTimeout(this.#retry);
      this.#question = null;
      const { task } = this.#state;
      if (!this.#isKnown || count(this.#socket, task, -1)) return;
      if (this.#socket.state === "open") {
        this.#socket.send("task.unwatch", { task: this.#task });
      }
    }

    async #ask() {
      clearTimeout(this.#retry);
      if (this.#socket.state !== "open") return; // "open" will come
      const question = (this.#question = {});
      let snapshot, error;
      try {
        snapshot = await this.#socket.request("task.watch", { task: this.#task });
      } catch (reason) {
        error = reason;
      }
      if (question !== this.#question) return;
      this.#question = null;
      this.#heardAt = Date.now();
      if (snapshot) this.#take(snapshot);
      for (const message of this.#held.splice(0)) this.#apply(message);
      if (!error) return;
      if (REFUSALS.has(error.code)) {
        this.#dispatch("refused", { error });
      } else if (this.#socket.state === "open") {
        this.#retry = setTimeout(() => this.#ask(), RETRY_TIME);
      }
    }

    #take(snapshot) {
      if (!this.#isKnown) count(this.#socket, snapshot.task, 1);
      const isNew = !this.#isKnown || snapshot.seq > this.#state.seq;
      this.#isKnown = true;
      // The server may have forgotten what is known here.
      if (isNew) this.#change({ ...NOTHING, ...snapshot }, false);
    }

    #receive(message) {
      this.#heardAt = Date.now();
      if (this.#question) this.#held.push(message);
      else this.#apply(message);
    }

    #apply({ type, content, meta }) {
      const { task, run, seq, log } = this.#state;
      if (!this.#isKnown || meta.task !== task || meta.seq <= seq) return;
      const isNew = meta.run !== run;
      const isNext = meta.seq === (isNew ? meta.run : seq + 1);
      const state = { ...(isNew ? NOTHING : this.#state), ...content, ...meta };
      if (type === "task.log") {
        delete state.lines;
        const lines = isNew ? [] : log;
        const last = lines.at(-1)?.number ?? 0;
        const added = content.lines.filter(({ number }) => number > last);
        state.log = [...lines, ...added].slice(-MAX_LINES);
      }
      this.#change(state, true);
      if (!isNext && !this.#question) this.#ask(); // something was lost
    }

    #change(state, live) {
      const previous = this.#state;
      this.#state = Object.freeze(state);
      this.#dispatch("change", { state, previous, live });
    }

    #dispatch(type, properties) {
      this.dispatchEvent(Object.assign(new Event(type), properties));
    }
  }

  const namespace = { TaskWatch, texts };
  globalThis.dwebsocketTask = namespace;
  if (!globalThis.customElements) return;

  /* Elements of the same URL share a connection. */
  const sockets = new Map();

  function borrow(connect, url) {
    const key = new URL(url, document.baseURI).href;
    if (!sockets.has(key)) sockets.set(key, { socket: connect(url), users: 0 });
    const entry = sockets.get(key);
    entry.users++;
    const giveBack = () => {
      if (--entry.users) return;
      sockets.delete(key);
      entry.socket.close();
    };
    return [entry.socket, giveBack];
  }

  /* Colours are the page's, or have contrast on light and on dark ground. */
  const STYLE = `
    :host { display: block; }
    :host([hidden]), [hidden] { display: none !important; }
    [part~="head"] {
      display: flex; flex-wrap: wrap; gap: 0 1em; justify-content: space-between;
    }
    [part~="label"] { font-weight: 600; overflow-wrap: anywhere; }
    [part~="count"] { font-variant-numeric: tabular-nums; }
    [part~="bar"] {
      box-sizing: border-box; height: var(--dwebsocket-task-height, 0.75em);
      margin-block: 0.35em; overflow: hidden; border: 1px solid rgb(128 128 128);
      border-radius: 1em; background: var(--dwebsocket-task-track, transparent);
    }
    [part~="fill"] {
      width: 0; height: 100%; border-radius: inherit;
      background: var(--dwebsocket-task-color, #2f7bd9); transition: width 0.25s;
    }
    :host([state="done"]) [part~="fill"] {
      background: var(--dwebsocket-task-done, #1f8a4c);
    }
    :host([state="failed"]) [part~="fill"] {
      background: var(--dwebsocket-task-failed, #d93a2b);
    }
    [data-indeterminate] [part~="fill"] {
      width: 30%; animation: run 1.6s ease-in-out infinite alternate;
    }
    @keyframes run { to { margin-inline-start: 70%; } }
    p { margin: 0; overflow-wrap: anywhere; }
    [part~="log"] {
      box-sizing: border-box; max-height: var(--dwebsocket-task-log-height, 12em);
      margin-block: 0.5em; padding: 0.4em 0.6em; overflow-y: auto;
      border: 1px solid rgb(128 128 128 / 60%); border-radius: 0.4em;
      font: 0.875em/1.5 var(--dwebsocket-task-log-font, ui-monospace, monospace);
    }
    [part~="log"]:focus-visible { outline: 2px solid; outline-offset: 2px; }
    ol { margin: 0; padding: 0; list-style: none; }
    li { overflow-wrap: anywhere; white-space: pre-wrap; }
    time { font-variant-numeric: tabular-nums; }
    [part~="line-warning"] { font-weight: 600; }
    [part~="outcome"] { font-weight: 600; }
    a { color: inherit; }
    @media (prefers-reduced-motion: reduce) {
      [part~="fill"] { transition: none; animation: none !important; }
    }
    @media (forced-colors: active) {
      [part~="fill"] { background: Highlight !important; forced-color-adjust: none; }
    }
  `;

  function make(tag, part, attributes = {}, ...children) {
    const element = document.createElement(tag);
    element.setAttribute("part", part);
    for (const [name, value] of Object.entries(attributes)) {
      element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }

  let styleSheet;

  class TaskElement extends HTMLElement {
    static observedAttributes = ["task", "url", "label"];

    #label = make("span", "label");
    #count = make("span", "count");
    #fill = make("div", "fill");
    #bar = make("div", "bar", { role: "progressbar", "aria-valuemin": 0 }, this.#fill);
    #text = make("p", "text");
    #lines = document.createElement("ol");
    #log = make("div", "log", { role: "log", tabindex: 0, hidden: "" }, this.#lines);
    #outcome = make("p", "outcome", { role: "status" });
    #connection = make("p", "connection", { role: "status" });

    #socket = null;
    #watch = null;
    #giveBack = null;
    #end = null;
    #shown = NOTHING;

    constructor() {
      super();
      if (!styleSheet) {
        styleSheet = new CSSStyleSheet(); // which no Content-Security-Policy forbids
        styleSheet.replaceSync(STYLE);
      }
      const root = this.attachShadow({ mode: "open" });
      root.adoptedStyleSheets = [styleSheet];
      root.append(
        make("div", "head", {}, this.#label, this.#count),
        ...[this.#bar, this.#text, this.#log, this.#outcome, this.#connection],
      );
    }

    /* The page's own connection, to be used instead of one to `url`. */
    get socket() {
      return this.#socket;
    }

    set socket(socket) {
      this.#socket = socket;
      this.#restart();
    }

    /* What is known of the task. */
    get state() {
      return this.#watch?.state ?? NOTHING;
    }

    connectedCallback() {
      if (Object.hasOwn(this, "socket")) {
        // It was set before the script had loaded.
        const { socket } = this;
        delete this.socket;
        this.#socket = socket;
      }
      this.#restart();
    }

    disconnectedCallback() {
      this.#stop();
    }

    attributeChangedCallback(name) {
      if (name === "label") this.#drawLabel();
      else this.#restart();
    }

    #restart() {
      this.#stop();
      this.#clear();
      const task = this.getAttribute("task");
      if (!this.isConnected || !task) return;
      const { signal } = (this.#end = new AbortController());
      (globalThis.dwebsocket ??= []).push(({ connect }) => {
        if (!signal.aborted) this.#start(task, connect, signal);
      });
    }

    #start(task, connect, signal) {
      let socket = this.#socket;
      if (!socket) {
        const url = this.getAttribute("url") || DEFAULT_URL;
        [socket, this.#giveBack] = borrow(connect, url);
      }
      socket.addEventListener("state", () => this.#drawConnection(socket), { signal });
      const onClose = ({ final, why }) => {
        if (final && !isOver(this.state)) this.#refuse({ code: "closed", message: why });
      };
      socket.addEventListener("close", onClose, { signal });
      const watch = (this.#watch = new TaskWatch(socket, task));
      watch.addEventListener("change", (event) => this.#draw(event), { signal });
      const onRefused = ({ error }) => this.#refuse(error);
      watch.addEventListener("refused", onRefused, { signal });
    }

    #stop() {
      this.#end?.abort();
      this.#watch?.stop();
      this.#giveBack?.();
      this.#end = this.#watch = this.#giveBack = null;
    }

    #clear() {
      this.#shown = NOTHING;
      this.#lines.replaceChildren();
      this.#log.hidden = true;
      this.removeAttribute("state");
      for (const part of [this.#count, this.#text, this.#outcome, this.#connection]) {
        part.textContent = "";
      }
      this.#drawBar({ ...NOTHING, text: "" }, texts.loading);
      this.#drawLabel();
    }

    #draw({ state, previous, live }) {
      const name = state.state ?? "unknown";
      this.setAttribute("state", name);
      this.#drawLabel();
      this.#drawBar(state, texts[name]);
      this.#setText(this.#text, state.text);
      this.#drawOutcome(state, name);
      const lines = this.#drawLines(state);
      this.#connection.textContent = "";
      this.#shown = state;
      if (lines.length) this.#dispatch("log", { lines, live, state });
      if (isOver(state)) {
        const isNews = !isOver(previous) || previous.run !== state.run;
        if (isNews) this.#dispatch(state.state, { ...state, live });
      } else if (state.state !== null && !(live && lines.length)) {
        this.#dispatch("progress", { ...state, live });
      }
    }

    #drawLabel() {
      const label = this.getAttribute("label") ?? "";
      this.#setText(this.#label, label);
      this.#bar.setAttribute("aria-label", label || texts.progress);
      this.#log.setAttribute("aria-label", [label, texts.log].join(" ").trim());
    }

    #drawBar({ state, current, total }, name) {
      const isMeasured = total !== null && total > 0;
      const isIndeterminate = state === "running" && !isMeasured;
      const part = state === "done" ? 1 : isMeasured ? current / total : 0;
      const of = isMeasured ? ` ${texts.of} ${total.toLocaleString()}` : "";
      const number = current || isMeasured ? current.toLocaleString() + of : "";
      this.#setText(this.#count, number);
      this.#bar.toggleAttribute("data-indeterminate", isIndeterminate);
      const width = Math.min(Math.max(part, 0), 1) * 100;
      this.#fill.style.width = isIndeterminate ? "" : `${width}%`;
      const values = isIndeterminate ? {} : { max: 100, now: Math.round(width) };
      for (const key of ["max", "now"]) {
        if (key in values) this.#bar.setAttribute(`aria-value${key}`, values[key]);
        else this.#bar.removeAttribute(`aria-value${key}`);
      }
      const valueText = [name, number].filter(Boolean).join(", ");
      this.#bar.setAttribute("aria-valuetext", valueText);
    }

    #drawOutcome({ error, result }, name) {
      const children = [];
      if (name !== "running") children.push(texts[name]);
      if (error) children.push(`: ${error.message ?? error.type}`);
      if (name === "done" && result !== null) {
        const shown = showResult(result);
        if (shown) children.push(": ", shown);
      }
      const text = children.map((child) => child.textContent ?? child).join("");
      // A live region: what is the same isn't to be read again.
      if (this.#outcome.textContent !== text) this.#outcome.replaceChildren(...children);
    }

    #drawLines({ run, log }) {
      if (run !== this.#shown.run) this.#lines.replaceChildren();
      let last = run === this.#shown.run ? (this.#shown.log.at(-1)?.number ?? 0) : 0;
      const added = log.filter(({ number }) => number > last);
      if (!added.length) {
        this.#log.hidden = !this.#lines.childElementCount;
        return added;
      }
      this.#log.hidden = false;
      const { scrollHeight, scrollTop, clientHeight } = this.#log;
      const isAtEnd = scrollHeight - scrollTop - clientHeight < 24;
      for (const line of added) {
        const skipped = line.number - last - 1;
        if (skipped) {
          const text = `\u2026 ${skipped.toLocaleString()} ${texts.skipped}`;
          this.#lines.append(make("li", "line line-skipped", {}, text));
        }
        this.#lines.append(makeLine(line));
        last = line.number;
      }
      while (this.#lines.childElementCount > MAX_LINES) this.#lines.firstChild.remove();
      if (isAtEnd) this.#log.scrollTop = this.#log.scrollHeight;
      return added;
    }

    #drawConnection({ state }) {
      const isAway = state === "waiting" || state === "offline";
      if (isAway && !isOver(this.state)) this.#setText(this.#connection, texts.away);
      else if (state === "open") this.#setText(this.#connection, "");
    }

    #refuse(error) {
      this.setAttribute("state", "refused");
      this.#setText(this.#connection, `${texts.refused}: ${error.message}`);
      this.#dispatch("refused", { error });
    }

    #setText(part, text) {
      if (part.textContent !== text) part.textContent = text;
    }

    #dispatch(name, detail) {
      const options = { detail, bubbles: true, composed: true };
      this.dispatchEvent(new CustomEvent(`task-${name}`, options));
    }
  }

  function makeLine({ time, level, text }) {
    const date = new Date(time * 1000);
    const shown = date.toLocaleTimeString([], { hourCycle: "h23" });
    const stamp = make("time", "time", { datetime: date.toISOString() }, shown);
    const isWarning = WARNING_LEVELS.has(level);
    const part = isWarning ? "line line-warning" : "line";
    const words = isWarning ? ` ${level} ${text}` : ` ${text}`;
    return make("li", part, { "data-level": level }, stamp, words);
  }

  /* A text, or a link: {url, text}; null for what only scripts understand. */
  function showResult(result) {
    if (typeof result !== "object") return String(result);
    if (typeof result.url !== "string") return null;
    const { href, protocol } = new URL(result.url, document.baseURI);
    if (protocol !== "http:" && protocol !== "https:") return null;
    return make("a", "result", { href }, String(result.text ?? result.url));
  }

  namespace.TaskElement = TaskElement;
  customElements.define("dwebsocket-task", TaskElement);
})();
