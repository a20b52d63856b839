/**
 * dreamrelay.js: view the pictures of a relay, send it pictures, change parameters. No dependencies.
 *
 *     import { Connection, Painter, Parameters } from "http://127.0.0.1:8765/static/dreamrelay.js";
 *     const viewer = new Connection({ stream: "default", role: "viewer" });
 *     new Painter(document.querySelector("canvas")).follow(viewer);
 *     const parameters = new Parameters(viewer);
 *     parameters.set({ prompt: "watercolor" });
 *
 * The relay is the one this module was loaded from, unless `relay` says another. Without a DOM (Node 22 and newer)
 * there are Connection, Parameters, Relay and the packets. docs/embedding.md shows how, docs/protocol.md has the
 * protocol byte by byte. The studio uses nothing but this, so your page can do what the studio can.
 *
 * @module dreamrelay
 */

import { ClockEstimate } from "./clock.js";
import { PROTOCOL_VERSION, Told, decodePacket, encodePacket, nowMs } from "./packet.js";
import { RelayError, relayAddress } from "./rest.js";

export { CODECS, HOPS, PROTOCOL_VERSION, TRACKS, decodePacket, encodePacket, nowMs, nowNs } from "./packet.js";
export { Relay, RelayError } from "./rest.js";
export { FlashGuard } from "./flash.js";
export { Fallback, Painter } from "./painter.js";
export { Publisher } from "./publisher.js";

/** @typedef {import("./packet.js").Packet} Packet */
/** @typedef {import("./packet.js").Outgoing} Outgoing */
/** @typedef {import("./packet.js").Stamp} Stamp */
/** @typedef {import("./packet.js").Track} Track */

const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 8000;
const PING_MS = 4000;
const LATEST_MS = 100; // for changes that wait for an animation frame
const SILENCE_MS = 12000; // the relay says its status once a second, so this long is a dead line

/**
 * One role of one stream, kept up: it reconnects by itself, with growing, jittered pauses.
 *
 * Events, each with its facts in `detail`: `state` {state, retryAt, code, reason}; `packet` (Packet); and one for
 * each of the relay's messages under its own name: `welcome`, `schema`, `parameters`, `status`, `ack`, `error`, ...
 */
export class Connection extends EventTarget {
  /** @type {"connecting" | "open" | "waiting" | "closed"} */
  state = "connecting";
  /** When the next attempt is due (as of {@link nowMs}), in state "waiting". */
  retryAt = 0;
  /** Round trip in milliseconds of the last ping. @type {number | null} */
  roundTrip = null;
  /** Producer: how many pictures may be sent now. */
  credits = 0;
  /** The relay's first words. @type {Record<string, any> | null} */
  welcome = null;
  /** Attempts that failed since it last was open. */
  failures = 0;

  #options;
  /** @type {WebSocket | null} */
  #socket = null;
  #heard = 0;
  #ticked = 0;
  #nextId = 1;
  #self = Math.random().toString(36).slice(2, 10); // answers to patches go to everybody: ours must be known as ours
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #retry;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #pings;
  /** @type {Map<string, { resolve: (m: any) => void, reject: (e: RelayError) => void }>} */
  #asked = new Map();
  /** @type {Map<number, number>} */
  #pinged = new Map();
  #clock = new ClockEstimate();
  #onOnline = () => this.retryNow();

  /**
   * @param {object} options
   * @param {string} [options.stream] "default" if not given
   * @param {"viewer" | "producer" | "worker"} [options.role] "viewer" if not given
   * @param {Track | "both"} [options.track] viewer: which pictures; "output" if not given
   * @param {number} [options.credit] viewer: how many pictures may be under way; 1 if not given
   * @param {string} [options.token] said as the first message; not needed where a ready link left a cookie
   * @param {string} [options.name] for the relay's list of peers
   * @param {string | URL} [options.relay] its address (http or ws); where this module came from, if not given
   * @param {typeof WebSocket} [options.WebSocket] for surroundings that have none
   */
  constructor(options = {}) {
    super();
    this.#options = { stream: "default", role: "viewer", ...options };
    globalThis.addEventListener?.("online", this.#onOnline);
    this.#connect();
  }

  get stream() {
    return this.#options.stream;
  }

  get role() {
    return this.#options.role;
  }

  /**
   * What is to be added to {@link nowMs} to have the relay's clock, and how far that may be off, in ms; null until
   * known. Clocks that may agree are taken to agree: that is 0.
   */
  get clock() {
    const known = this.#clock.at(performance.now());
    if (!known) return null;
    const offset = known.offset - (nowMs() - performance.now());
    return Math.abs(offset) <= known.error ? { offset: 0, error: known.error + Math.abs(offset) } : { offset, error: known.error };
  }

  /** The relay's clock minus ours in ms; null until known. @returns {number | null} */
  get clockOffset() {
    return this.clock?.offset ?? null;
  }

  /** Where the WebSocket goes. */
  get address() {
    const { stream, role, relay, track, credit, token } = this.#options;
    const address = relayAddress(`streams/${encodeURIComponent(stream)}/${role}`, relay);
    address.protocol = address.protocol.replace("http", "ws");
    if (role === "viewer" && track) address.searchParams.set("track", track);
    if (role === "viewer" && credit !== undefined) address.searchParams.set("credit", String(credit));
    if (token) address.searchParams.set("auth", "first"); // addresses end up in logs, messages do not
    return address;
  }

  /** Try again at once instead of waiting. */
  retryNow() {
    if (this.state !== "waiting") return;
    clearTimeout(this.#retry);
    this.#connect();
  }

  /** Leave for good. */
  close() {
    globalThis.removeEventListener?.("online", this.#onOnline);
    clearTimeout(this.#retry);
    this.#drop();
    this.#become("closed");
  }

  /** A socket that is closing is no longer written to, though its `close` has not come yet. */
  get #writable() {
    return this.state === "open" && this.#socket?.readyState === 1;
  }

  /**
   * Send a control message.
   * @param {Record<string, any>} message
   * @returns {boolean} whether there was a connection to send it on
   */
  say(message) {
    if (!this.#writable) return false;
    this.#socket?.send(JSON.stringify(message));
    return true;
  }

  /**
   * Viewer: one more picture may come.
   * @param {Track} [track]
   */
  give(track) {
    this.say({ type: "credit", count: 1, ...(track && { track }) });
  }

  /**
   * Producer: send a picture. Each costs a credit and an `ack` brings it back, so look at {@link credits} first.
   * @param {Outgoing} packet
   * @returns {boolean} false: nothing was sent, there is no credit or no connection
   */
  send(packet) {
    if (!this.#writable || this.credits < 1) return false;
    this.credits -= 1;
    this.#socket?.send(encodePacket(packet));
    return true;
  }

  /**
   * Change parameters: all of the patch, or nothing of it.
   * @param {Record<string, unknown>} patch
   * @returns {Promise<{ values: Record<string, any>, revision: number }>} what holds now
   * @throws {RelayError} `problems` says what was wrong with which value
   */
  patch(patch) {
    return new Promise((resolve, reject) => {
      const id = `${this.#self}-${this.#nextId++}`;
      if (!this.say({ type: "parameters", patch, id })) {
        reject(new RelayError("closed", "there is no connection to the relay"));
        return;
      }
      this.#asked.set(id, { resolve, reject });
    });
  }

  #connect() {
    this.#become("connecting");
    const Socket = this.#options.WebSocket ?? globalThis.WebSocket;
    if (!Socket) throw new TypeError("expected the option `WebSocket`: there is none here (Node has one from 22 on)");
    const socket = new Socket(this.address);
    socket.binaryType = "arraybuffer";
    const { token } = this.#options;
    if (token) socket.onopen = () => socket.send(JSON.stringify({ type: "auth", token }));
    socket.onmessage = (event) => this.#receive(event.data);
    socket.onclose = (event) => this.#lost(event.code, event.reason);
    this.#socket = socket;
    this.#pings = setInterval(() => this.#tick(), PING_MS);
    this.#heard = this.#ticked = nowMs();
  }

  #drop() {
    clearInterval(this.#pings);
    const socket = this.#socket;
    this.#socket = null;
    if (socket) {
      socket.onmessage = socket.onclose = null;
      socket.close();
    }
    this.credits = 0;
    for (const { reject } of this.#asked.values()) {
      reject(new RelayError("closed", "the connection went before the relay answered"));
    }
    this.#asked.clear();
    this.#pinged.clear();
  }

  /** @param {number} code @param {string} reason */
  #lost(code, reason) {
    this.#drop();
    const pause = Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** this.failures++);
    const wait = pause * (0.5 + Math.random() / 2);
    this.retryAt = nowMs() + wait;
    this.#retry = setTimeout(() => this.#connect(), wait);
    this.#become("waiting", { code, reason });
  }

  /** @param {Connection["state"]} state @param {{ code?: number, reason?: string }} [why] */
  #become(state, why = {}) {
    this.state = state;
    this.dispatchEvent(new Told("state", { state, retryAt: this.retryAt, ...why }));
  }

  #tick() {
    const now = nowMs();
    const punctual = now - this.#ticked < 2 * PING_MS; // in a hidden tab timers sleep: silence means nothing then
    this.#ticked = now;
    if (punctual && now - this.#heard > SILENCE_MS) {
      this.#lost(1006, "the relay fell silent");
      return;
    }
    this.#ping();
  }

  #ping() {
    const id = this.#nextId++;
    this.#pinged.clear();
    this.#pinged.set(id, performance.now()); // a clock that nobody sets
    this.say({ type: "ping", id });
  }

  /** @param {string | ArrayBuffer} data */
  #receive(data) {
    this.#heard = nowMs();
    try {
      if (typeof data === "string") this.#hear(JSON.parse(data));
      else this.dispatchEvent(new Told("packet", { ...decodePacket(data), arrivedMs: this.#heard }));
    } catch (error) {
      console.error("dreamrelay: a message was left out:", error); // it costs itself, not the connection
    }
  }

  /** @param {Record<string, any>} message */
  #hear(message) {
    if (message.type === "welcome") this.#welcomed(message);
    else if (message.type === "ack") this.credits += 1;
    else if (message.type === "pong") this.#ponged(message);
    const asked = this.#asked.get(message.id);
    if (asked && (message.type === "parameters" || message.type === "error")) {
      this.#asked.delete(message.id);
      if (message.type === "parameters") asked.resolve(message);
      else asked.reject(new RelayError(message.code, message.message, message.problems ?? {}));
    }
    this.dispatchEvent(new Told(message.type, message));
  }

  /** @param {Record<string, any>} message */
  #welcomed(message) {
    this.failures = 0;
    this.welcome = message;
    this.credits = message.credit ?? 0;
    this.#clock = new ClockEstimate();
    this.#become("open");
    if (this.#options.name) this.say({ type: "hello", version: PROTOCOL_VERSION, name: this.#options.name });
    this.#ping();
  }

  /** @param {Record<string, any>} message */
  #ponged(message) {
    const sent = this.#pinged.get(message.id);
    if (sent === undefined || typeof message.received_ns !== "number") return;
    const back = performance.now();
    this.roundTrip = back - sent;
    this.#clock.add(sent, message.received_ns / 1e6, back);
    const known = this.clock;
    if (known) this.say({ type: "clock", offset_ns: Math.round(known.offset * 1e6), error_ns: Math.ceil(known.error * 1e6) });
  }
}

/**
 * The stream's parameters, as they hold, and the changes that are on their way.
 *
 * A change is `waiting` until it can be sent (once per animation frame; while there is no relay: later), `sent`
 * until the relay answers, then `refused` (see {@link problems}), or `accepted` until a picture made under it was
 * seen. Event `change` after each step.
 */
export class Parameters extends EventTarget {
  /** @type {Record<string, any> | null} */
  schema = null;
  /** @type {Record<string, any>} */
  values = {};
  revision = 0;
  /** @type {Map<string, { value: unknown, stage: "waiting" | "sent" | "accepted" | "refused", revision: number }>} */
  pending = new Map();
  /** What the relay said against a value; it stays until another is accepted. @type {Map<string, string>} */
  problems = new Map();

  #connection;
  /** Its turn, while one is scheduled. @type {object | null} */
  #scheduled = null;

  /** @param {Connection} connection */
  constructor(connection) {
    super();
    this.#connection = connection;
    connection.addEventListener("schema", (event) => {
      this.schema = /** @type {CustomEvent} */ (event).detail.schema;
      this.#changed();
    });
    connection.addEventListener("parameters", (event) => {
      const { values, revision } = /** @type {CustomEvent} */ (event).detail;
      if (revision < this.revision) this.settle(); // a relay that began anew counts anew
      this.values = values;
      this.revision = revision;
      this.#changed();
    });
    connection.addEventListener("welcome", () => this.#schedule());
  }

  /** The value as the user should see it: the pending one if there is one. @param {string} name */
  value(name) {
    const pending = this.pending.get(name);
    return pending ? pending.value : this.values[name];
  }

  /** Change parameters; what is said within one frame goes out as one patch. @param {Record<string, unknown>} patch */
  set(patch) {
    for (const [name, value] of Object.entries(patch)) {
      this.pending.set(name, { value, stage: "waiting", revision: 0 });
    }
    this.#changed();
    this.#schedule();
  }

  /** Forget a change that was refused. @param {string} name */
  forget(name) {
    this.problems.delete(name);
    this.pending.delete(name);
    this.#changed();
  }

  /** A picture made under this revision was seen. @param {number} revision */
  seen(revision) {
    this.#settle((change) => change.revision <= revision);
  }

  /** No picture will come that could show the accepted changes; take them as done. */
  settle() {
    this.#settle(() => true);
  }

  /** @param {(change: { revision: number }) => boolean} done */
  #settle(done) {
    let any = false;
    for (const [name, change] of this.pending) {
      if (change.stage === "accepted" && done(change)) any = this.pending.delete(name);
    }
    if (any) this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }

  /** Once per animation frame; and where none comes (the tab was just hidden), soon. */
  #schedule() {
    if (this.#scheduled) return;
    const turn = (this.#scheduled = {});
    const flush = () => {
      if (this.#scheduled !== turn) return;
      this.#scheduled = null;
      this.#flush();
    };
    const painted = typeof requestAnimationFrame === "function" && !document.hidden;
    if (painted) requestAnimationFrame(flush);
    setTimeout(flush, painted ? LATEST_MS : 16);
  }

  async #flush() {
    if (this.#connection.state !== "open") return;
    const changes = [...this.pending].filter(([, { stage }]) => stage === "waiting");
    if (changes.length === 0) return;
    for (const [, change] of changes) change.stage = "sent";
    this.#changed();
    try {
      const { revision } = await this.#connection.patch(Object.fromEntries(changes.map(([name, { value }]) => [name, value])));
      for (const [name, change] of changes) {
        Object.assign(change, { stage: "accepted", revision });
        this.problems.delete(name);
      }
    } catch (error) {
      this.#refused(changes, /** @type {RelayError} */ (error));
    }
    this.#changed();
  }

  /** @param {[string, { stage: string }][]} changes @param {RelayError} error */
  #refused(changes, error) {
    const guilty = new Set(changes.map(([name]) => name).filter((name) => name in error.problems));
    for (const [name, change] of changes) {
      change.stage = "waiting";
      if (error.code === "closed" || this.pending.get(name) !== change) continue;
      // A patch holds as a whole or not at all; what nothing is said against is sent again without the rest.
      if (guilty.size > 0 && !guilty.has(name)) continue;
      change.stage = "refused";
      this.problems.set(name, error.problems[name] ?? error.message);
    }
    if (error.code !== "closed" && guilty.size > 0) this.#schedule();
  }
}
