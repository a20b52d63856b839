/** Pictures of a page, sent to a stream: taken, encoded off the main thread, and sent while there is credit. */

import { cover } from "./encoder.js";
import { HOPS, nowMs, nowNs } from "./packet.js";

const LONGEST = 512; // pixels of the longer side while nobody says what is wanted
const STILL_MS = 80;
const MOVING_MS = 33;
const REMEMBERED = 300;

/** A page of another origin may not run the relay's worker, but one of its own that imports it. @param {URL} address */
function makeWorker(address) {
  if (address.origin === location.origin) return new Worker(address, { type: "module" });
  const own = URL.createObjectURL(new Blob([`import "${address.href}";`], { type: "text/javascript" }));
  return new Worker(own, { type: "module" });
}

/** JPEG off the main thread; where workers cannot draw, on it. */
class Encoder {
  /** @type {Worker | null} */
  #worker = null;
  /** @type {HTMLCanvasElement | null} */
  #canvas = null;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #clock;
  /** @type {(() => void) | null} */
  ontick = null;
  /** @type {((answer: any) => void) | null} */
  #answered = null;

  constructor() {
    if (typeof OffscreenCanvas === "undefined") {
      this.#canvas = document.createElement("canvas");
      return;
    }
    this.#worker = makeWorker(new URL("encoder.js", import.meta.url));
    this.#worker.onmessage = ({ data }) => {
      if (data.tick) this.ontick?.();
      else this.#answered?.(data);
    };
  }

  /** Call `ontick` so often, also in a hidden tab; 0 stops. @param {number} every milliseconds */
  tick(every) {
    if (this.#worker) this.#worker.postMessage({ every });
    else {
      clearInterval(this.#clock);
      if (every > 0) this.#clock = setInterval(() => this.ontick?.(), every);
    }
  }

  /**
   * @param {ImageBitmap} bitmap is closed
   * @param {number} width @param {number} height @param {boolean} mirror
   * @param {number} quality 0 to 1
   * @returns {Promise<Uint8Array<ArrayBuffer>>}
   */
  async encode(bitmap, width, height, mirror, quality) {
    if (this.#canvas) {
      Object.assign(this.#canvas, { width, height });
      cover(/** @type {CanvasRenderingContext2D} */ (this.#canvas.getContext("2d")), bitmap, width, height, mirror);
      bitmap.close();
      const canvas = this.#canvas;
      /** @type {Blob | null} */
      const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", quality));
      if (!blob) throw new Error("the browser could not encode the picture");
      return new Uint8Array(await blob.arrayBuffer());
    }
    const { jpeg, error } = await new Promise((resolve) => {
      this.#answered = resolve;
      this.#worker?.postMessage({ bitmap, width, height, mirror, quality }, [bitmap]);
    });
    if (error) throw new Error(error);
    return new Uint8Array(jpeg);
  }
}

/** @typedef {HTMLVideoElement | HTMLCanvasElement | ImageBitmap} Eye What is looked at. */

/**
 * Sends what an element shows. A picture leaves only while the relay has credit for it, and a newer one takes the
 * place of one that waits; never more than one is being encoded.
 */
export class Publisher {
  mirror = false;
  /** Of the JPEG, 0 to 1. */
  quality;
  /** Draws the next picture, where the eye is a canvas that has to be asked. @type {((capturedNs: bigint) => void) | null} */
  ondraw = null;

  #size;
  /** @type {import("./dreamrelay.js").Connection | null} */
  #connection = null;
  /** @type {Encoder | null} */
  #encoder = null;
  /** @type {Eye | null} */
  #eye = null;
  /** The newest picture that has not been sent: when it was taken, and when we got it. @type {{ capturedNs: bigint, seenMs: number } | null} */
  #fresh = null;
  #encoding = false;
  #paced = 0;
  #count = 0;
  /** When we got the pictures that we sent, by when they were taken (relay's clock). @type {Map<bigint, number>} */
  #sent = new Map();

  /** @param {{ size?: () => ({ width: number, height: number } | null), quality?: number }} [options] size: what is wanted */
  constructor({ size = () => null, quality = 0.85 } = {}) {
    this.#size = size;
    this.quality = quality;
    globalThis.document?.addEventListener("visibilitychange", () => this.#pace());
  }

  /** When this page got the picture that was taken then ({@link nowMs}); undefined: it is not one of ours. @param {bigint} capturedNs */
  seenAt(capturedNs) {
    return this.#sent.get(capturedNs);
  }

  /** Send over this connection (role "producer") from now on; it stays yours to close. @param {import("./dreamrelay.js").Connection | null} connection */
  join(connection) {
    this.#connection = connection;
    connection?.addEventListener("welcome", () => this.#pump());
    connection?.addEventListener("ack", () => this.#pump());
  }

  /** Look at this from now on; null: at nothing. @param {Eye | null} eye */
  watch(eye) {
    this.#eye = eye;
    this.#fresh = null;
    if (eye) {
      this.#encoder ??= new Encoder();
      this.#encoder.ontick = () => this.#see(nowNs());
      this.#pace();
    } else this.#encoder?.tick(0);
  }

  /** Follow the video's own pictures while the tab is seen, and a clock where there are none. */
  #pace() {
    const eye = this.#eye;
    if (!eye || !this.#encoder) return;
    const follows = eye instanceof HTMLVideoElement && "requestVideoFrameCallback" in eye && !document.hidden;
    this.#encoder.tick(follows ? 0 : eye instanceof ImageBitmap ? STILL_MS : MOVING_MS);
    if (!follows) return;
    const pace = ++this.#paced;
    const next = (/** @type {number} */ now, /** @type {VideoFrameCallbackMetadata} */ { captureTime }) => {
      if (this.#eye !== eye || pace !== this.#paced || document.hidden) return;
      eye.requestVideoFrameCallback(next);
      const ago = captureTime === undefined ? 0 : performance.now() - captureTime;
      this.#see(BigInt(Math.round((nowMs() - (ago > 0 && ago < 1000 ? ago : 0)) * 1000)) * 1000n);
    };
    eye.requestVideoFrameCallback(next);
  }

  /** @param {bigint} capturedNs */
  #see(capturedNs) {
    this.#fresh = { capturedNs, seenMs: nowMs() };
    this.#pump();
  }

  async #pump() {
    const [eye, connection, fresh] = [this.#eye, this.#connection, this.#fresh];
    if (!eye || !connection || !this.#encoder || fresh === null || this.#encoding || connection.credits < 1) return;
    const { capturedNs, seenMs } = fresh;
    this.#fresh = null;
    this.#encoding = true;
    try {
      this.ondraw?.(capturedNs);
      const bitmap = await createImageBitmap(eye);
      const { width, height } = this.#size() ?? within(bitmap.width, bitmap.height);
      const data = await this.#encoder.encode(bitmap, width, height, this.mirror, this.quality);
      const ahead = BigInt(Math.round((connection.clockOffset ?? 0) * 1000)) * 1000n; // the wire has the relay's clock
      const sent = capturedNs + ahead;
      const stamps = [{ hop: HOPS.ENCODED, ns: nowNs() + ahead }];
      if (connection.send({ data, width, height, capturedNs: sent, stamps, seq: this.#count++ })) this.#remember(sent, seenMs);
    } catch (error) {
      // A camera between two sizes, or a source that has just ended: the next picture will do.
      if (this.#eye === eye) console.debug("dreamrelay: a picture was left out:", error);
    } finally {
      this.#encoding = false;
    }
    this.#pump();
  }

  /** @param {bigint} capturedNs @param {number} seenMs */
  #remember(capturedNs, seenMs) {
    this.#sent.set(capturedNs, seenMs);
    for (const oldest of this.#sent.keys()) {
      if (this.#sent.size <= REMEMBERED) break;
      this.#sent.delete(oldest);
    }
  }
}

/** @param {number} width @param {number} height the size to send at when nobody asks for one */
function within(width, height) {
  const scale = Math.min(1, LONGEST / Math.max(width, height));
  const even = (/** @type {number} */ n) => Math.max(2, 2 * Math.round((n * scale) / 2));
  return { width: even(width), height: even(height) };
}
