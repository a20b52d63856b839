/** A form from a JSON Schema: one control for each parameter, in groups, sent as it is moved. */

import { button, copy, make, memory } from "./dom.js";
import { readSchema, same } from "./schema.js";
import { makeWidget } from "./widgets.js";

/** @typedef {import("./schema.js").Field} Field */
/** @typedef {import("./dreamrelay.js").Parameters} Parameters */

const GROUPS = ["look", "motion", "guidance", "control"];
const FOLDED = new Set(["advanced"]); // unless somebody opened it

/** OSC's own words; a parameter of such a name is under /parameters. */
const OSC_WORDS = new Set(["start", "s", "stop", "S", "trigger", "t", "p", "P", "x", "verbose", "v", "von", "voff", "preset", "query"]);

/** @param {string} name of a parameter */
const oscAddress = (name) => (OSC_WORDS.has(name) ? `/parameters/${name}` : `/${name}`);

/** One parameter's row: label, control, reset, OSC address, problem. */
class Control {
  /** @param {Field} field @param {Parameters} parameters */
  constructor(field, parameters) {
    this.field = field;
    this.parameters = parameters;
    const id = `p-${field.name}`;
    this.widget = makeWidget(field, id, (value) => this.#send(value), (text) => this.#complain(text));
    this.reset = button({ icon: "reset", label: `Reset ${field.label}` }, () => this.toDefault());
    this.reset.className = "reset";
    this.problem = make("p", { className: "problem", id: `${id}-problem`, role: "alert" });
    this.help = make("p", { className: "sr", id: `${id}-help` }, [field.help]);
    this.widget.label.setAttribute("aria-describedby", `${id}-help ${id}-problem`);
    this.row = make("div", { className: `field ${field.widget}`, "data-name": field.name }, [
      make("label", { htmlFor: id }, [field.label]), this.reset, ...this.widget.nodes, this.#osc(), this.problem,
      ...(field.help ? [this.help] : []),
    ]);
    this.row.addEventListener("dblclick", (/** @type {MouseEvent} */ event) => {
      const text = /** @type {HTMLInputElement} */ (event.target);
      if (!text.matches("textarea, input:not([type=range]), select, button")) this.toDefault();
    });
  }

  #osc() {
    const address = oscAddress(this.field.name);
    const made = make("button", { type: "button", className: "osc", title: `Copy the OSC address ${address}` }, [address]);
    made.addEventListener("click", async () => {
      await copy(address, made);
      made.textContent = "copied";
      setTimeout(() => (made.textContent = address), 1200);
    });
    return made;
  }

  /** @param {string} text */
  #complain(text) {
    this.problem.textContent = text;
    this.widget.label.setAttribute("aria-invalid", "true");
  }

  /** @param {unknown} value */
  #send(value) {
    const { name, integer, widget } = this.field;
    if (typeof value === "number" && integer && widget !== "objects") value = Math.round(value);
    if (same(value, this.parameters.value(name)) && !this.parameters.problems.has(name)) this.show();
    else this.parameters.set({ [name]: value });
  }

  toDefault() {
    if (this.field.fallback === undefined) return;
    this.#send(this.field.fallback);
    this.show(true);
  }

  get changed() {
    const { name, fallback } = this.field;
    return fallback !== undefined && !same(this.parameters.value(name), fallback);
  }

  /** Bring the row up to date with the parameters. Whoever is typing in it is not interrupted, unless forced. */
  show(forced = false) {
    const { field, widget, parameters, row } = this;
    const pending = parameters.pending.get(field.name);
    const problem = parameters.problems.get(field.name) ?? "";
    row.classList.toggle("changed", this.changed);
    row.classList.toggle("pending", pending !== undefined && pending.stage !== "refused");
    this.reset.hidden = !this.changed;
    if (this.problem.textContent !== problem) this.problem.textContent = problem;
    widget.label.setAttribute("aria-invalid", String(problem !== ""));
    widget.show(parameters.value(field.name), forced);
  }
}

/** The drawer's form. */
export class Form {
  /** @type {Control[]} */
  controls = [];
  /** Which parameters a group's headline counts. @type {{ count: HTMLElement, controls: Control[] }[]} */
  #groups = [];
  #drawn = "";
  /** @type {any} */
  #schema = null;

  /**
   * @param {HTMLElement} root
   * @param {Parameters} parameters
   * @param {HTMLElement} hint explains the control that is pointed at; a place of its own, so that nothing moves
   * @param {(field: Field) => boolean} [elsewhere] fields that another part of the page shows
   */
  constructor(root, parameters, hint, elsewhere = () => false) {
    this.root = root;
    for (const event of ["focusin", "pointerover"]) {
      root.addEventListener(event, ({ target }) => {
        const row = /** @type {HTMLElement} */ (target).closest(".field");
        if (row) hint.textContent = this.controls.find((control) => control.row === row)?.field.help ?? "";
      });
    }
    this.parameters = parameters;
    this.elsewhere = elsewhere;
    parameters.addEventListener("change", () => this.show());
    this.show();
  }

  /** How many differ from their defaults. */
  get changed() {
    return this.controls.filter((control) => control.changed).length;
  }

  resetAll() {
    const patch = this.controls.filter((c) => c.changed).map((c) => [c.field.name, c.field.fallback]);
    if (patch.length > 0) this.parameters.set(Object.fromEntries(patch));
  }

  show() {
    const { schema } = this.parameters;
    if (schema !== this.#schema) {
      this.#schema = schema;
      const text = JSON.stringify(schema?.properties ?? null); // after a reconnection it is the same one again
      if (text !== this.#drawn) this.#draw();
      this.#drawn = text;
    }
    for (const control of this.controls) control.show();
    for (const { count, controls } of this.#groups) {
      const changed = controls.filter((control) => control.changed).length;
      count.textContent = changed ? `${changed} changed` : "";
    }
  }

  #draw() {
    const fields = readSchema(this.parameters.schema).filter((field) => !this.elsewhere(field));
    this.controls = fields.map((field) => new Control(field, this.parameters));
    const rank = (/** @type {string} */ name) => (GROUPS.indexOf(name) + 1 || (FOLDED.has(name) ? 99 : 50));
    const groups = [...new Set(fields.map((field) => field.group))].sort((a, b) => rank(a) - rank(b));
    this.#groups = groups.map((group) => ({
      count: make("span", { className: "count" }),
      controls: this.controls.filter((control) => control.field.group === group),
    }));
    this.root.replaceChildren(
      ...groups.map((group, at) => {
        const { count, controls } = this.#groups[at];
        const name = group[0].toUpperCase() + group.slice(1);
        const key = `group.${group}`;
        const open = memory.get(key) ?? (FOLDED.has(group) ? "folded" : "open");
        const details = make("details", { open: open === "open" }, [make("summary", {}, [name, count]), ...controls.map(({ row }) => row)]);
        details.addEventListener("toggle", () => memory.set(key, details.open ? "open" : "folded"));
        return details;
      }),
    );
  }
}
