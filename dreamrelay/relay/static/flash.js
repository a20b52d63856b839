/**
 * A limiter of flicker for photosensitive viewers, after WCAG 2.3.1: more than three general flashes in any second
 * (pairs of opposing changes of relative luminance by a tenth or more, the darker side below 0.8, over a quarter of
 * the picture) are not to be shown. Saturated red is not looked at separately. No DOM here.
 */

export const SIDE = 16; // a picture is looked at as SIDE x SIDE cells
const CELLS = SIDE * SIDE;
const CHANGE = 0.1;
const DARKER = 0.8;
const AREA = 0.25;
const WINDOW_MS = 1000;
const TOLERATED = 3; // opposing changes in a window before it steps in: one flash and a half

/** In a half period of the slowest flicker that counts (3 Hz), luminance may move by less than a change. */
const SLEW = (0.9 * CHANGE) / (1000 / 6); // per ms

/** Luminance of sRGB's 256 levels. */
const LINEAR = Float32Array.from({ length: 256 }, (_, i) => (i / 255 <= 0.04045 ? i / 255 / 12.92 : ((i / 255 + 0.055) / 1.055) ** 2.4));

/** Relative luminance, 0 to 1, of each pixel. @param {Uint8ClampedArray | Uint8Array} rgba @returns {Float32Array} */
export function luminances(rgba) {
  const light = new Float32Array(rgba.length / 4);
  for (let i = 0, at = 0; i < light.length; i++, at += 4) {
    light[i] = 0.2126 * LINEAR[rgba[at]] + 0.7152 * LINEAR[rgba[at + 1]] + 0.0722 * LINEAR[rgba[at + 2]];
  }
  return light;
}

/** Counts the opposing changes of what is shown to it. */
export class FlashMeter {
  #low = new Float32Array(CELLS);
  #high = new Float32Array(CELLS);
  /** Which way a cell went last: 1 up, -1 down, 0 not yet. */
  #way = new Int8Array(CELLS);
  #begun = false;
  /** @type {number[]} */
  #changes = [];
  /** Cells that turned lately, with the time, so that a fade that takes some pictures counts too. */
  #turned = new Float64Array(CELLS).fill(-Infinity);

  /** @param {Float32Array} light of the cells @param {number} now milliseconds @returns {number} changes in the last second */
  see(light, now) {
    if (!this.#begun) {
      this.#low.set(light);
      this.#high.set(light);
      this.#begun = true;
    }
    let turned = 0;
    for (let i = 0; i < CELLS; i++) {
      const value = light[i];
      this.#low[i] = Math.min(this.#low[i], value);
      this.#high[i] = Math.max(this.#high[i], value);
      const up = value - this.#low[i] >= CHANGE && this.#low[i] < DARKER;
      const down = this.#high[i] - value >= CHANGE && value < DARKER;
      if (up && this.#way[i] !== 1) this.#turn(i, 1, now);
      else if (down && this.#way[i] !== -1) this.#turn(i, -1, now);
      if (this.#way[i] === 1 && up) this.#low[i] = this.#high[i] = value;
      if (this.#way[i] === -1 && down) this.#low[i] = this.#high[i] = value;
      if (now - this.#turned[i] < WINDOW_MS / 8) turned += 1;
    }
    if (turned >= AREA * CELLS) {
      this.#changes.push(now);
      this.#turned.fill(-Infinity);
    }
    while (this.#changes.length > 0 && now - this.#changes[0] >= WINDOW_MS) this.#changes.shift();
    return this.#changes.length;
  }

  /** @param {number} cell @param {-1 | 1} way @param {number} now */
  #turn(cell, way, now) {
    this.#way[cell] = way;
    this.#turned[cell] = now;
  }
}

/** Mixing is done in sRGB, where the bright end moves luminance this much faster than the share says. */
const STEEPEST = 2.4;

/** Says how much of the next picture may be shown over the present one. */
export class FlashGuard {
  #meter = new FlashMeter();
  #shown = new Float32Array(CELLS);
  #at = -Infinity;
  /** Whether it is holding back now. */
  active = false;

  /**
   * @param {Float32Array} light of the cells of the next picture
   * @param {number} now milliseconds
   * @returns {number} how much of it to mix over what is shown, 0 to 1; then say {@link showed}
   */
  admit(light, now) {
    const first = this.#at === -Infinity;
    const passed = Math.min(now - this.#at, 1000 / 6);
    this.#at = now;
    const flickers = this.#meter.see(light, now) > TOLERATED;
    const moves = Float32Array.from(light, (value, i) => Math.abs(value - this.#shown[i])).sort();
    const move = moves[Math.ceil(CELLS * (1 - AREA)) - 1]; // a quarter of the picture moves by more than this
    const allowed = SLEW * passed;
    this.active = !first && (flickers || (this.active && move > allowed));
    return this.active ? Math.min(1, allowed / (STEEPEST * move + 1e-9)) : 1;
  }

  /** @param {Float32Array} light of the cells of what is to be seen now */
  showed(light) {
    this.#shown.set(light);
  }
}
