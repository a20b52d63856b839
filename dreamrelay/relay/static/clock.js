/** How far another machine's clock is ahead of ours, and how well that is known: as `dreamrelay/clock.py`, in ms. */

const DRIFT = 100e-6; // that two quartzes may drift apart
const KEEP = 16;

/**
 * Out of pings. Whatever the ways took, the other clock was ahead by something between what it said minus when the
 * answer was here and minus when the ping left. The truth lies in all of these bounds, which widen with their age.
 */
export class ClockEstimate {
  /** @type {{ sent: number, least: number, most: number }[]} */
  #pings = [];

  /** @param {number} sent when it left, our clock @param {number} theirs @param {number} back when the answer was here */
  add(sent, theirs, back) {
    const [least, most] = [theirs - back, theirs - sent];
    if (least > most) return;
    const [from, to] = this.#common(back);
    const wider = (back - sent) * DRIFT;
    if (least - wider > to || most + wider < from) this.#pings = []; // a clock was set
    this.#pings = [...this.#pings.slice(1 - KEEP), { sent, least, most }];
  }

  /**
   * What is known at that moment of our clock; null before the first ping.
   * @param {number} now
   * @returns {{ offset: number, error: number } | null}
   */
  at(now) {
    if (this.#pings.length === 0) return null;
    const [from, to] = this.#common(now);
    return { offset: (from + to) / 2, error: (to - from) / 2 };
  }

  /** @param {number} now @returns {[number, number]} */
  #common(now) {
    const wider = (/** @type {number} */ sent) => Math.max(0, now - sent) * DRIFT;
    return [
      Math.max(-Infinity, ...this.#pings.map(({ sent, least }) => least - wider(sent))),
      Math.min(Infinity, ...this.#pings.map(({ sent, most }) => most + wider(sent))),
    ];
  }
}
