/** The slider between two prompts: A, just typed, and B, which held before. */

import { announce, button, make } from "./dom.js";

const FADE_MS = 4000;
const STEP = 0.02;

/** Events: none; the parameters tell. */
export class Blend {
  #range;
  #texts;
  #fade;
  #several;
  /** @type {string[]} */
  #ends = ["", ""];
  #fading = 0; // counts fades, so that a newer one or a hand on the slider ends the old one
  #drawn = "";

  /**
   * @param {HTMLElement} root
   * @param {HTMLElement} meter how far A has come
   * @param {import("./dreamrelay.js").Parameters} parameters
   */
  constructor(root, meter, parameters) {
    this.root = root;
    this.meter = meter;
    this.parameters = parameters;
    this.#texts = ["A", "B"].map((end) => make("span", { className: "end" }, [make("b", {}, [end]), make("span", { dir: "auto" })]));
    this.#several = make("p");
    this.#range = make("input", { type: "range", min: 0, max: 1, step: 0.01, "aria-label": "Blend, from A to B" });
    this.#range.addEventListener("input", () => {
      this.#fading += 1;
      this.#mix(Number(this.#range.value));
    });
    this.#fade = button({ icon: "fade", label: "Fade to the other prompt, 4 seconds", quiet: true }, () => this.fade());
    const close = button({ icon: "close", label: "Keep the nearer prompt", quiet: true }, () => this.settle());
    root.append(this.#texts[0], this.#range, this.#texts[1], this.#several, this.#fade, close);
    parameters.addEventListener("change", () => this.show());
  }

  /** Whether the engine blends at all. */
  get possible() {
    return "prompts" in (this.parameters.schema?.properties ?? {});
  }

  /** Whether several prompts hold. */
  get open() {
    return (this.parameters.value("prompts")?.length ?? 0) > 0;
  }

  /** @param {string} a @param {string} b which holds now */
  begin(a, b) {
    this.#ends = [a, b];
    this.#mix(1, { prompt: a });
    announce("Blend open: all of the old prompt, the slider brings the new one in");
  }

  /** @param {number} share of B @param {Record<string, unknown>} [more] */
  #mix(share, more = {}) {
    const [a, b] = this.#ends;
    const rounded = Math.round(share * 100) / 100;
    this.parameters.set({ ...more, prompts: [{ text: a, weight: Math.round((1 - rounded) * 100) / 100 }, { text: b, weight: rounded }] });
  }

  get #share() {
    const [a, b] = (this.parameters.value("prompts") ?? []).map((/** @type {any} */ prompt) => prompt.weight ?? 1);
    return a + b > 0 ? b / (a + b) : 0.5;
  }

  /** Go to the other end by itself. */
  fade() {
    const [turn, from, begun] = [++this.#fading, this.#share, performance.now()];
    const to = from > 0.5 ? 0 : 1;
    let last = from;
    const step = (/** @type {number} */ now) => {
      if (turn !== this.#fading || !this.open) return;
      const done = Math.min(1, Math.max(0, now - begun) / FADE_MS);
      const share = from + (to - from) * done;
      if (Math.abs(share - last) >= STEP || done === 1) this.#mix((last = share));
      if (done < 1) requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  /** Take the nearer one alone. */
  settle() {
    this.#fading += 1;
    const two = this.parameters.value("prompts")?.length === 2;
    const prompt = two ? this.#ends[this.#share < 0.5 ? 0 : 1] : this.parameters.value("prompt");
    this.parameters.set({ prompt, prompts: null });
  }

  show() {
    const prompts = /** @type {{ text: string, weight?: number }[]} */ (this.parameters.value("prompts") ?? []);
    const two = prompts.length === 2;
    this.root.hidden = prompts.length === 0;
    const text = JSON.stringify(prompts);
    if (text === this.#drawn) return;
    this.#drawn = text;
    this.root.classList.toggle("two", two);
    for (const part of [this.#range, this.#fade, ...this.#texts]) part.hidden = !two;
    this.#several.hidden = two;
    this.#several.textContent = prompts.length === 1 ? "One prompt of the list holds, see the parameters" : `${prompts.length} prompts are blended, see the parameters`;
    const share = two ? this.#share : 1;
    this.meter.style.setProperty("--mix", String(two ? 1 - share : 0));
    if (!two) return;
    this.#ends = prompts.map((prompt) => prompt.text);
    this.#texts.forEach((end, i) => (end.lastChild.textContent = end.title = this.#ends[i]));
    if (document.activeElement !== this.#range || Math.abs(Number(this.#range.value) - share) > 0.02) this.#range.value = String(share);
    this.#range.style.setProperty("--at", String(share));
    this.#range.setAttribute("aria-valuetext", `${Math.round((1 - share) * 100)} % A, ${Math.round(share * 100)} % B`);
  }
}
