/** Whether somebody speaks, by the level of the sound. No DOM here. */

const BEGIN_RATIO = 3; // over the room's noise
const END_RATIO = 1.8;
const QUIETEST = 0.01; // of full scale; below it nobody speaks to a microphone
const SHORTEST_MS = 250;
const PAUSE_MS = 700;
const LONGEST_MS = 15_000;

export class VoiceDetector {
  #noise = QUIETEST;
  /** @type {number | null} */
  #began = null;
  #heard = 0;

  get speaking() {
    return this.#began !== null;
  }

  /**
   * @param {number} level root mean square of a short piece, 0 to 1
   * @param {number} now milliseconds
   * @returns {"begin" | "end" | "nothing" | null} nothing: it was too short to have been words
   */
  hear(level, now) {
    if (this.#began === null) {
      // The noise is followed down at once and up slowly: words are not noise, a fan that is switched on is.
      this.#noise = level < this.#noise ? level : this.#noise + (level - this.#noise) * 0.02;
      if (level < Math.max(QUIETEST, this.#noise * BEGIN_RATIO)) return null;
      this.#began = this.#heard = now;
      return "begin";
    }
    if (level > Math.max(QUIETEST * 0.7, this.#noise * END_RATIO)) this.#heard = now;
    if (now - this.#heard < PAUSE_MS && now - this.#began < LONGEST_MS) return null;
    const long = this.#heard - this.#began;
    this.#began = null;
    return long >= SHORTEST_MS ? "end" : "nothing";
  }
}
