/* The server's clock, as exactly as it can be known over a network. */

const SAMPLES = 8;
const INTERVAL = 20000; // ms
const DRIFT = 1e-4; // of two clocks, at most

export class ServerClock extends EventTarget {
  /* In ms: what has to be added to this page's clock, and how wrong that may be. */
  offset = 0;
  uncertainty = Infinity;
  measuredAt = 0;

  constructor(socket) {
    super();
    this.socket = socket;
    socket.addEventListener("open", () => {
      this.uncertainty = Infinity; // it may be another server
      this.measure();
    });
    setInterval(() => this.measure(), INTERVAL);
  }

  now() {
    return localTime() + this.offset;
  }

  /* The reply was made at some time between sending and receiving: take the middle.
   * The quickest round trip leaves the least room for error. */
  async measure() {
    if (this.socket.state !== "open") return;
    let best = { uncertainty: Infinity };
    for (let count = 0; count < SAMPLES; count++) {
      const sent = localTime();
      const time = await this.socket.request("routines.clock").catch(() => null);
      if (time === null) break; // the next measurement comes
      const received = localTime();
      const uncertainty = (received - sent) / 2;
      if (uncertainty < best.uncertainty)
        best = { uncertainty, offset: time * 1000 - (sent + received) / 2 };
    }
    if (best.offset === undefined) return;
    const age = localTime() - this.measuredAt;
    if (best.uncertainty > this.uncertainty + age * DRIFT) return;
    Object.assign(this, best, { measuredAt: localTime() });
    this.dispatchEvent(new Event("change"));
  }
}

/* Unlike Date.now() this doesn't jump when the clock is set. */
function localTime() {
  return performance.timeOrigin + performance.now();
}
