/* The live panel of an example page: one WebSocket, its state and its log.
 *
 * The page says what it wants by data attributes on the panel:
 *
 *   data-live          this element is a live panel
 *   data-url           the path of the WebSocket
 *   data-autoconnect   connect when the page has loaded
 *   data-round-trip    each message has one reply: show the time it took
 *   data-quiet         what is received isn't written to the log: the page shows it
 *   data-refused       what to say when the connection could not be opened
 *   data-token-url     where to fetch a bearer token to connect with
 *
 * and finds there in return data-state ("connecting", "open", "closing" or
 * "closed") and, after a close, data-close-code.
 *
 * A page with a script of its own imports `panels` and listens to their events:
 * "message", with the data, and "state".
 */

const STATE_LABELS = {
  connecting: "Connecting",
  open: "Open",
  closing: "Closing",
  closed: "Closed",
};

/* RFC 6455, section 7.4.1, and the registry it founded. */
const CLOSE_NAMES = {
  1000: "normal closure",
  1001: "going away",
  1002: "protocol error",
  1003: "unsupported data",
  1005: "no code given",
  1006: "connection lost",
  1007: "invalid payload",
  1008: "policy violation",
  1009: "message too big",
  1010: "extension missing",
  1011: "server error",
  1012: "service restart",
  1013: "try again later",
  3000: "unauthorized",
  3003: "forbidden",
};

const KIND_LABELS = {
  sent: "Sent",
  received: "Received",
  note: "Note",
  error: "Error",
};

const MAX_LOG_ENTRIES = 200;
const MAX_TEXT_SHOWN = 2000;
const MAX_BYTES_SHOWN = 8;
const MAX_PULSES = 6;

const encoder = new TextEncoder();

class LivePanel extends EventTarget {
  constructor(root) {
    super();
    this.root = root;
    this.log = root.querySelector("[data-log]");
    this.toggle = root.querySelector("[data-toggle]");
    this.stateLabel = root.querySelector("[data-state-label]");
    this.wire = root.querySelector("[data-wire] .wire-line");
    this.socket = null;
    this.sentTimes = [];

    this.url = new URL(root.dataset.url, location.href);
    this.url.protocol = this.url.protocol === "https:" ? "wss:" : "ws:";
    root.querySelector("[data-url-label]").textContent = this.url.href;

    this.toggle.addEventListener("click", () => {
      if (this.socket) this.disconnect();
      else this.connect();
    });
    this.onSubmit("[data-text-form]", (form) => {
      this.send(form.elements.message.value);
      form.elements.message.select();
    });
    this.onSubmit("[data-binary-form]", (form) => {
      this.send(makeBytes(Number(form.elements.size.value)));
    });
    this.onSubmit("[data-http-form]", (form) => {
      this.get(`${form.action}?${new URLSearchParams(new FormData(form))}`);
    });
    root.querySelector("[data-file]")?.addEventListener("change", async (event) => {
      const [file] = event.target.files;
      if (file) this.send(await file.arrayBuffer());
      event.target.value = "";
    });

    // A page that is left may be kept for the way back, its connection open.
    let wasLeft = false;
    addEventListener("pagehide", () => {
      wasLeft = this.socket !== null;
      if (wasLeft) this.disconnect();
    });
    addEventListener("pageshow", (event) => {
      if (event.persisted && wasLeft) this.connect();
    });

    if ("autoconnect" in root.dataset) this.connect();
  }

  onSubmit(selector, action) {
    this.root.querySelector(selector)?.addEventListener("submit", (event) => {
      event.preventDefault();
      action(event.target);
    });
  }

  /* The conversation */

  connect() {
    if (this.root.dataset.tokenUrl) this.connectWithToken();
    else this.open([]);
  }

  async connectWithToken() {
    this.setState("connecting");
    try {
      const response = await fetch(this.root.dataset.tokenUrl);
      if (!response.ok) throw new Error(await response.text());
      const { token } = await response.json();
      this.open(["bearer", `bearer.${encodeBase64Url(token)}`]);
    } catch (error) {
      this.setState("closed");
      this.write("error", `No token: ${error.message}`);
    }
  }

  open(protocols) {
    const socket = new WebSocket(this.url, protocols);
    let wasOpen = false;
    socket.binaryType = "arraybuffer";
    socket.addEventListener("open", () => {
      wasOpen = true;
      this.setState("open");
      this.write("note", "Connected");
    });
    socket.addEventListener("message", (event) => this.receive(event.data));
    socket.addEventListener("close", (event) => {
      if (socket === this.socket) this.closed(event, wasOpen);
    });
    this.socket = socket;
    this.sentTimes = [];
    delete this.root.dataset.closeCode;
    this.setState("connecting");
  }

  disconnect() {
    this.socket.close(1000);
    this.setState("closing");
  }

  send(data) {
    if (this.socket?.readyState !== WebSocket.OPEN) {
      this.write("error", "Not connected: nothing was sent");
      return;
    }
    this.sentTimes.push(performance.now());
    this.socket.send(data);
    this.write("sent", data);
    this.pulse("sent");
  }

  receive(data) {
    const sentTime = "roundTrip" in this.root.dataset ? this.sentTimes.shift() : undefined;
    const duration = sentTime === undefined ? undefined : performance.now() - sentTime;
    if (!("quiet" in this.root.dataset)) this.write("received", data, duration);
    this.pulse("received");
    this.dispatchEvent(new MessageEvent("message", { data }));
  }

  closed(event, wasOpen) {
    this.socket = null;
    this.root.dataset.closeCode = event.code;
    this.setState("closed");
    if (!wasOpen) {
      const text = this.root.dataset.refused ?? "Could not connect. Browsers do not say why.";
      this.write("error", text);
      return;
    }
    const name = CLOSE_NAMES[event.code];
    const details = [name, event.reason && `“${event.reason}”`].filter(Boolean);
    const kind = [1000, 1001, 1005].includes(event.code) ? "note" : "error";
    this.write(kind, [`Closed with code ${event.code}`, ...details].join(", "));
  }

  async get(url) {
    const start = performance.now();
    const { pathname, search } = new URL(url);
    this.write("sent", `GET ${pathname}${search}`);
    try {
      const text = await (await fetch(url)).text();
      this.write("received", text, performance.now() - start);
    } catch (error) {
      this.write("error", `The request failed: ${error.message}`);
    }
  }

  /* What is shown */

  setState(state) {
    this.root.dataset.state = state;
    this.stateLabel.textContent = STATE_LABELS[state];
    this.toggle.textContent = this.socket ? "Disconnect" : "Connect";
    const focused = document.activeElement;
    for (const control of this.root.querySelectorAll("[data-needs-open]")) {
      control.disabled = state !== "open";
    }
    if (focused?.disabled) this.toggle.focus();
    this.dispatchEvent(new Event("state"));
  }

  write(kind, data, duration) {
    const isMessage = kind === "sent" || kind === "received";
    const size = typeof data === "string" ? encoder.encode(data).length : data.byteLength;
    const meta = [];
    if (isMessage) meta.push(formatSize(size));
    if (duration !== undefined) meta.push(`${duration.toFixed(duration < 10 ? 1 : 0)} ms`);

    const entry = document.createElement("li");
    entry.dataset.kind = kind;
    entry.dataset.type = typeof data === "string" ? "text" : "binary";
    if (isMessage) entry.dataset.size = size;
    const time = new Date().toLocaleTimeString([], { hourCycle: "h23" });
    entry.append(
      makeSpan("log-kind", KIND_LABELS[kind]),
      makeSpan("log-text", typeof data === "string" ? shorten(data) : formatBytes(data)),
      makeSpan("log-meta", meta.join(" · ")),
      makeSpan("log-time", time),
    );

    const view = this.log.parentElement;
    const isAtEnd = view.scrollHeight - view.scrollTop - view.clientHeight < 24;
    this.log.append(entry);
    while (this.log.children.length > MAX_LOG_ENTRIES) this.log.firstChild.remove();
    if (isAtEnd) view.scrollTop = view.scrollHeight;
  }

  pulse(kind) {
    if (this.wire.children.length >= MAX_PULSES) return;
    const pulse = makeSpan(`pulse pulse-${kind}`, "");
    pulse.addEventListener("animationend", () => pulse.remove());
    this.wire.append(pulse);
  }
}

function makeSpan(className, text) {
  const span = document.createElement("span");
  span.className = className;
  span.textContent = text;
  return span;
}

function encodeBase64Url(text) {
  return btoa(text).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

function makeBytes(size) {
  const bytes = new Uint8Array(size);
  for (let index = 0; index < size; index++) bytes[index] = index;
  return bytes;
}

function shorten(text) {
  return text.length > MAX_TEXT_SHOWN ? `${text.slice(0, MAX_TEXT_SHOWN)}…` : text;
}

function formatBytes(data) {
  const bytes = new Uint8Array(data.buffer ?? data, 0, Math.min(data.byteLength, MAX_BYTES_SHOWN));
  const shown = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(" ");
  return data.byteLength > MAX_BYTES_SHOWN ? `${shown} …` : shown;
}

function formatSize(size) {
  if (size < 1024) return `${size} B`;
  if (size < 1024 * 1024) return `${trim(size / 1024)} KiB`;
  return `${trim(size / 1024 / 1024)} MiB`;
}

function trim(number) {
  return number.toFixed(1).replace(/\.0$/, "");
}

export const panels = Array.from(
  document.querySelectorAll("[data-live]"),
  (root) => new LivePanel(root),
);
