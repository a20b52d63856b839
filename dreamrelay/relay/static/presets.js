/** Nine looks per stream, kept in this browser; as a file, and as a link. */

import { announce, button, copy, download, fileName, make, memory } from "./dom.js";
import { fitting, same } from "./schema.js";

/** @typedef {{ values: Record<string, unknown>, thumb: string }} Preset */

const SLOTS = 9;
const THUMB = 96; // pixels
const FORMAT = "dreamrelay presets 1";
const MAX_FILE = 1 << 20; // bytes
const MAX_THUMB = 40_000; // characters

/** What holds in place of another one as long as it is there. @type {Record<string, string>} */
const INSTEAD = { prompt: "prompts", seed: "seeds" };

/** The values of a link, as a fragment: `#strength=0.4&prompt="a fox"`. @param {Record<string, unknown>} values */
export const toFragment = (values) =>
  Object.entries(values).map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(JSON.stringify(value))}`).join("&");

/** @param {string} fragment with or without its # @returns {Record<string, unknown>} what is no JSON is left out */
export function fromFragment(fragment) {
  /** @type {Record<string, unknown>} */
  const values = {};
  for (const pair of fragment.replace(/^#/, "").split("&").slice(0, 256)) {
    const at = pair.indexOf("=");
    if (at < 1) continue;
    try {
      values[decodeURIComponent(pair.slice(0, at))] = JSON.parse(decodeURIComponent(pair.slice(at + 1)));
    } catch {
      // Not one of ours.
    }
  }
  return values;
}

/** @param {unknown} kept as storage or a file says @returns {(Preset | null)[]} nine */
export function readPresets(kept) {
  const list = Array.isArray(kept) ? kept : [];
  return Array.from({ length: SLOTS }, (_, i) => {
    const { values, thumb = "" } = list[i] ?? {};
    if (typeof values !== "object" || values === null || Array.isArray(values)) return null;
    const picture = typeof thumb === "string" && thumb.length <= MAX_THUMB && /^data:image\/jpeg;base64,[\w+/=]*$/.test(thumb);
    return { values, thumb: picture ? thumb : "" };
  });
}

/** Events: `note` (detail: what is to be said, or null). */
export class Presets extends EventTarget {
  /** @type {(Preset | null)[]} */
  #slots;
  #keeping = false;
  #row = make("div", { className: "slots" });
  #keep;
  #file = make("input", { type: "file", accept: ".json,application/json", hidden: true, "aria-label": "Presets file" });

  /**
   * @param {HTMLElement} root
   * @param {import("./dreamrelay.js").Parameters} parameters
   * @param {HTMLCanvasElement} picture of which a preset keeps a thumbnail
   * @param {string} stream
   */
  constructor(root, parameters, picture, stream) {
    super();
    this.root = root;
    this.parameters = parameters;
    this.picture = picture;
    this.stream = stream;
    this.#slots = readPresets(this.#stored());
    this.#keep = button({ label: "Save", title: "Then the number of the place; Shift+number does both" }, () => this.#setKeeping(!this.#keeping));
    this.#keep.setAttribute("aria-pressed", "false");
    const choose = button({ icon: "in", label: "Import from a file", quiet: true }, () => this.#file.click());
    const write = button({ icon: "out", label: "Export to a file", quiet: true }, () => this.#export());
    const share = button({ icon: "link", label: "Copy a link to these parameters", quiet: true }, () => this.#share());
    this.#file.addEventListener("change", () => this.#import());
    root.append(this.#row, make("div", { className: "actions" }, [this.#keep, share, write, choose, this.#file]));
    parameters.addEventListener("change", () => this.#mark());
    this.#draw();
  }

  /** Recall, or keep while the place is empty or Save is pressed. @param {number} number 1 to 9 */
  press(number) {
    if (this.#keeping || !this.#slots[number - 1]) this.save(number);
    else this.recall(number);
    this.#setKeeping(false);
  }

  /** @param {number} number 1 to 9 */
  recall(number) {
    const preset = this.#slots[number - 1];
    if (!preset) return announce(`Preset ${number} is empty, Shift+${number} saves`);
    const left = this.apply(preset.values);
    announce(`Preset ${number}${left.length ? `, without ${left.join(", ")}` : ""}`);
  }

  /** Have these values hold, as far as the engine takes them. @param {unknown} values @returns {string[]} what it does not */
  apply(values) {
    const { schema } = this.parameters;
    const { values: fit, left } = fitting(values, schema);
    for (const [name, list] of Object.entries(INSTEAD)) {
      if (name in fit && !(list in fit) && this.parameters.value(list)) fit[list] = null;
    }
    const patch = Object.entries(fit).filter(([name, value]) => !same(value, this.parameters.value(name)));
    if (patch.length > 0) this.parameters.set(Object.fromEntries(patch));
    return left;
  }

  /** @param {number} number 1 to 9 */
  save(number) {
    if (!this.parameters.schema) return announce("There is nothing to save yet");
    const names = Object.keys(this.parameters.schema.properties ?? {});
    const values = Object.fromEntries(names.map((name) => [name, this.#holding(name)]).filter(([, value]) => value !== undefined));
    this.#slots[number - 1] = { values, thumb: this.#thumb() };
    this.#store();
    this.#draw();
    announce(`Saved as preset ${number}`);
  }

  /** What holds or will; not what was refused. @param {string} name */
  #holding(name) {
    const { parameters } = this;
    return parameters.pending.get(name)?.stage === "refused" ? parameters.values[name] : parameters.value(name);
  }

  #thumb() {
    const { width, height } = this.picture;
    const canvas = Object.assign(document.createElement("canvas"), { width: THUMB, height: THUMB });
    const scale = THUMB / Math.min(width, height);
    canvas.getContext("2d")?.drawImage(this.picture, (THUMB - width * scale) / 2, (THUMB - height * scale) / 2, width * scale, height * scale);
    return width > 1 ? canvas.toDataURL("image/jpeg", 0.8) : "";
  }

  #stored() {
    try {
      return JSON.parse(memory.get(`presets.${this.stream}`) ?? "[]");
    } catch {
      return [];
    }
  }

  #store() {
    if (memory.set(`presets.${this.stream}`, JSON.stringify(this.#slots))) return;
    this.#note({ title: "This browser keeps nothing", text: "The presets last until the page is closed. Export them to a file." });
  }

  /** @param {boolean} on */
  #setKeeping(on) {
    this.#keeping = on;
    this.#keep.setAttribute("aria-pressed", String(on));
    this.#keep.textContent = on ? "Where?" : "Save";
  }

  #draw() {
    this.#row.replaceChildren(...this.#slots.map((preset, i) => {
      const words = preset ? String(preset.values.prompt ?? "") : "";
      const label = preset ? `Preset ${i + 1}${words && `: ${words}`}` : `Preset ${i + 1}, empty`;
      const slot = make("button", { type: "button", className: "slot", title: label, "aria-label": label }, [
        ...(preset?.thumb ? [make("img", { src: preset.thumb, alt: "" })] : []),
        make("b", {}, [String(i + 1)]),
      ]);
      slot.classList.toggle("full", preset !== null);
      slot.addEventListener("click", (/** @type {MouseEvent} */ event) => (event.shiftKey ? this.save(i + 1) : this.press(i + 1)));
      return slot;
    }));
    this.#mark();
  }

  /** Which one holds. */
  #mark() {
    this.#slots.forEach((preset, i) => {
      const holds = preset !== null && Object.entries(preset.values).every(([name, value]) => same(value, this.parameters.value(name)));
      this.#row.children[i]?.setAttribute("aria-pressed", String(holds));
    });
  }

  #export() {
    const text = JSON.stringify({ format: FORMAT, stream: this.stream, presets: this.#slots }, null, 1);
    download(new Blob([text], { type: "application/json" }), fileName(this.stream, "presets.json"));
  }

  async #import() {
    const [file] = this.#file.files;
    this.#file.value = "";
    if (!file) return;
    try {
      if (file.size > MAX_FILE) throw new Error("it is too large");
      const { format, presets } = JSON.parse(await file.text());
      if (format !== FORMAT) throw new Error(`it does not say "${FORMAT}"`);
      const read = readPresets(presets);
      this.#slots = this.#slots.map((old, i) => read[i] ?? old);
      this.#store();
      this.#draw();
      announce(`${read.filter(Boolean).length} presets imported`);
    } catch (error) {
      this.#note({ title: "These are no presets", text: `${file.name}: expected a file that this page exported, but ${/** @type {Error} */ (error).message}` });
    }
  }

  /** A link to this page with what differs from the defaults; never with a token. */
  async #share() {
    const properties = this.parameters.schema?.properties ?? {};
    const changed = Object.keys(properties).map((name) => [name, this.#holding(name)]).filter(([name, value]) => value !== undefined && !same(value, properties[name].default));
    const link = new URL(location.href);
    link.searchParams.delete("token");
    link.hash = toFragment(Object.fromEntries(changed));
    await copy(link.href);
    this.#note({ title: "Copied: a link to these parameters", link: link.href });
    announce("Link copied");
  }

  /** Offer what the page's own link carries, once the engine has said what it takes. */
  offer() {
    const values = fromFragment(location.hash);
    if (!this.parameters.schema || Object.keys(values).length === 0) return;
    history.replaceState(null, "", location.pathname + location.search);
    const { values: fit, left } = fitting(values, this.parameters.schema);
    const count = Object.keys(fit).length;
    const without = left.length ? ` Not for this model: ${left.slice(0, 8).join(", ").slice(0, 200)}.` : "";
    if (count === 0) return this.#note({ title: "The link's parameters do not fit this model", text: without });
    const use = { label: "Use", act: () => this.apply(fit) };
    this.#note({ title: `This link carries ${count} parameter${count === 1 ? "" : "s"}`, text: (fit.prompt ? `“${fit.prompt}”.` : "") + without, actions: [use] });
  }

  /** @param {import("./notices.js").Note | null} detail */
  #note(detail) {
    this.dispatchEvent(new CustomEvent("note", { detail }));
  }
}
