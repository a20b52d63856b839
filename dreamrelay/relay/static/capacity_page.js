/** The capacity page: a form made from `capacity.json`, the plan under it, both in the address. */

import { plan } from "./capacity.js";
import { $, make } from "./dom.js";

/** Rows that answer the question; the others explain them. */
const BIG = ["viewers_gbit", "relays", "cards", "added_ms", "traffic_tb"];
const PRESET_WORDS = { "living-room": "Living room", "club-night": "Club night", festival: "Festival, 5,000", internet: "Internet, 1,000,000" };

const data = await (await fetch(new URL("capacity.json", import.meta.url))).json();
const defaults = Object.fromEntries(Object.entries(data.inputs).map(([name, input]) => [name, input.default]));

/** @param {string} name @param {any} input */
function field(name, input) {
  const id = `i-${name}`;
  const described = `p-${name}`;
  const label = make("label", { htmlFor: id }, [input.words.replace(/\.$/, "")]);
  let control;
  if (input.enum) {
    const options = input.enum.map((value) => make("option", { value }, [`${data.engines[value].words}: ${data.engines[value].value} ms`]));
    control = make("select", { id, name }, options);
  } else if (input.type === "boolean") {
    control = make("input", { id, name, type: "checkbox" });
  } else {
    control = make("input", {
      id, name, type: "number", inputMode: "decimal", step: input.type === "integer" ? "1" : "any", required: input.default !== null,
      min: String(input.minimum ?? 0), max: String(input.maximum), "aria-describedby": described,
    });
  }
  return make("div", { className: input.enum ? "long" : "" }, [label, control, make("span", { id: described, className: "problem" })]);
}

/** @param {HTMLInputElement} control @param {any} input @returns {string} what is wrong with what was typed */
function problem(control, input) {
  if (control.validity.valid && !(input.exclusiveMinimum === 0 && control.value && Number(control.value) <= 0)) return "";
  return `Expected ${input.type === "integer" ? "a whole number" : "a number"} from ${control.min} to ${Number(control.max).toLocaleString("en")}.`;
}

/** @returns {Record<string, any> | undefined} the show in the form, if all of it can be read */
function read() {
  const show = { ...defaults };
  let right = true;
  for (const [name, input] of Object.entries(data.inputs)) {
    const control = $(`i-${name}`);
    if (input.enum) show[name] = control.value;
    else if (input.type === "boolean") show[name] = control.checked;
    else {
      const wrong = problem(control, input);
      $(`p-${name}`).textContent = wrong;
      control.setAttribute("aria-invalid", String(wrong !== ""));
      right &&= wrong === "";
      show[name] = control.value === "" ? null : Number(control.value);
    }
  }
  return right ? show : undefined;
}

/** @param {Record<string, any>} show */
function fill(show) {
  for (const [name, input] of Object.entries(data.inputs)) {
    const control = $(`i-${name}`);
    if (input.type === "boolean") control.checked = Boolean(show[name]);
    else control.value = show[name] === null ? "" : String(show[name]);
  }
}

/** @param {number} value @param {number} digits */
const shown = (value, digits) => value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });

/** Only what differs from the defaults. @param {Record<string, any>} show */
const changed = (show) => Object.entries(show).filter(([name, value]) => value !== defaults[name]);

function compute() {
  const show = read();
  if (!show) return;
  const found = plan(show, data);
  $("tier").textContent = data.tiers[found.tier];
  $("binds").textContent = `The first bottleneck: ${data.binds[found.binds]}`;
  $("rows").tBodies[0].replaceChildren(...data.rows.map(([name, words, unit, digits]) =>
    make("tr", { className: BIG.includes(name) ? "big" : /^[a-z]/.test(words) ? "part" : "" }, [
      make("th", { scope: "row" }, [words]), make("td", { "data-name": name }, [shown(found[name], digits)]), make("td", {}, [unit]),
    ])));
  $("notes").replaceChildren(...found.notes.map((name) => make("li", {}, [data.notes[name]])));
  const words = ["dreamrelay capacity", ...changed(show).map(([name, value]) => `--${name}=${value}`)];
  $("command").replaceChildren(...words.flatMap((word) => [make("span", {}, [word]), " "]));
  for (const button of $("presets").children) {
    const preset = { ...defaults, ...data.presets[button.dataset.preset] };
    button.setAttribute("aria-pressed", String(Object.entries(preset).every(([name, value]) => value === show[name])));
  }
  const hash = new URLSearchParams(changed(show).map(([name, value]) => [name, String(value)])).toString();
  history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
}

/** The show in the address; what does not fit is left out. */
function fromAddress() {
  const show = { ...defaults };
  for (const [name, text] of new URLSearchParams(location.hash.slice(1))) {
    const input = Object.hasOwn(data.inputs, name) ? data.inputs[name] : undefined;
    if (!input) continue;
    if (input.enum) show[name] = input.enum.includes(text) ? text : show[name];
    else if (input.type === "boolean") show[name] = text === "true";
    else if (text !== "" && Number.isFinite(Number(text))) show[name] = Number(text);
  }
  return show;
}

$("inputs").append(...Object.entries(data.inputs).map(([name, input]) => field(name, input)));
$("inputs").addEventListener("input", compute);
$("inputs").addEventListener("submit", (event) => event.preventDefault());
$("presets").append(...Object.keys(data.presets).map((name) => {
  const button = make("button", { type: "button", "data-preset": name, "aria-pressed": "false" }, [PRESET_WORDS[name] ?? name]);
  button.addEventListener("click", () => {
    fill({ ...defaults, ...data.presets[name] });
    compute();
  });
  return button;
}));
$("machine").textContent = data.machine;
$("sources").tBodies[0].replaceChildren(...[...Object.values(data.costs), ...Object.values(data.engines).map((engine) => ({ ...engine, unit: "ms" }))].map(
  (cost) => make("tr", {}, [make("th", { scope: "row" }, [cost.words]), make("td", {}, [`${cost.value} ${cost.unit}`.trim()]), make("td", {}, [cost.source])]),
));
fill(fromAddress());
compute();
addEventListener("hashchange", () => {
  fill(fromAddress());
  compute();
});
