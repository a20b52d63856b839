/** The prompt: typed, applied with Enter, weighted, blended with the one before, remembered. */

import { announce, memory } from "./dom.js";
import { nudgeWeight } from "./weights.js";
import { Words } from "./words.js";

const REMEMBERED = 50;
const LINE = 24; // pixels; half of one is free above and below
const MOST_LINES = 4;

export class PromptBar {
  /** What the field showed when it last agreed with the stream. */
  #shown = "";
  /** @type {string[]} */
  #history;
  #walk = -1; // how far back in the history we are; -1: not in it
  #draft = "";

  /**
   * @param {{ form: HTMLFormElement, input: HTMLTextAreaElement, apply: HTMLElement, blendIn: HTMLElement, meter: HTMLElement,
   *   problem: HTMLElement, words: HTMLElement, all: HTMLElement, bar: HTMLElement }} parts
   * @param {import("./dreamrelay.js").Parameters} parameters
   * @param {import("./blend.js").Blend} blend
   * @param {string} stream
   */
  constructor(parts, parameters, blend, stream) {
    this.parts = parts;
    this.parameters = parameters;
    this.blend = blend;
    this.#history = readHistory();
    this.draftKey = `dreamrelay.draft.${stream}`;
    const { form, input, blendIn } = parts;
    this.words = new Words(parts, () => this.apply());
    try {
      input.value = sessionStorage.getItem(this.draftKey) ?? "";
    } catch {
      // Without storage a draft does not outlive the page.
    }
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.apply();
      this.#see();
    });
    blendIn.addEventListener("click", () => {
      this.applyAsBlend();
      this.#see();
    });
    input.addEventListener("keydown", (event) => this.#key(event));
    input.addEventListener("input", () => {
      this.#walk = -1;
      this.#edited();
    });
    let width = 0;
    new ResizeObserver(([{ contentRect }]) => {
      if (contentRect.width === width) return;
      width = contentRect.width;
      requestAnimationFrame(() => this.#grow());
    }).observe(input);
    parameters.addEventListener("change", () => this.show());
    this.show();
    this.#edited();
  }

  get dirty() {
    return this.parts.input.value.trim() !== this.#shown;
  }

  /** Have what is typed hold, at once and alone. */
  apply() {
    const text = this.#take();
    this.parameters.set({ prompt: text, ...(this.blend.open && { prompts: null }) });
    this.#edited();
  }

  /** Put words in (said, or out of a list) and have them hold. @param {string} text */
  say(text) {
    this.parts.input.value = text;
    this.apply();
  }

  /** Keep what holds as B, and bring in what is typed as A by hand. */
  applyAsBlend() {
    const old = this.parameters.value("prompt");
    if (!this.blend.possible || typeof old !== "string" || this.parts.input.value.trim() === old) {
      if (!this.blend.possible) announce("This model takes one prompt at a time");
      return this.apply();
    }
    this.blend.begin(this.#take(), old);
    this.#edited();
  }

  #take() {
    const text = this.parts.input.value.trim();
    this.#shown = text;
    this.#walk = -1;
    this.#remember(text);
    return text;
  }

  /** @param {string} text */
  #remember(text) {
    if (text === "" || text === this.#history[0]) return;
    this.#history = [text, ...this.#history.filter((old) => old !== text)].slice(0, REMEMBERED);
    memory.set("history", JSON.stringify(this.#history));
  }

  show() {
    const { input, meter, problem } = this.parts;
    const value = this.parameters.value("prompt");
    const wasDirty = this.dirty;
    if (typeof value === "string" && value !== this.#shown) {
      this.#shown = value;
      if (!wasDirty) input.value = value;
      this.#edited();
    }
    const refused = this.parameters.problems.get("prompt") ?? "";
    if (problem.textContent !== refused) problem.textContent = refused;
    input.setAttribute("aria-invalid", String(refused !== ""));
    meter.dataset.stage = this.parameters.pending.get("prompt")?.stage ?? "";
    const limit = this.parameters.schema?.properties?.prompt?.maxLength;
    if (limit !== undefined) input.maxLength = limit;
    else input.removeAttribute("maxlength");
    this.words.know(this.parameters.schema);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const { input } = this.parts;
    if (event.isComposing) return;
    if (event.key === "Enter" && !event.ctrlKey && !event.altKey) {
      event.preventDefault();
      if (event.shiftKey) this.applyAsBlend();
      else this.apply();
      this.#see();
    } else if (event.key === "Escape") {
      if (this.dirty) this.#remember(input.value.trim()); // ↑ brings it back
      if (this.parameters.problems.has("prompt")) this.parameters.forget("prompt");
      const value = this.parameters.value("prompt");
      input.value = this.#shown = typeof value === "string" ? value : "";
      this.#edited();
      input.blur();
    } else if (event.key === "ArrowUp" || event.key === "ArrowDown") {
      const way = event.key === "ArrowUp" ? 1 : -1;
      if (event.ctrlKey || event.metaKey) {
        event.preventDefault();
        return this.#weigh(way);
      }
      const lines = input.clientHeight > LINE && input.selectionStart !== 0 && this.#walk < 0;
      if (lines || event.shiftKey) return; // in a text of several lines the arrows move the cursor
      event.preventDefault();
      this.#step(way);
    }
  }

  /** @param {1 | -1} way */
  #weigh(way) {
    const { input } = this.parts;
    const { text, start, end } = nudgeWeight(input.value, input.selectionStart, input.selectionEnd, way);
    if (text.length > input.maxLength && input.maxLength >= 0) return;
    input.value = text;
    input.setSelectionRange(start, end);
    this.#edited();
  }

  /** @param {number} by */
  #step(by) {
    const { input } = this.parts;
    if (this.#walk < 0) this.#draft = input.value;
    // What is in force is also the newest of the history: going back begins behind it.
    const old = this.#history.filter((text) => text !== this.#draft.trim());
    const at = Math.max(-1, Math.min(old.length - 1, this.#walk + by));
    this.#walk = at;
    input.value = at < 0 ? this.#draft : old[at];
    input.setSelectionRange(input.value.length, input.value.length);
    this.#edited();
  }

  /** A phone's keyboard goes, so that the picture can be seen. */
  #see() {
    if (matchMedia("(hover: none)").matches) this.parts.input.blur();
  }

  /** As many lines as the text has, up to four. */
  #grow() {
    const { input } = this.parts;
    input.style.height = "auto";
    if (input.scrollHeight > 0) input.style.height = `${Math.min(input.scrollHeight, MOST_LINES * LINE) + LINE}px`;
  }

  #edited() {
    const { input, apply, blendIn } = this.parts;
    apply.hidden = !this.dirty;
    blendIn.hidden = !this.dirty || !this.blend.possible;
    this.#grow();
    this.words.mark();
    try {
      if (this.dirty) sessionStorage.setItem(this.draftKey, input.value);
      else sessionStorage.removeItem(this.draftKey);
    } catch {
      // As above.
    }
  }
}

/** @returns {string[]} */
function readHistory() {
  try {
    const old = JSON.parse(memory.get("history") ?? "[]");
    return Array.isArray(old) ? old.filter((text) => typeof text === "string") : [];
  } catch {
    return [];
  }
}
