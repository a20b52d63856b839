/** What a worker's JSON Schema says of its parameters, and whether a value fits. No DOM here. */

/**
 * @typedef {object} Field What the schema says of one parameter.
 * @property {string} name
 * @property {string} label
 * @property {string} help
 * @property {string} group
 * @property {number} order
 * @property {"text" | "slider" | "number" | "seed" | "toggle" | "select" | "list" | "objects" | "json"} widget
 * @property {boolean} nullable
 * @property {boolean} integer
 * @property {number} [minimum]
 * @property {number} [maximum]
 * @property {number} step
 * @property {number} [maxLength]
 * @property {number} [maxItems]
 * @property {unknown[]} options
 * @property {Field[]} columns of a list of objects
 * @property {unknown} fallback the default
 */

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

/** Whether it is of objects that fit in a row. @param {any} items */
function isFlat(items) {
  const parts = Object.values(items?.properties ?? {});
  return items?.type === "object" && parts.length > 0 && parts.length <= 4 && parts.every((part) => ["string", "number", "integer", "boolean"].includes(resolve(part, items).spec.type));
}

/** @param {any} spec @returns {Field["widget"]} */
function widgetOf(spec) {
  const bounded = (spec.minimum ?? spec.exclusiveMinimum) !== undefined && (spec.maximum ?? spec.exclusiveMaximum) !== undefined;
  const numeric = spec.type === "number" || spec.type === "integer";
  const fits = {
    text: spec.type === "string", slider: numeric && bounded, number: numeric, seed: numeric,
    toggle: spec.type === "boolean", select: spec.enum !== undefined,
    list: spec.type === "array" && spec.items?.type !== "object", objects: spec.type === "array" && isFlat(spec.items),
  };
  const asked = /** @type {keyof typeof fits | undefined} */ (spec.ui?.widget);
  if (asked && fits[asked]) return asked;
  if (fits.select) return "select";
  if (fits.toggle) return "toggle";
  if (numeric) return bounded ? "slider" : "number";
  if (fits.text) return "text";
  if (fits.list && ["integer", "number", "string"].includes(spec.items?.type)) return "list";
  return fits.list && isFlat(spec.items) ? "objects" : "json";
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
      maxItems: spec.maxItems,
      columns: isFlat(spec.items) ? readSchema(spec.items) : [],
      options: spec.enum ?? [],
      fallback: spec.default,
    };
  });
  return fields.sort((a, b) => a.order - b.order);
}

/** @param {unknown} a @param {unknown} b */
export const same = (a, b) =>
  (typeof a === "number" && typeof b === "number" && Math.abs(a - b) < 1e-9) || JSON.stringify(a) === JSON.stringify(b);

/**
 * What is wrong with a value, as far as a page can say; the worker looks again. "" if nothing is.
 * @param {any} value @param {any} rule a property of the schema @param {any} schema the whole of it
 * @returns {string}
 */
export function problemOf(value, rule, schema) {
  const { spec, nullable } = resolve(rule, schema);
  if (value === null && (nullable || spec.type === "null")) return "";
  const choices = spec.anyOf ?? spec.oneOf;
  if (choices) return choices.some((/** @type {any} */ one) => problemOf(value, one, schema) === "") ? "" : "expected another kind of value";
  if (spec.enum && !spec.enum.some((/** @type {unknown} */ option) => same(option, value))) return `expected one of ${spec.enum.join(", ")}`;
  switch (spec.type) {
    case "boolean":
      return typeof value === "boolean" ? "" : "expected true or false";
    case "string":
      if (typeof value !== "string") return "expected a text";
      return value.length > (spec.maxLength ?? Infinity) ? `expected at most ${spec.maxLength} characters` : "";
    case "number":
    case "integer": {
      if (typeof value !== "number" || !Number.isFinite(value) || (spec.type === "integer" && !Number.isInteger(value))) return `expected a ${spec.type === "integer" ? "whole " : ""}number`;
      if (value < spec.minimum || value <= spec.exclusiveMinimum) return `expected at least ${spec.minimum ?? spec.exclusiveMinimum}`;
      return value > spec.maximum || value >= spec.exclusiveMaximum ? `expected at most ${spec.maximum ?? spec.exclusiveMaximum}` : "";
    }
    case "array":
      if (!Array.isArray(value)) return "expected a list";
      if (value.length > (spec.maxItems ?? Infinity) || value.length < (spec.minItems ?? 0)) return "expected another number of entries";
      return value.map((item) => (spec.items ? problemOf(item, spec.items, schema) : "")).find(Boolean) ?? "";
    case "object": {
      if (typeof value !== "object" || Array.isArray(value)) return "expected an object";
      const properties = spec.properties ?? {};
      const missing = (spec.required ?? []).find((/** @type {string} */ name) => !(name in value));
      if (missing !== undefined) return `expected ${missing}`;
      const wrong = Object.entries(value).map(([name, inner]) => (Object.hasOwn(properties, name) ? problemOf(inner, properties[name], schema) : spec.additionalProperties === false ? `unknown: ${name}` : ""));
      return wrong.find(Boolean) ?? "";
    }
    default:
      return "";
  }
}

/**
 * Keep of some values what this schema takes.
 * @param {unknown} values as somebody's file or link says
 * @param {any} schema
 * @returns {{ values: Record<string, unknown>, left: string[] }} left: the names of what was left out
 */
export function fitting(values, schema) {
  /** @type {{ values: Record<string, unknown>, left: string[] }} */
  const kept = { values: {}, left: [] };
  if (typeof values !== "object" || values === null || Array.isArray(values)) return kept;
  for (const [name, value] of Object.entries(values)) {
    const rule = Object.hasOwn(schema?.properties ?? {}, name) ? schema.properties[name] : undefined;
    if (rule && problemOf(value, rule, schema) === "") kept.values[name] = value;
    else kept.left.push(name);
  }
  return kept;
}

/** A control's value as text, and back. @param {Field} field */
export const listText = (field) => ({
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
