/** A form from a JSON Schema: one control for each parameter, in groups, sent as it is moved. */

/**
 * @typedef {object} Field What the schema says of one parameter.
 * @property {string} name
 * @property {string} label
 * @property {string} help
 * @property {string} group
 * @property {number} order
 * @property {"text" | "slider" | "number" | "seed" | "toggle" | "select" | "list" | "json"} widget
 * @property {boolean} nullable
 * @property {boolean} integer
 * @property {number} [minimum]
 * @property {number} [maximum]
 * @property {number} step
 * @property {number} [maxLength]
 * @property {unknown[]} options
 * @property {unknown} fallback the default
 */

/** @typedef {import("./dreamrelay.js").Parameters} Parameters */

const GROUPS = ["look", "motion", "guidance", "control"];
const FOLDED = new Set(["advanced"]);

/** @param {any} property @param {any} schema follow `$ref`, `allOf` of one and `anyOf` with null */
function resolve(property, schema) {
  let spec = property;
  let nullable = false;
  for (let depth = 0; depth < 8; depth++) {
    const inner = spec.allOf?.length === 1 ? spec.allOf[0] : null;
    const choices = (spec.anyOf ?? spec.oneOf)?.filter((/** @type {any} */ s) => s.type !== "null");
    if (spec.$ref) {
      const target = spec.$ref.replace(/^#\//, "").split("/").reduce((/** @type {any} */ at, /** @type {string} */ key) => at?.[key], schema);
      spec = { ...target, ...spec, $ref: undefined };
    } else if (inner) {
      spec = { ...inner, ...spec, allOf: undefined };
    } else if (choices?.length === 1) {
      nullable ||= choices.length < (spec.anyOf ?? spec.oneOf).length;
      spec = { ...choices[0], ...spec, anyOf: undefined, oneOf: undefined };
    } else break;
  }
  if (Array.isArray(spec.type)) {
    nullable ||= spec.type.includes("null");
    spec = { ...spec, type: spec.type.find((/** @type {string} */ t) => t !== "null") };
  }
  return { spec, nullable };
}

/** @param {any} spec @returns {Field["widget"]} */
function widgetOf(spec) {
  const bounded = (spec.minimum ?? spec.exclusiveMinimum) !== undefined && (spec.maximum ?? spec.exclusiveMaximum) !== undefined;
  const numeric = spec.type === "number" || spec.type === "integer";
  const fits = {
    text: spec.type === "string", slider: numeric && bounded, number: numeric, seed: numeric,
    toggle: spec.type === "boolean", select: spec.enum !== undefined, list: spec.type === "array",
  };
  const asked = /** @type {keyof typeof fits | undefined} */ (spec.ui?.widget);
  if (asked && fits[asked]) return asked;
  if (fits.select) return "select";
  if (fits.toggle) return "toggle";
  if (numeric) return bounded ? "slider" : "number";
  if (fits.text) return "text";
  const item = spec.items?.type;
  return fits.list && ["integer", "number", "string"].includes(item) ? "list" : "json";
}

/** @param {any} spec @param {boolean} integer */
function stepOf(spec, integer) {
  if (spec.multipleOf) return spec.multipleOf;
  if (integer) return 1;
  const span = (spec.maximum ?? spec.exclusiveMaximum ?? 1) - (spec.minimum ?? spec.exclusiveMinimum ?? 0);
  return span > 5 ? 0.1 : 0.01;
}

/**
 * Read the parameters out of a JSON Schema, in the order in which to show them.
 * @param {any} schema
 * @returns {Field[]}
 */
export function readSchema(schema) {
  const fields = Object.entries(schema?.properties ?? {}).map(([name, property], index) => {
    const { spec, nullable } = resolve(property, schema);
    const integer = (spec.type === "array" ? spec.items?.type : spec.type) === "integer";
    const ui = spec.ui ?? {};
    const words = name.replaceAll("_", " ");
    return {
      name,
      label: ui.label ?? spec.title ?? words[0].toUpperCase() + words.slice(1),
      help: spec.description ?? "",
      group: ui.group ?? "other",
      order: ui.order ?? 1000 + index,
      widget: widgetOf(spec),
      nullable,
      integer,
      minimum: spec.minimum ?? spec.exclusiveMinimum,
      maximum: spec.maximum ?? spec.exclusiveMaximum,
      step: stepOf(spec, integer),
      maxLength: spec.maxLength,
      options: spec.enum ?? [],
      fallback: spec.default,
    };
  });
  return fields.sort((a, b) => a.order - b.order);
}

/** @param {unknown} a @param {unknown} b */
export const same = (a, b) =>
  (typeof a === "number" && typeof b === "number" && Math.abs(a - b) < 1e-9) || JSON.stringify(a) === JSON.stringify(b);

/** @param {string} tag @param {Record<string, any>} [properties] @param {(Node | string)[]} [children] @returns {any} */
export function make(tag, properties = {}, children = []) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined) continue;
    if (name in element) /** @type {any} */ (element)[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** @param {string} name @param {string} [label] @returns {HTMLElement} */
export function icon(name, label) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  svg.setAttribute("aria-hidden", "true");
  return label ? make("span", { className: "iconed" }, [svg, make("span", { className: "sr" }, [label])]) : /** @type {any} */ (svg);
}

/** A control's value as text, and back. @param {Field} field */
const listText = (field) => ({
  /** @param {any} value */
  show: (value) => (value == null ? "" : field.widget === "json" ? JSON.stringify(value) : value.join(", ")),
  /** @param {string} text */
  read: (text) => {
    if (field.widget === "json") return text.trim() === "" ? null : JSON.parse(text);
    const parts = text.split(/[\s,;]+/).filter(Boolean);
    if (parts.length === 0 && field.nullable) return null;
    if (!field.integer && parts.some((part) => Number.isNaN(Number(part)))) return parts;
    const numbers = parts.map(Number);
    const wrong = parts[numbers.findIndex((n) => Number.isNaN(n) || (field.integer && !Number.isInteger(n)))];
    if (wrong !== undefined) throw new Error(`expected numbers like 20, 30, got ${wrong}`);
    return numbers;
  },
});

/** One parameter's row: label, control, reset, problem. */
class Control {
  /** @param {Field} field @param {Parameters} parameters */
  constructor(field, parameters) {
    this.field = field;
    this.parameters = parameters;
    const id = `p-${field.name}`;
    this.input = this.#makeInput(id);
    this.reset = make("button", { type: "button", className: "reset", title: `Reset ${field.label}` }, [icon("reset", `Reset ${field.label}`)]);
    this.reset.addEventListener("click", () => this.toDefault());
    this.problem = make("p", { className: "problem", id: `${id}-problem`, role: "alert" });
    this.help = make("p", { className: "sr", id: `${id}-help` }, [field.help]);
    this.input.setAttribute("aria-describedby", `${id}-help ${id}-problem`);
    this.row = make("div", { className: `field ${field.widget}`, "data-name": field.name }, [
      make("label", { htmlFor: id }, [field.label]), this.reset, ...this.#around(), this.problem,
      ...(field.help ? [this.help] : []),
    ]);
    this.row.addEventListener("dblclick", (/** @type {MouseEvent} */ event) => {
      const text = /** @type {HTMLInputElement} */ (event.target);
      if (!text.matches("textarea, input:not([type=range]), select, button")) this.toDefault();
    });
  }

  /** @param {string} id @returns {any} */
  #makeInput(id) {
    const { field } = this;
    const { minimum: min, maximum: max, step, maxLength } = field;
    const send = (/** @type {unknown} */ value) => this.#send(value);
    if (field.widget === "toggle") {
      const input = make("input", { id, type: "checkbox", role: "switch" });
      input.addEventListener("change", () => send(input.checked));
      return input;
    }
    if (field.widget === "select") {
      const options = field.nullable ? [null, ...field.options.filter((o) => o !== null)] : field.options;
      const texts = options.map((option, i) => make("option", { value: String(i) }, [option === null ? "auto" : String(option)]));
      const input = make("select", { id }, texts);
      input.addEventListener("change", () => send(options[Number(input.value)]));
      return Object.assign(input, { options_: options });
    }
    if (["slider", "number", "seed"].includes(field.widget)) {
      const bounds = field.widget === "seed" ? { min, max } : { min, max, step: field.integer ? step : "any" };
      const input = make("input", { id, type: "number", inputMode: field.integer ? "numeric" : "decimal", ...bounds });
      if (field.nullable) input.placeholder = "auto";
      input.addEventListener("change", () => {
        if (input.value !== "") send(Number(input.value));
        else if (field.nullable) send(null);
        else this.show();
      });
      return input;
    }
    const rows = field.widget === "text" ? 2 : 1;
    const input = make("textarea", { id, rows, maxLength, spellcheck: false });
    if (field.nullable) input.placeholder = "auto";
    input.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      input.dispatchEvent(new Event("change"));
    });
    input.addEventListener("change", () => {
      try {
        send(field.widget === "text" ? input.value : listText(field).read(input.value));
      } catch (error) {
        this.problem.textContent = /** @type {Error} */ (error).message;
        input.setAttribute("aria-invalid", "true");
      }
    });
    return input;
  }

  /** What stands in the row besides the labelled input. @returns {Node[]} */
  #around() {
    const { field, input } = this;
    if (field.widget === "slider") {
      this.range = make("input", { type: "range", min: field.minimum, max: field.maximum, step: field.step, "aria-label": field.label });
      this.range.addEventListener("input", () => this.#send(Number(this.range.value)));
      return [input, this.range];
    }
    if (field.widget === "seed") {
      const dice = make("button", { type: "button", className: "quiet", title: "Another seed" }, [icon("dice", "Another seed")]);
      dice.addEventListener("click", () => {
        const [low, high] = [field.minimum ?? 0, Math.min(field.maximum ?? 2 ** 31 - 1, 2 ** 31 - 1)];
        this.#send(Math.floor(low + Math.random() * (high - low + 1)));
      });
      return [make("span", { className: "together" }, [input, dice])];
    }
    return [input];
  }

  /** @param {unknown} value */
  #send(value) {
    const { name, integer } = this.field;
    if (typeof value === "number" && integer) value = Math.round(value);
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
    const { field, input, parameters, row } = this;
    const value = /** @type {any} */ (parameters.value(field.name));
    const pending = parameters.pending.get(field.name);
    const problem = parameters.problems.get(field.name) ?? "";
    row.classList.toggle("changed", this.changed);
    row.classList.toggle("pending", pending !== undefined && pending.stage !== "refused");
    this.reset.hidden = !this.changed;
    if (this.problem.textContent !== problem) this.problem.textContent = problem;
    input.setAttribute("aria-invalid", String(problem !== ""));
    if (field.widget === "toggle") input.checked = Boolean(value);
    else if (field.widget === "select") {
      input.value = String(input.options_.findIndex((/** @type {unknown} */ o) => same(o, value ?? null)));
    } else if (this.range || field.widget === "number" || field.widget === "seed") {
      this.#showNumber(value, forced);
    } else if (document.activeElement !== input || forced) {
      input.value = field.widget === "text" ? (value ?? "") : listText(field).show(value);
    }
  }

  /** @param {number | null | undefined} value @param {boolean} forced */
  #showNumber(value, forced) {
    const text = value == null ? "" : String(Number(value.toFixed(6)));
    if (this.range && value != null) {
      this.range.value = text;
      const { minimum = 0, maximum = 1 } = this.field;
      this.range.style.setProperty("--at", String((value - minimum) / (maximum - minimum)));
    }
    if (document.activeElement !== this.input || forced) this.input.value = text;
  }
}

/** The drawer's form. */
export class Form {
  /** @type {Control[]} */
  controls = [];
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
  }

  #draw() {
    const fields = readSchema(this.parameters.schema).filter((field) => !this.elsewhere(field));
    this.controls = fields.map((field) => new Control(field, this.parameters));
    const rank = (/** @type {string} */ name) => (GROUPS.indexOf(name) + 1 || (FOLDED.has(name) ? 99 : 50));
    const groups = [...new Set(fields.map((field) => field.group))].sort((a, b) => rank(a) - rank(b));
    this.root.replaceChildren(
      ...groups.map((group) => {
        const rows = this.controls.filter((control) => control.field.group === group).map((control) => control.row);
        const name = group[0].toUpperCase() + group.slice(1);
        return make("details", { open: !FOLDED.has(group) }, [make("summary", {}, [name]), ...rows]);
      }),
    );
  }
}
