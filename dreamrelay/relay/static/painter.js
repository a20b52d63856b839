/** Packets onto a canvas; and a picture by MJPEG where that is not to be had. */

import { SIDE, luminances } from "./flash.js";
import { Told, nowMs } from "./packet.js";
import { Relay, relayAddress } from "./rest.js";

/** @typedef {import("./packet.js").Packet} Packet */
/** @typedef {import("./packet.js").Track} Track */

/** Resolves when the browser is about to paint; while the tab is hidden it does not. @returns {Promise<number>} */
const nextPaint = () => new Promise((resolve) => requestAnimationFrame(resolve));

/**
 * Paints packets on a canvas, newest wins, and gives the credit back after the paint. In a hidden tab nothing is
 * painted, so no credit is given and no picture is sent.
 *
 * Events: `paint` (detail: the Packet that is now to be seen), `broken` (detail: {packet, error}).
 */
export class Painter extends EventTarget {
  /** What is on the canvas. @type {Packet | null} */
  packet = null;
  /** Holds flicker back, if there is one. @type {import("./flash.js").FlashGuard | null} */
  guard;
  /** @type {{ packet: Packet, done: () => void } | null} */
  #next = null;
  #working = false;
  #context;
  /** @type {OffscreenCanvasRenderingContext2D | CanvasRenderingContext2D | null} */
  #small = null;

  /**
   * @param {HTMLCanvasElement} canvas takes the size of the pictures; lay it out with CSS `object-fit`
   * @param {{ guard?: import("./flash.js").FlashGuard | null }} [options]
   */
  constructor(canvas, { guard = null } = {}) {
    super();
    this.canvas = canvas;
    this.guard = guard;
    this.#context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  }

  /**
   * Paint what a viewer is sent.
   * @param {import("./dreamrelay.js").Connection} viewer
   * @param {Track} [track]
   * @returns {this}
   */
  follow(viewer, track = "output") {
    viewer.addEventListener("packet", (event) => {
      const packet = /** @type {CustomEvent<Packet>} */ (event).detail;
      if (packet.track === track) this.offer(packet, () => viewer.give(track));
    });
    return this;
  }

  /**
   * Paint this unless a newer one comes first.
   * @param {Packet} packet
   * @param {() => void} done called once: it was painted, replaced or broken
   */
  offer(packet, done = () => {}) {
    this.#next?.done();
    this.#next = { packet, done };
    if (!this.#working) this.#work();
  }

  async #work() {
    this.#working = true;
    while (this.#next) {
      const { packet, done } = this.#next;
      this.#next = null;
      try {
        const bitmap = await createImageBitmap(new Blob([packet.data], { type: packet.type }));
        await nextPaint();
        this.#paint(bitmap, packet);
      } catch (error) {
        this.dispatchEvent(new Told("broken", { packet, error }));
      }
      done();
    }
    this.#working = false;
  }

  /** @param {ImageBitmap} bitmap @param {Packet} packet */
  #paint(bitmap, packet) {
    const { canvas, guard } = this;
    const context = this.#context;
    const share = guard ? guard.admit(this.#look(bitmap), nowMs()) : 1;
    if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
      canvas.width = bitmap.width;
      canvas.height = bitmap.height;
    } else if (share === 1) {
      context.clearRect(0, 0, canvas.width, canvas.height);
    }
    context.globalAlpha = share;
    context.drawImage(bitmap, 0, 0);
    context.globalAlpha = 1;
    guard?.showed(this.#look(share === 1 ? bitmap : canvas));
    bitmap.close();
    this.packet = packet;
    this.dispatchEvent(new Told("paint", packet));
  }

  /** @param {ImageBitmap | HTMLCanvasElement} picture @returns {Float32Array} luminance of its cells */
  #look(picture) {
    if (!this.#small) {
      const canvas = Object.assign(document.createElement("canvas"), { width: SIDE, height: SIDE });
      this.#small = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));
    }
    this.#small.drawImage(picture, 0, 0, SIDE, SIDE);
    return luminances(this.#small.getImageData(0, 0, SIDE, SIDE).data);
  }
}

const HOPELESS = 3; // attempts of the WebSocket, or pictures that cannot be decoded
const RETRY_MS = 2000;

/**
 * The pictures as MJPEG, over the canvas, while no WebSocket gets through or this browser cannot decode what comes
 * there; a packet that is painted ends it. No flash guard, no age, no revision: it is a picture, and no more.
 *
 * Event: `change`.
 */
export class Fallback extends EventTarget {
  /** The picture's element while it is in use. @type {HTMLImageElement | null} */
  image = null;
  #canvas;
  #address;
  /** Whether the relay would answer at all, and not refuse. @type {() => Promise<boolean>} */
  #welcome;
  #asking = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #retry;

  /**
   * @param {Painter} painter
   * @param {import("./dreamrelay.js").Connection} viewer
   * @param {Track} [track]
   * @param {{ relay?: string | URL, token?: string }} [options] as of the viewer
   */
  constructor(painter, viewer, track = "output", { relay, token } = {}) {
    super();
    this.#canvas = painter.canvas;
    this.#address = relayAddress(`streams/${encodeURIComponent(viewer.stream)}/mjpeg?track=${track}`, relay);
    this.#address.protocol = this.#address.protocol.replace("ws", "http");
    if (token) this.#address.searchParams.set("token", token);
    const http = new Relay({ relay, token });
    this.#welcome = () => http.stream(viewer.stream).then(() => true, ({ status }) => status === 404); // it will be made
    let broken = 0;
    viewer.addEventListener("state", () => {
      if (viewer.state === "waiting" && viewer.welcome === null && viewer.failures >= HOPELESS) this.#begin();
    });
    painter.addEventListener("broken", () => {
      if (++broken >= HOPELESS) this.#begin();
    });
    painter.addEventListener("paint", () => {
      broken = 0;
      this.#end();
    });
  }

  async #begin() {
    if (this.image || this.#asking) return;
    this.#asking = true;
    const welcome = await this.#welcome();
    this.#asking = false;
    if (!welcome || this.image) return;
    const image = (this.image = new Image());
    image.alt = "";
    image.className = "fallback";
    image.onload = () => this.dispatchEvent(new Event("change"));
    image.onerror = () => {
      this.#retry = setTimeout(() => this.#load(), RETRY_MS);
      this.dispatchEvent(new Event("change"));
    };
    this.#canvas.after(image);
    this.#load();
  }

  #load() {
    this.#address.searchParams.set("again", String(Math.round(nowMs())));
    if (this.image) this.image.src = this.#address.href;
  }

  /** Whether its pictures are to be seen. */
  get shown() {
    return (this.image?.naturalWidth ?? 0) > 0;
  }

  #end() {
    if (!this.image) return;
    clearTimeout(this.#retry);
    this.image.onload = this.image.onerror = null;
    this.image.src = "";
    this.image.remove();
    this.image = null;
    this.dispatchEvent(new Event("change"));
  }
}
