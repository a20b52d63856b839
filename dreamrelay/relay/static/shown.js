/** The relay's figures end where it sends a picture; who shows it says how it fared from there to the eye. */

import { HOPS, nowMs } from "./dreamrelay.js";

const TELL_MS = 1000;
const MOST = 60; // pictures of which one message tells

/** Tells the relay once a second; while nobody knows the relay's clock it tells nothing. */
export class Shown {
  #connection;
  #where;
  /** Milliseconds from the relay, from there to the eye, and in all. @type {(number | null)[][]} */
  #pictures = [];
  #toldMs = 0;

  /** @param {import("./dreamrelay.js").Connection} connection @param {string} where a word for the figures: "studio" */
  constructor(connection, where) {
    this.#connection = connection;
    this.#where = where;
  }

  /** It has just been painted. What is no whole result does not count. @param {import("./dreamrelay.js").Packet} packet */
  add(packet) {
    if (packet.preview || packet.standIn) return;
    const [now, clock] = [nowMs(), this.#connection.clock];
    if (!clock) return;
    const arrived = packet.arrivedMs ?? now;
    const returned = packet.stamps.find(({ hop }) => hop === HOPS.RETURNED);
    const delivered = returned ? arrived + clock.offset - Number(returned.ns) / 1e6 : null;
    this.#pictures.push([delivered, now - arrived, now + clock.offset - Number(packet.capturedNs) / 1e6]);
    if (now - this.#toldMs < TELL_MS && this.#pictures.length < MOST) return;
    this.#connection.say({ type: "shown", where: this.#where, pictures: this.#pictures });
    this.#pictures = [];
    this.#toldMs = now;
  }

  /** What was painted has no age. */
  forget() {
    this.#pictures = [];
  }
}
