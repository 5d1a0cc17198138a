/* A WebSocket that comes back: reconnects, queues, carries typed messages.
 *
 * A classic script that sets the global `dwebsocket`; as an ES module it is in
 * dwebsocket.module.js.  What was put into an array of that name before, being
 * functions, is called now.  Reference: docs/javascript.rst.  All times are in
 * milliseconds.
 */
"use strict";

(() => {
  const early = globalThis.dwebsocket;
  if (early?.Socket) return; // loaded twice

  const DEFAULTS = {
    protocols: [],
    minDelay: 1000,
    maxDelay: 30000,
    connectTimeout: 20000,
    requestTimeout: 10000,
    queueSize: 100,
    sleepTime: 90000,
    probe: true,
    isFinal,
  };

  /* Until when clients come back that have been sent away at the same time. */
  const RESTART_SPREAD = 900;
  /* A connection that ends sooner counts as another failure. */
  const STABLE_AFTER = 5000;
  const PROBE_TIMEOUT = 10000;
  /* When to connect again after the page was left, should it go on nevertheless. */
  const AWAY_TIME = 30000;

  /* RFC 6455, section 7.4.1, and the registry of codes that it founded. */
  const CODES = {
    1000: "normal closure",
    1001: "going away",
    1002: "protocol error",
    1003: "unsupported data",
    1005: "no code given",
    1006: "connection lost",
    1007: "invalid payload",
    1008: "policy violation",
    1009: "message too big",
    1011: "internal error",
    1012: "service restart",
    1013: "try again later",
    3000: "unauthorized",
    3003: "forbidden",
  };
  const RESTART = 1012;
  const LOST = 1006;

  const FINAL_CODES = new Set([1000, 1008, 3000, 3003]);
  const FINAL_STATUSES = new Set([401, 403, 410, "redirect"]);

  /* Tell whether a connection that ended like this is not to be opened again. */
  function isFinal({ code, status }) {
    return FINAL_CODES.has(code) || FINAL_STATUSES.has(status);
  }

  class SocketError extends Error {
    constructor(code, message, fields) {
      super(message);
      this.name = "SocketError";
      this.code = code;
      this.fields = fields ?? {};
    }
  }

  class Socket extends EventTarget {
    #url;
    #options;
    #state = "closed";
    #websocket = null;
    /* Stands for the current attempt: what comes of an earlier one is void. */
    #attempt = null;
    #failures = 0;
    #openedAt = 0;
    #timer;
    /* Ends the watch for sleep, offline and online. */
    #watch = null;
    #queue = [];
    #handlers = new Map();
    #requests = new Map();
    #lastId = 0;

    constructor(url, options = {}) {
      super();
      for (const name of Object.keys(options)) {
        if (!(name in DEFAULTS)) throw new TypeError(`unknown option "${name}"`);
      }
      this.#options = { ...DEFAULTS, ...options };
      this.#url = url;
      if (typeof url !== "function") resolveUrl(url); // a mistake shows here
      this.connect();
    }

    get state() {
      return this.#state;
    }

    get protocol() {
      return this.#websocket?.protocol ?? "";
    }

    get queued() {
      return this.#queue.length;
    }

    get bufferedAmount() {
      return this.#websocket?.bufferedAmount ?? 0;
    }

    /* Connect now: again, if it was closed; at once, if it waits. */
    connect() {
      if (this.#attempt) return;
      if (!this.#watch) this.#startWatch();
      this.#open();
    }

    close(code = 1000, reason = "") {
      if (this.#state === "closed") return;
      this.#abandon(code, reason);
      const why = "This page has closed it.";
      this.#end({ code, reason, wasClean: true, why, delay: null });
    }

    /* Messages */

    on(type, handler) {
      if (!this.#handlers.has(type)) this.#handlers.set(type, new Set());
      this.#handlers.get(type).add(handler);
      return () => this.off(type, handler);
    }

    off(type, handler) {
      this.#handlers.get(type)?.delete(handler);
    }

    send(type, content = null, meta = undefined) {
      return this.#send(JSON.stringify({ type, content, meta }));
    }

    sendRaw(data) {
      return this.#send(data);
    }

    request(type, content = null, options = {}) {
      const { meta, timeout = this.#options.requestTimeout } = options;
      return new Promise((resolve, reject) => {
        const id = ++this.#lastId;
        this.#send(JSON.stringify({ type, content, meta, id }), id);
        const giveUp = () => {
          this.#queue = this.#queue.filter((message) => message.id !== id);
          this.#reject(id, "timeout", `no reply to "${type}" within ${timeout} ms`);
        };
        const timer = Number.isFinite(timeout) && setTimeout(giveUp, timeout);
        this.#requests.set(id, { resolve, reject, timer });
      });
    }

    #send(data, id) {
      if (this.#state === "closed") {
        throw new SocketError("closed", "the socket is closed");
      }
      if (this.#websocket?.readyState === WebSocket.OPEN) {
        this.#websocket.send(data);
        return true;
      }
      if (this.#queue.length >= this.#options.queueSize) {
        throw new SocketError("queue_full", "too many messages wait already");
      }
      // The caller may change a buffer afterwards, as with WebSocket.send().
      this.#queue.push({ data: structuredClone(data), id });
      return false;
    }

    #receive(data) {
      this.#dispatch("message", { data });
      const message = parseEnvelope(data);
      if (!message) return;
      const { type, id, content = null, meta } = message;
      if (type === "reply") {
        this.#takeRequest(id)?.resolve(content);
      } else if (type === "error") {
        const error = new SocketError(content?.code, content?.message, content?.fields);
        if (id === undefined || id === null) this.#dispatch("error", { error });
        else this.#takeRequest(id)?.reject(error);
      }
      for (const handler of [...(this.#handlers.get(type) ?? [])]) {
        call(handler, content, meta ?? {}, message);
      }
    }

    #takeRequest(id) {
      const request = this.#requests.get(id);
      this.#requests.delete(id);
      clearTimeout(request?.timer);
      return request;
    }

    #reject(id, code, message) {
      this.#takeRequest(id).reject(new SocketError(code, message));
    }

    /* The connection */

    async #open() {
      clearTimeout(this.#timer);
      const attempt = (this.#attempt = {});
      this.#setState(isOffline() ? "offline" : "connecting");
      let url, protocols;
      try {
        [url, protocols] = await Promise.all(
          [this.#url, this.#options.protocols].map((it) =>
            typeof it === "function" ? it() : it,
          ),
        );
        url = resolveUrl(url);
      } catch (error) {
        if (attempt === this.#attempt) this.#lose(`Not ready to connect: ${error.message}`);
        return;
      }
      if (attempt !== this.#attempt) return;
      let websocket;
      try {
        websocket = new WebSocket(url, protocols);
      } catch (error) {
        // Bad subprotocols, or ws: on a page of https: it won't ever work.
        this.#lose(error.message, { delay: null });
        return;
      }
      this.#websocket = websocket;
      websocket.binaryType = "arraybuffer";
      websocket.onopen = () => this.#opened();
      websocket.onmessage = (event) => this.#receive(event.data);
      websocket.onerror = () => {}; // "close" follows
      websocket.onclose = (event) => this.#closed(event, attempt, url);
      this.#timer = setTimeout(() => {
        this.#abandon();
        this.#lose("The server doesn't answer.");
      }, this.#options.connectTimeout);
    }

    #opened() {
      clearTimeout(this.#timer);
      this.#openedAt = Date.now();
      this.#setState("open");
      if (this.#websocket) this.#dispatch("open");
      // What a listener has sent, to join a room say, went first; it may have closed.
      while (this.#queue.length && this.#websocket?.readyState === WebSocket.OPEN) {
        this.#websocket.send(this.#queue.shift().data);
      }
    }

    async #closed({ code, reason, wasClean }, attempt, url) {
      clearTimeout(this.#timer);
      let status = null;
      let retryAfter = 0;
      const wasOpen = this.#state === "open";
      if (!wasOpen && this.#options.probe && !isOffline()) {
        // A browser doesn't tell how a handshake was refused.
        ({ status, retryAfter } = await probe(url));
        if (attempt !== this.#attempt) return;
      }
      const why = explain(code, reason, status, wasOpen);
      this.#end({ code, reason, wasClean, status, why }, retryAfter);
    }

    #lose(why, more = {}) {
      this.#end({ code: LOST, reason: "", wasClean: false, why, ...more });
    }

    /* Leave the WebSocket to itself. */
    #abandon(code, reason) {
      const websocket = this.#websocket;
      if (!websocket) return;
      websocket.close(code, reason);
      websocket.onopen = websocket.onmessage = websocket.onclose = null;
      this.#websocket = null;
    }

    /* A connection or attempt is over: wait for the next one, or stop. */
    #end({ status = null, delay, ...details }, retryAfter = 0) {
      clearTimeout(this.#timer);
      if (this.#state === "open" && Date.now() - this.#openedAt >= STABLE_AFTER) {
        this.#failures = 0;
      }
      this.#websocket = this.#attempt = null;
      if (delay === undefined) {
        const isOver = this.#options.isFinal({ ...details, status });
        delay = isOver ? null : this.#chooseDelay(details.code, retryAfter);
      }
      const final = delay === null;
      const queued = new Set(this.#queue.map((message) => message.id));
      for (const id of [...this.#requests.keys()]) {
        if (!queued.has(id)) this.#reject(id, "connection_lost", details.why);
        else if (final) this.#reject(id, "closed", details.why);
      }
      const unsent = final ? this.#queue.splice(0).map((message) => message.data) : [];
      if (final) {
        this.#failures = 0;
        this.#stopWatch();
        this.#setState("closed");
      } else {
        this.#timer = setTimeout(() => this.#open(), delay);
        this.#setState(isOffline() ? "offline" : "waiting");
      }
      this.#dispatch("close", { ...details, status, final, delay, unsent });
    }

    #chooseDelay(code, retryAfter) {
      if (code === RESTART) return Math.random() * RESTART_SPREAD;
      const { minDelay, maxDelay } = this.#options;
      const limit = Math.min(maxDelay, minDelay * 2 ** this.#failures++);
      return retryAfter * (1 + Math.random() / 2) + Math.random() * limit;
    }

    /* The world */

    #startWatch() {
      const { signal } = (this.#watch = new AbortController());
      const { sleepTime } = this.#options;
      const listen = (target, type, listener) =>
        target?.addEventListener?.(type, listener, { signal });
      listen(globalThis, "offline", () => {
        if (this.#attempt) this.#retreat("The network is gone.");
        else this.#setState("offline");
      });
      listen(globalThis, "online", () => this.#hurry());
      // A page that is left may be kept for the way back.  Its connection would stay
      // open with nobody to read it, or keep it from being kept.
      listen(globalThis, "pagehide", () => {
        if (this.#attempt) this.#retreat("The page was left.", { delay: AWAY_TIME });
      });
      listen(globalThis, "pageshow", ({ persisted }) => {
        if (persisted) this.#hurry();
      });
      listen(globalThis.document, "visibilitychange", () => {
        if (document.visibilityState === "visible" && !this.#attempt) this.#open();
      });
      let last = Date.now();
      const clock = setInterval(() => {
        const gap = Date.now() - last;
        last += gap;
        if (gap < sleepTime) return;
        // Who knows what became of the connection.
        if (this.#attempt)
          this.#retreat("The computer or the page slept.", { delay: 0 });
        this.#hurry();
      }, sleepTime / 9);
      signal.addEventListener("abort", () => clearInterval(clock));
    }

    #stopWatch() {
      this.#watch?.abort();
      this.#watch = null;
    }

    /* Don't wait for the end of the connection. */
    #retreat(why, more) {
      this.#abandon();
      this.#lose(why, more);
    }

    /* Don't wait for the end of the delay. */
    #hurry() {
      this.#failures = 0;
      if (!this.#watch || (this.#attempt && this.#state !== "offline")) return;
      this.#abandon();
      this.#open();
    }

    #setState(state) {
      const previous = this.#state;
      if (state === previous) return;
      this.#state = state;
      this.#dispatch("state", { state, previous });
    }

    #dispatch(type, properties) {
      this.dispatchEvent(Object.assign(new Event(type), properties));
    }
  }

  function resolveUrl(url) {
    const resolved = new URL(
      url,
      globalThis.document?.baseURI ?? globalThis.location?.href,
    );
    resolved.protocol = resolved.protocol.replace("http", "ws");
    resolved.hash = "";
    return resolved.href;
  }

  /* Ask by plain HTTP how the server would refuse a WebSocket. */
  async function probe(url) {
    const { href, origin } = new URL(url.replace("ws", "http"));
    // A view that takes nothing but WebSockets answers it nevertheless.  To another
    // origin it would be a matter of CORS.
    const isOurs = origin === (globalThis.location?.origin ?? origin);
    try {
      const response = await fetch(href, {
        cache: "no-store",
        credentials: "include",
        headers: isOurs ? { "WebSocket-Probe": "1" } : {},
        redirect: "manual",
        signal: AbortSignal.timeout(PROBE_TIMEOUT),
      });
      response.body?.cancel().catch(() => {});
      const { status, type } = response;
      const isRedirect = type === "opaqueredirect" || (status >= 300 && status < 400);
      const retryAfter = Number(response.headers.get("Retry-After")) * 1000 || 0;
      return { status: isRedirect ? "redirect" : status, retryAfter };
    } catch {
      return { status: null, retryAfter: 0 }; // offline, no server, or CORS
    }
  }

  function explain(code, reason, status, wasOpen) {
    if (status === "redirect") return "The server sends elsewhere, to log in probably.";
    if (status === 401 || status === 403)
      return `The server doesn't let you in (${status}).`;
    if (status >= 400) return `The server refused the connection (${status}).`;
    if (!wasOpen) return "The connection could not be opened.";
    const name = CODES[code] ?? "closed by the server";
    return `The connection ended: ${name} (${code}${reason && `, "${reason}"`}).`;
  }

  function isOffline() {
    return globalThis.navigator?.onLine === false;
  }

  function parseEnvelope(data) {
    if (typeof data !== "string" || !data.startsWith("{")) return null;
    try {
      const message = JSON.parse(data);
      return typeof message.type === "string" ? message : null;
    } catch {
      return null; // other text
    }
  }

  /* Let no function keep others from being called. */
  function call(callback, ...args) {
    try {
      callback(...args);
    } catch (error) {
      if (globalThis.reportError) reportError(error);
      else setTimeout(() => Promise.reject(error)); // Node.js: unhandled
    }
  }

  const dwebsocket = Object.freeze({
    Socket,
    SocketError,
    connect: (url, options) => new Socket(url, options),
    isFinal,
    push: (...callbacks) => {
      for (const callback of callbacks) call(callback, dwebsocket);
    },
  });
  globalThis.dwebsocket = dwebsocket;
  if (Array.isArray(early)) dwebsocket.push(...early);
})();
