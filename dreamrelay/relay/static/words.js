/** The words that the model knows: quiet suggestions over the prompt, one touch each. */

import { make } from "./dom.js";
import { readSchema } from "./schema.js";

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

/** Keeps the rows of words; `input` is the prompt's field, and `apply` applies what stands in it. */
export class Words {
  /** @type {any} */
  #schema = null;
  /** @type {{ button: HTMLElement, word: string, group: string[] }[]} */
  #buttons = [];

  /**
   * @param {{ input: HTMLTextAreaElement, words: HTMLElement, all: HTMLElement, bar: HTMLElement }} parts
   * @param {() => void} apply
   */
  constructor(parts, apply) {
    this.parts = parts;
    this.apply = apply;
    const { input, words, all, bar } = parts;
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
  }

  /** @param {any} schema that now holds */
  know(schema) {
    if (schema === this.#schema) return;
    this.#schema = schema;
    this.#makeWords();
  }

  /** Mark what stands in the prompt. */
  mark() {
    for (const { button, word, group } of this.#buttons) {
      button.setAttribute("aria-pressed", String(hasWord(this.parts.input.value, word, group)));
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
    this.mark();
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
