/* The live panel of an example page: one WebSocket, its state and its log.
 *
 * The connection is dwebsocket.js's, which also comes back by itself.  The page says
 * what it wants by data attributes on the panel:
 *
 *   data-live          this element is a live panel
 *   data-url           the path of the WebSocket
 *   data-autoconnect   connect when the page has loaded
 *   data-round-trip    each message has one reply: show the time it took
 *   data-quiet         what is received isn't written to the log: the page shows it
 *   data-token-url     where to fetch a bearer token to connect with
 *
 * and finds there in return data-state, as of the socket, and data-close-code, that
 * of the last close.
 *
 * A page with a script of its own imports `panels`, and listens to their `socket`.
 */

const STATE_LABELS = {
  connecting: "Connecting",
  open: "Open",
  waiting: "Trying again soon",
  offline: "Offline",
  closed: "Closed",
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

class LivePanel {
  constructor(root) {
    this.root = root;
    this.log = root.querySelector("[data-log]");
    this.toggle = root.querySelector("[data-toggle]");
    this.stateLabel = root.querySelector("[data-state-label]");
    this.wire = root.querySelector("[data-wire] .wire-line");
    this.sentTimes = [];
    this.socket = this.makeSocket();

    this.toggle.addEventListener("click", () => {
      if (this.socket.state === "closed") this.socket.connect();
      else this.socket.close();
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
    this.showState();
  }

  onSubmit(selector, action) {
    this.root.querySelector(selector)?.addEventListener("submit", (event) => {
      event.preventDefault();
      action(event.target);
    });
  }

  /* The conversation */

  makeSocket() {
    const { url, tokenUrl } = this.root.dataset;
    let hasToken = !tokenUrl;
    const protocols = async () => {
      if (!tokenUrl) return [];
      const offer = await offerToken(tokenUrl);
      hasToken = true;
      return offer;
    };
    // Without a token there is no use in trying again.
    const isFinal = (end) => !hasToken || dwebsocket.isFinal(end);
    const socket = dwebsocket.connect(url, { protocols, isFinal });
    if (!("autoconnect" in this.root.dataset)) socket.close();
    const { href } = new URL(url, location.href);
    this.root.querySelector("[data-url-label]").textContent = href.replace("http", "ws");
    socket.addEventListener("state", () => this.showState());
    socket.addEventListener("open", () => this.write("note", "Connected"));
    socket.addEventListener("message", (event) => this.receive(event.data));
    socket.addEventListener("close", (event) => this.closed(event));
    return socket;
  }

  send(data) {
    this.sentTimes.push(performance.now());
    this.socket.sendRaw(data);
    this.write("sent", data);
    this.pulse("sent");
  }

  receive(data) {
    const sentTime = "roundTrip" in this.root.dataset ? this.sentTimes.shift() : undefined;
    const duration = sentTime === undefined ? undefined : performance.now() - sentTime;
    if (!("quiet" in this.root.dataset)) this.write("received", data, duration);
    this.pulse("received");
  }

  closed({ code, why, final, delay }) {
    this.sentTimes = [];
    this.root.dataset.closeCode = code;
    const next = final ? "" : ` Trying again in ${(delay / 1000).toFixed(1)} s.`;
    this.write([1000, 1001, 1012].includes(code) ? "note" : "error", why + next);
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

  showState() {
    const { state } = this.socket;
    this.root.dataset.state = state;
    this.stateLabel.textContent = STATE_LABELS[state];
    this.toggle.textContent = state === "closed" ? "Connect" : "Disconnect";
    const focused = document.activeElement;
    for (const control of this.root.querySelectorAll("[data-needs-open]")) {
      control.disabled = state !== "open";
    }
    if (focused?.disabled) this.toggle.focus();
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

/* The subprotocols that carry a token. */
async function offerToken(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(await response.text());
  const { token } = await response.json();
  return ["bearer", `bearer.${encodeBase64Url(token)}`];
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
