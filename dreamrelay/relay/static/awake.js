/** Keeps the screen on during a show; a browser that cannot, or may not, lets it go dark as ever. */

export class Awake {
  #wanted = false;
  /** @type {WakeLockSentinel | null} */
  #lock = null;
  #asking = false;

  constructor() {
    document.addEventListener("visibilitychange", () => this.#keep()); // a hidden page loses it
  }

  /** @param {boolean} wanted */
  want(wanted) {
    if (wanted === this.#wanted) return;
    this.#wanted = wanted;
    if (wanted) this.#keep();
    else this.#let();
  }

  #let() {
    this.#lock?.release();
    this.#lock = null;
  }

  async #keep() {
    if (!this.#wanted || document.hidden || this.#asking || (this.#lock && !this.#lock.released)) return;
    this.#asking = true;
    try {
      this.#lock = (await navigator.wakeLock?.request("screen")) ?? null;
    } catch (error) {
      console.debug("dreamrelay: the screen may go dark:", error); // an empty battery, say
    }
    this.#asking = false;
    if (!this.#wanted) this.#let();
  }
}
