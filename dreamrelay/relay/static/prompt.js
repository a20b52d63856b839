/** The prompt: typed, applied with Enter, remembered; and the words that the model knows. */

import { make, readSchema } from "./form.js";
import { memory } from "./stage.js";

const REMEMBERED = 50;
const SHOWN_EXAMPLES = 4;

/** @param {string} word */
const pattern = (word) => new RegExp(`(^|[\\s,])${word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}(?=$|[\\s,])`, "i");

/** @param {string} text @param {string} word @param {string[]} group in which "oil painting" is not "oil" */
export const hasWord = (text, word, group) =>
  pattern(word).test(without(text, group.filter((other) => other.length > word.length && other.includes(word))));

/** @param {string} text @param {string[]} words */
function without(text, words) {
  const longestFirst = [...words].sort((a, b) => b.length - a.length);
  const rest = longestFirst.reduce((left, word) => left.replace(pattern(word), "$1"), text);
  return rest.replace(/\s*,(\s*,)+/g, ",").replace(/\s+/g, " ").replace(/ ,/g, ",").replace(/^[\s,]+|[\s,]+$/g, "");
}

/**
 * Put a word of a group in, in place of the others of its group; or take it out if it is there. A style goes last, as
 * it reads: "blue neon".
 * @param {string} text
 * @param {string} word
 * @param {string[]} group
 * @param {string[]} styles
 */
export function toggleWord(text, word, group, styles) {
  const rest = without(text, group);
  if (hasWord(text, word, group)) return rest;
  const style = styles.find((s) => s !== word && new RegExp(`${pattern(s).source}\\s*$`, "i").test(rest));
  const parts = style && group !== styles ? [rest.slice(0, -style.length).trim(), word, style] : [rest, word];
  return parts.filter(Boolean).join(" ");
}

export class PromptBar {
  /** What the field showed when it last agreed with the stream. */
  #shown = "";
  /** @type {string[]} */
  #history;
  #walk = -1; // how far back in the history we are; -1: not in it
  #draft = "";
  /** @type {any} */
  #schema = null;
  /** @type {{ button: HTMLElement, word: string, group: string[] }[]} */
  #buttons = [];

  /**
   * @param {{ form: HTMLFormElement, input: HTMLTextAreaElement, apply: HTMLElement, meter: HTMLElement,
   *   problem: HTMLElement, words: HTMLElement, all: HTMLElement, bar: HTMLElement }} parts
   * @param {import("./dreamrelay.js").Parameters} parameters
   * @param {string} stream
   */
  constructor(parts, parameters, stream) {
    this.parts = parts;
    this.parameters = parameters;
    this.#history = readHistory();
    this.draftKey = `dreamrelay.draft.${stream}`;
    const { form, input, words, all, bar } = parts;
    try {
      input.value = sessionStorage.getItem(this.draftKey) ?? "";
    } catch {
      // Without storage a draft does not outlive the page.
    }
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.apply();
    });
    input.addEventListener("keydown", (event) => this.#key(event));
    input.addEventListener("input", () => {
      this.#walk = -1;
      this.#edited();
    });
    input.addEventListener("focus", () => this.#showWords());
    bar.addEventListener("focusout", (event) => {
      const to = /** @type {Node | null} */ (event.relatedTarget);
      if (to !== input && to !== all && !words.contains(to)) this.#hideWords();
    });
    all.addEventListener("click", () => this.toggleAll());
    words.addEventListener("keydown", (event) => this.#walkWords(event));
    words.addEventListener("wheel", (event) => {
      const row = /** @type {HTMLElement} */ (event.target).closest("span");
      if (row && row.scrollWidth > row.clientWidth && event.deltaX === 0) row.scrollLeft += event.deltaY;
    }, { passive: true });
    parameters.addEventListener("change", () => this.show());
    this.show();
    this.#edited();
  }

  get dirty() {
    return this.parts.input.value.trim() !== this.#shown;
  }

  apply() {
    const text = this.parts.input.value.trim();
    this.#shown = text;
    this.#walk = -1;
    if (text !== "" && text !== this.#history[0]) {
      this.#history = [text, ...this.#history.filter((old) => old !== text)].slice(0, REMEMBERED);
      memory.set("history", JSON.stringify(this.#history));
    }
    this.parameters.set({ prompt: text });
    this.#edited();
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
    if (this.parameters.schema !== this.#schema) {
      this.#schema = this.parameters.schema;
      this.#makeWords();
    }
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const { input } = this.parts;
    if (event.isComposing) return;
    if (event.key === "Enter" && !event.ctrlKey && !event.altKey) {
      event.preventDefault();
      this.apply();
    } else if (event.key === "Escape") {
      if (this.parameters.problems.has("prompt")) this.parameters.forget("prompt");
      const value = this.parameters.value("prompt");
      input.value = this.#shown = typeof value === "string" ? value : "";
      this.#edited();
      input.blur();
    } else if (event.key === "ArrowUp" || event.key === "ArrowDown") {
      const lines = input.clientHeight > 56 && input.selectionStart !== 0 && this.#walk < 0;
      if (lines || event.ctrlKey || event.shiftKey) return; // in a text of several lines the arrows move the cursor
      event.preventDefault();
      this.#step(event.key === "ArrowUp" ? 1 : -1);
    }
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

  #edited() {
    const { input, apply } = this.parts;
    apply.hidden = !this.dirty;
    input.style.height = "auto";
    if (input.scrollHeight > 0) input.style.height = `${Math.min(input.scrollHeight, 96)}px`;
    for (const { button, word, group } of this.#buttons) {
      button.setAttribute("aria-pressed", String(hasWord(input.value, word, group)));
    }
    try {
      if (this.dirty) sessionStorage.setItem(this.draftKey, input.value);
      else sessionStorage.removeItem(this.draftKey);
    } catch {
      // As above.
    }
  }

  #showWords() {
    this.parts.words.hidden = this.parts.words.childElementCount === 0;
  }

  #hideWords() {
    const { words, all } = this.parts;
    words.hidden = true;
    words.classList.remove("all");
    all.setAttribute("aria-expanded", "false");
  }

  /** Every word that the model knows, by kind; and back. */
  toggleAll() {
    const { words, all, input } = this.parts;
    if (this.#buttons.length === 0) return;
    const open = !words.classList.contains("all") || words.hidden;
    const within = words.contains(document.activeElement);
    this.#hideWords();
    if (!open) {
      if (within) input.focus();
      return;
    }
    words.hidden = false;
    words.classList.add("all");
    all.setAttribute("aria-expanded", "true");
    const pressed = this.#buttons.find(({ button }) => button.getAttribute("aria-pressed") === "true");
    (pressed ?? this.#buttons[0]).button.focus();
  }

  /** Arrows go from word to word, Escape back to the text. @param {KeyboardEvent} event */
  #walkWords(event) {
    const buttons = /** @type {HTMLElement[]} */ ([...this.parts.words.querySelectorAll("button")]);
    const at = buttons.indexOf(/** @type {HTMLElement} */ (document.activeElement));
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: buttons.length - 1, ArrowDown: below(buttons, at, 1), ArrowUp: below(buttons, at, -1) }[event.key];
    if (event.key === "Escape") {
      this.parts.input.focus();
      this.#hideWords();
    } else if (to !== undefined && at >= 0) buttons[to]?.focus();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  #makeWords() {
    const { words, all, input } = this.parts;
    const known = this.#schema?.["x-vocabulary"] ?? {};
    const styles = known.styles ?? [];
    const examples = this.#schema?.properties?.prompt?.examples ?? [];
    const limit = readSchema(this.#schema).find((field) => field.name === "prompt")?.maxLength;
    if (limit !== undefined) input.maxLength = limit;
    else input.removeAttribute("maxlength");
    const button = (/** @type {string} */ text, /** @type {() => string} */ next) => {
      const made = make("button", { type: "button", className: "word" }, [text]);
      // A word is put in and applied with one touch; the cursor (and a phone's keyboard) stays where it is.
      for (const press of ["pointerdown", "mousedown"]) {
        made.addEventListener(press, (/** @type {Event} */ event) => event.preventDefault());
      }
      made.addEventListener("click", () => {
        input.value = next();
        this.apply();
      });
      return made;
    };
    this.#buttons = [];
    // Whatever kinds of words there are: a model may know others than ours.
    const kinds = Object.entries(known).filter(([, group]) => Array.isArray(group) && group.length > 0);
    const rows = kinds.map(([kind, group]) => {
      const made = group.map((/** @type {string} */ word) => {
        const pressed = button(word, () => toggleWord(input.value, word, group, styles));
        this.#buttons.push({ button: pressed, word, group });
        return pressed;
      });
      const name = kind[0].toUpperCase() + kind.slice(1).replaceAll("_", " ");
      return make("span", { role: "group", "aria-label": name }, [make("h3", { "aria-hidden": "true" }, [name]), ...made]);
    });
    if (rows.length === 0 && examples.length > 0) {
      rows.push(make("span", {}, examples.slice(0, SHOWN_EXAMPLES).map((/** @type {string} */ text) => button(text, () => text))));
    }
    words.replaceChildren(...rows);
    all.hidden = this.#buttons.length === 0;
    this.#hideWords();
    if (document.activeElement === input) this.#showWords();
    this.#edited();
  }
}

/**
 * The button in the next row that lies nearest under (1) or over (-1) this one.
 * @param {HTMLElement[]} buttons @param {number} at @param {1 | -1} way
 */
function below(buttons, at, way) {
  if (at < 0) return undefined;
  const boxes = buttons.map((button) => button.getBoundingClientRect());
  const here = boxes[at];
  const further = boxes.map((box, i) => ({ i, away: (box.top - here.top) * way, aside: Math.abs(box.left + box.width / 2 - here.left - here.width / 2) })).filter(({ away }) => away > 4);
  const row = Math.min(...further.map(({ away }) => away));
  return further.filter(({ away }) => away < row + 4).sort((a, b) => a.aside - b.aside)[0]?.i;
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
