/**
 * The controls of the form, one for each kind of parameter. Each has `label` (the element that the label names),
 * `nodes` (what stands in the row), and `show(value, forced)`; it calls `send` when the person has chosen a value, and
 * `complain` when what was typed is none.
 */

import { button, icon, make } from "./dom.js";
import { listText, same } from "./schema.js";

/** @typedef {import("./schema.js").Field} Field */
/** @typedef {{ label: any, nodes: Node[], show: (value: any, forced: boolean) => void }} Widget */
/** @typedef {(value: unknown) => void} Send */

/** @param {unknown} value */
const plain = (value) => (typeof value === "number" ? String(Number(value.toFixed(6))) : "");
/** @param {Element} element */
const typedIn = (element) => document.activeElement === element;

/** @param {Field} field @param {string} id @param {Send} send @returns {Widget} */
function toggle(field, id, send) {
  const label = make("input", { id, type: "checkbox", role: "switch" });
  label.addEventListener("change", () => send(label.checked));
  return { label, nodes: [label], show: (value) => (label.checked = Boolean(value)) };
}

/** @param {Field} field @param {string} id @param {Send} send @returns {Widget} */
function select(field, id, send) {
  const options = field.nullable ? [null, ...field.options.filter((option) => option !== null)] : field.options;
  const texts = options.map((option, i) => make("option", { value: String(i) }, [option === null ? "auto" : String(option) || "none"]));
  const label = make("select", { id }, texts);
  label.addEventListener("change", () => send(options[Number(label.value)]));
  return { label, nodes: [label], show: (value) => (label.value = String(options.findIndex((option) => same(option, value ?? null)))) };
}

/** @param {Field} field @param {string} id @param {Send} send */
function numberInput(field, id, send) {
  const { minimum: min, maximum: max, step, integer } = field;
  const bounds = field.widget === "seed" ? { min, max } : { min, max, step: integer ? step : "any" };
  const label = make("input", { id, type: "number", inputMode: integer ? "numeric" : "decimal", ...bounds });
  /** @type {any} */
  let last = null;
  if (field.nullable) label.placeholder = "auto";
  label.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    const way = { ArrowUp: 1, ArrowDown: -1 }[event.key];
    if (way === undefined) return;
    event.preventDefault(); // the browser would go by whole numbers
    const next = Number(label.value) + way * step * (event.shiftKey ? 10 : 1);
    label.value = plain(Math.min(max ?? Infinity, Math.max(min ?? -Infinity, next)));
    send(Number(label.value));
  });
  label.addEventListener("change", () => {
    if (label.value !== "") send(Number(label.value));
    else if (field.nullable) send(null);
    else label.value = plain(last);
  });
  return {
    label,
    /** @param {any} value @param {boolean} forced */
    show(value, forced) {
      last = value;
      if (!typedIn(label) || forced) label.value = plain(value);
    },
  };
}

/** @param {Field} field @param {string} id @param {Send} send @returns {Widget} */
function number(field, id, send) {
  const input = numberInput(field, id, send);
  return { ...input, nodes: [input.label] };
}

/** @param {Field} field @param {string} id @param {Send} send @returns {Widget} */
function slider(field, id, send) {
  const input = numberInput(field, id, send);
  const { minimum = 0, maximum = 1, step } = field;
  const range = make("input", { type: "range", min: minimum, max: maximum, step, "aria-label": field.label });
  range.addEventListener("input", () => send(Number(range.value)));
  return {
    label: input.label,
    nodes: [input.label, range],
    show(value, forced) {
      input.show(value, forced);
      if (value == null) return;
      range.value = plain(value);
      range.style.setProperty("--at", String((value - minimum) / (maximum - minimum)));
    },
  };
}

/** @param {Field} field @param {string} id @param {Send} send @returns {Widget} */
function seed(field, id, send) {
  const input = numberInput(field, id, send);
  const dice = button({ icon: "dice", label: "Another seed", quiet: true }, () => {
    const [low, high] = [field.minimum ?? 0, Math.min(field.maximum ?? 2 ** 31 - 1, 2 ** 31 - 1)];
    send(Math.floor(low + Math.random() * (high - low + 1)));
  });
  return { ...input, nodes: [make("span", { className: "together" }, [input.label, dice])] };
}

/** @param {Field} field @param {string} id @param {Send} send @param {(text: string) => void} complain @returns {Widget} */
function text(field, id, send, complain) {
  const label = make("textarea", { id, rows: field.widget === "text" ? 2 : 1, maxLength: field.maxLength, spellcheck: false, dir: "auto" });
  if (field.nullable) label.placeholder = "auto";
  label.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    label.dispatchEvent(new Event("change"));
  });
  label.addEventListener("change", () => {
    try {
      send(field.widget === "text" ? label.value : listText(field).read(label.value));
    } catch (error) {
      complain(/** @type {Error} */ (error).message);
    }
  });
  return {
    label,
    nodes: [label],
    show(value, forced) {
      if (!typedIn(label) || forced) label.value = field.widget === "text" ? (value ?? "") : listText(field).show(value);
    },
  };
}

/**
 * Rows of objects: weighted prompts, models with a scale.
 * @param {Field} field @param {string} id @param {Send} send @returns {Widget}
 */
function objects(field, id, send) {
  const rows = make("div", { className: "rows" });
  /** @type {Record<string, any>[]} What the rows say; a row without its words is not sent yet. */
  let values = [];
  let drawn = "";
  const complete = () => values.filter((value) => field.columns.every(({ name, widget }) => widget !== "text" || (value[name] ?? "") !== ""));
  const sent = () => {
    drawn = JSON.stringify(complete());
    const all = JSON.parse(drawn); // a copy: what is on its way must not change under the next edit
    send(all.length === 0 && field.nullable ? null : all);
  };
  const draw = () => {
    rows.replaceChildren(...values.map((value, at) => {
      const cells = field.columns.map((column) => {
        const words = `${field.label} ${at + 1}, ${column.label.toLowerCase()}`;
        const kind = column.widget === "slider" ? number : (WIDGETS[column.widget] ?? text);
        const cell = kind({ ...column, nullable: false }, `${id}-${at}-${column.name}`, (chosen) => {
          value[column.name] = chosen;
          sent();
        }, () => {});
        if (cell.label.rows) cell.label.rows = 1;
        cell.label.setAttribute("aria-label", words);
        cell.label.placeholder = column.label;
        cell.show(value[column.name] ?? column.fallback, true);
        return make("span", { className: column.widget }, cell.nodes);
      });
      const away = button({ icon: "close", label: `Remove ${field.label} ${at + 1}`, quiet: true }, () => {
        values.splice(at, 1);
        sent();
        draw();
      });
      return make("div", { className: "row" }, [...cells, away]);
    }));
    add.hidden = values.length >= (field.maxItems ?? 16);
  };
  const add = make("button", { id, type: "button", className: "quiet", "aria-label": `Add to ${field.label}` }, [icon("add"), make("span", {}, ["Add"])]);
  add.addEventListener("click", () => {
    values.push(Object.fromEntries(field.columns.map(({ name, fallback, widget, options, minimum }) => [name, fallback ?? options[0] ?? (widget === "text" ? "" : widget === "toggle" ? false : (minimum ?? 0))])));
    draw();
    rows.lastElementChild?.querySelector("textarea, select, input")?.focus();
    if (complete().length === values.length) sent();
  });
  return {
    label: add,
    nodes: [rows, add],
    show(value, forced) {
      const now = JSON.stringify(value ?? []);
      if (now === drawn && !forced) return;
      if (rows.contains(document.activeElement) && !forced) return;
      drawn = now;
      values = JSON.parse(now);
      draw();
    },
  };
}

/** @type {Record<Field["widget"], (field: Field, id: string, send: Send, complain: (text: string) => void) => Widget>} */
const WIDGETS = { toggle, select, number, slider, seed, text, list: text, json: text, objects };

/** @param {Field} field @param {string} id @param {Send} send @param {(text: string) => void} complain @returns {Widget} */
export const makeWidget = (field, id, send, complain) => WIDGETS[field.widget](field, id, send, complain);
