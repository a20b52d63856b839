/** What a relay says and takes over plain HTTP; and what it refuses. */

/** What the relay refused, or that the connection went before it answered (`code` is then "closed"). */
export class RelayError extends Error {
  /**
   * @param {string} code @param {string} message @param {Record<string, string>} [problems]
   * @param {number} [status] of the HTTP answer; 0: there was none
   */
  constructor(code, message, problems = {}, status = 0) {
    super(message);
    this.name = "RelayError";
    this.code = code;
    this.problems = problems;
    this.status = status;
  }
}

/** Where something of the relay is. @param {string} path @param {string | URL} [relay] where this module came from, if not given */
export function relayAddress(path, relay) {
  const base = relay ?? new URL("../", import.meta.url);
  if (/^(https?|wss?):\/\//.test(String(base))) return new URL(path, base);
  throw new TypeError(relay ? `expected http://HOST:PORT/ as relay, got ${relay}` : "expected the option `relay`: this module came from no relay");
}

/**
 * @typedef {object} Heard
 * @property {string} text
 * @property {number} confidence 0 to 1
 * @property {{ name: string, text: string, number: number | null }} [action] a prompt, unless it is a command
 */

/** The relay's HTTP side. */
export class Relay {
  #token;
  #relay;

  /** @param {{ relay?: string | URL, token?: string }} [options] as for a Connection */
  constructor({ relay, token } = {}) {
    this.#relay = relay && String(relay).replace(/^ws/, "http");
    this.#token = token;
  }

  /** @param {string} path below the relay's address; the token is not in it @returns {URL} */
  address(path) {
    return relayAddress(path, this.#relay);
  }

  /** All streams, each with its `status`. @returns {Promise<Record<string, any>[]>} */
  async streams() {
    return (await this.#ask("streams")).streams;
  }

  /** One stream: its `status`, `parameters` and `revision`. @param {string} stream @returns {Promise<Record<string, any>>} */
  async stream(stream) {
    return this.#ask(`streams/${encodeURIComponent(stream)}`);
  }

  /** Where the time of its pictures goes: `hops`, `age`, `shown`, `clocks`. @param {string} stream @returns {Promise<Record<string, any>>} */
  async latency(stream) {
    return this.#ask(`streams/${encodeURIComponent(stream)}/latency`);
  }

  /** The last picture of a track. @param {string} stream @param {import("./packet.js").Track} [track] @returns {Promise<Blob>} */
  async snapshot(stream, track = "output") {
    const reply = await this.#fetch(`streams/${encodeURIComponent(stream)}/snapshot.jpg?track=${track}`);
    return reply.blob();
  }

  /** The picture that another one is to look like. @param {string} stream @returns {Promise<Blob>} */
  async reference(stream) {
    return (await this.#fetch(`streams/${encodeURIComponent(stream)}/reference`)).blob();
  }

  /** Have what is made look like this picture. @param {string} stream @param {Blob} picture */
  async setReference(stream, picture) {
    const headers = { "Content-Type": picture.type || "application/octet-stream" };
    await this.#fetch(`streams/${encodeURIComponent(stream)}/reference`, { method: "PUT", body: picture, headers });
  }

  /** @param {string} stream */
  async clearReference(stream) {
    await this.#fetch(`streams/${encodeURIComponent(stream)}/reference`, { method: "DELETE" });
  }

  /**
   * Choose what is shown while no results come; what is not named stays as it is.
   * @param {string} stream
   * @param {{ when_lost?: string, hold_seconds?: number }} choice seconds that the last picture is held for at first
   * @returns {Promise<{ when_lost: string, hold_seconds: number }>} what is chosen now
   */
  async fallBack(stream, choice) {
    const request = { method: "PATCH", body: JSON.stringify(choice), headers: { "Content-Type": "application/json" } };
    return this.#ask(`streams/${encodeURIComponent(stream)}/when-lost`, request);
  }

  /**
   * What was said, in the words that the stream's model knows, and what it asks for.
   * @param {string} stream
   * @param {Blob} recording WebM/Opus, Ogg, MP4 or WAV
   * @returns {Promise<Heard>}
   */
  async transcribe(stream, recording) {
    const request = { method: "POST", body: recording, headers: { "Content-Type": recording.type } };
    return this.#ask(`streams/${encodeURIComponent(stream)}/speech`, request);
  }

  /** Whether the relay listens (`state`: off, idle, loading, ready, failed), and how far its loading is. @returns {Promise<Record<string, any>>} */
  async speech() {
    return this.#ask("speech");
  }

  /** Have it get ready to listen. */
  async loadSpeech() {
    await this.#fetch("speech/load", { method: "POST" });
  }

  /** @param {string} path @param {RequestInit} [request] @returns {Promise<any>} */
  async #ask(path, request) {
    return (await this.#fetch(path, { ...request, headers: { Accept: "application/json", ...request?.headers } })).json();
  }

  /** @param {string} path @param {RequestInit} [request] @returns {Promise<Response>} */
  async #fetch(path, request = {}) {
    const headers = new Headers(request.headers);
    if (this.#token) headers.set("Authorization", `Bearer ${this.#token}`);
    let reply;
    try {
      reply = await fetch(this.address(path), { ...request, headers });
    } catch {
      throw new RelayError("closed", "the relay does not answer");
    }
    if (reply.ok) return reply;
    const { code, message, problems } = (await reply.json().catch(() => ({}))).error ?? {};
    throw new RelayError(code ?? "http", message ?? `the relay answered ${reply.status}`, problems, reply.status);
  }
}
