/** The keys of the page, as data: what they do, and the list of them for people. */

import { $, make } from "./dom.js";

/**
 * @typedef {object} Key
 * @property {string} [keys] each letter is one
 * @property {string} [shown] in the list, if not the letter
 * @property {string} does for people
 * @property {(digit: number) => void} [act]
 * @property {(digit: number) => void} [shifted] of a digit with Shift
 * @property {() => void} [released]
 * @property {string} [button] id of the button that does the same
 */

export class Keys {
  /** @param {Key[]} all */
  constructor(all) {
    this.all = all;
    for (const { button, act } of all) if (button && act) $(button).addEventListener("click", () => act(0));
    document.addEventListener("keydown", (event) => this.#down(event));
    document.addEventListener("keyup", (event) => this.#of(event)?.released?.());
  }

  /** @param {HTMLElement} list to be filled */
  list(list) {
    for (const { keys, shown, does } of this.all) {
      list.append(make("dt", {}, [make("kbd", {}, [shown ?? keys?.toUpperCase() ?? ""])]), make("dd", {}, [does]));
    }
  }

  /** @param {KeyboardEvent} event @returns {Key | undefined} */
  #of(event) {
    const digit = /^Digit[1-9]$/.test(event.code) ? event.code.slice(5) : "";
    return this.all.find(({ keys }) => keys !== undefined && (keys.includes(event.key) || keys.includes(event.key.toLowerCase()) || (digit !== "" && keys.includes(digit))));
  }

  /** @param {KeyboardEvent} event */
  #down(event) {
    const target = /** @type {HTMLElement} */ (event.target);
    const typing = target.closest?.("textarea, select, input:not([type=range], [type=checkbox])") !== null;
    if (typing || event.ctrlKey || event.metaKey || event.altKey || event.key.length !== 1) return;
    const key = this.#of(event);
    if (!key?.act) return;
    event.preventDefault();
    if (event.repeat) return;
    const digit = Number(event.code.slice(-1)) || 0;
    if (event.shiftKey && key.shifted) key.shifted(digit);
    else key.act(digit);
  }
}
