/** The image prompt: a picture that the engine takes its look from. Dropped, pasted or picked. */

import { $, announce, button, icon, make } from "./dom.js";

const LONGEST = 1024; // pixels of what is sent
const QUALITY = 0.9;

/** Events: `note` (detail: what is to be said, or null). */
export class Reference extends EventTarget {
  #thumb = make("span", { className: "thumb" }, [icon("file")]);
  #words = make("span", {}, ["none"]);
  #remove;
  #file = make("input", { type: "file", accept: "image/*", hidden: true, "aria-label": "Image prompt file" });
  #url = "";

  /** @param {HTMLElement} root @param {import("./dreamrelay.js").Relay} relay @param {string} stream */
  constructor(root, relay, stream) {
    super();
    this.root = root;
    this.relay = relay;
    this.stream = stream;
    const pick = button({ label: "Choose" }, () => this.#file.click());
    this.#remove = button({ icon: "close", label: "Remove the image prompt", quiet: true }, () => this.clear());
    this.#file.addEventListener("change", () => {
      const [file] = this.#file.files;
      this.#file.value = "";
      if (file) this.set(file);
    });
    root.append(make("h3", {}, ["Image prompt"]), this.#thumb, this.#words, pick, this.#remove, this.#file);
    root.hidden = true;
  }

  /** Whether relay and engine take one. */
  get possible() {
    return !this.root.hidden;
  }

  /** @param {Record<string, any> | null} status of the stream */
  know(status) {
    this.root.hidden = typeof status?.reference !== "boolean";
    const set = status?.reference === true;
    this.#remove.hidden = !set;
    this.#words.textContent = set ? "in force" : "none";
    if (!set) this.#picture("");
    else if (this.#url === "") this.#fetch();
  }

  /** Somebody else's picture, to be seen here too. */
  async #fetch() {
    this.#url = "-"; // asked for
    const picture = await this.relay.reference(this.stream).catch(() => null);
    if (picture && this.#url === "-") this.#picture(URL.createObjectURL(picture));
  }

  /** @param {Blob} file a picture of any kind that the browser reads */
  async set(file) {
    let small;
    try {
      small = await shrunk(file);
    } catch {
      return this.#note({ title: "This picture cannot be read", text: file instanceof File ? file.name : "" });
    }
    try {
      await this.relay.setReference(this.stream, small);
      this.#picture(URL.createObjectURL(small));
      this.#note(null);
      announce("Image prompt in force");
    } catch (error) {
      this.#refused(/** @type {import("./dreamrelay.js").RelayError} */ (error));
    }
  }

  async clear() {
    try {
      await this.relay.clearReference(this.stream);
      announce("Image prompt removed");
    } catch (error) {
      this.#refused(/** @type {import("./dreamrelay.js").RelayError} */ (error));
    }
  }

  /** @param {import("./dreamrelay.js").RelayError} error */
  #refused({ status, message }) {
    if (status === 404 || status === 405) this.root.hidden = true; // this relay knows nothing of it
    this.#note({ title: "The image prompt was not taken", text: message });
  }

  /** @param {string} url */
  #picture(url) {
    if (url === this.#url) return;
    URL.revokeObjectURL(this.#url);
    this.#url = url;
    this.#thumb.replaceChildren(url ? make("img", { src: url, alt: "" }) : icon("file"));
  }

  /** @param {import("./notices.js").Note | null} detail */
  #note(detail) {
    this.dispatchEvent(new CustomEvent("note", { detail }));
  }
}

/** Any picture as a JPEG that is not too large. @param {Blob} file */
async function shrunk(file) {
  const bitmap = await createImageBitmap(file);
  const scale = Math.min(1, LONGEST / Math.max(bitmap.width, bitmap.height));
  const canvas = Object.assign(document.createElement("canvas"), { width: Math.round(bitmap.width * scale), height: Math.round(bitmap.height * scale) });
  canvas.getContext("2d")?.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  /** @type {Blob | null} */
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", QUALITY));
  if (!blob) throw new Error("the browser could not encode the picture");
  return blob;
}

/**
 * Files that are dropped on the page or pasted into it: as the source, or as the image prompt.
 * @param {Reference} reference
 * @param {(file: File) => void} asSource
 */
export function takeFiles(reference, asSource) {
  const zones = $("drop");
  const [source, prompt] = zones.children;
  let depth = 0; // dragenter and dragleave come for each element on the way
  const hide = () => {
    depth = 0;
    zones.hidden = true;
  };
  document.addEventListener("dragenter", (event) => {
    const item = [...(event.dataTransfer?.items ?? [])].find(({ kind }) => kind === "file");
    if (!item) return;
    depth += 1;
    zones.hidden = false;
    prompt.hidden = !reference.possible || item.type.startsWith("video/");
  });
  document.addEventListener("dragleave", () => {
    depth -= 1;
    if (depth <= 0) hide();
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    const over = /** @type {Element} */ (event.target).closest("#drop > *");
    for (const zone of [source, prompt]) zone.classList.toggle("over", zone === over);
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    const asPrompt = prompt.contains(/** @type {Node} */ (event.target));
    hide();
    const file = event.dataTransfer?.files[0];
    if (!file) return;
    if (asPrompt) reference.set(file);
    else asSource(file);
  });
  document.addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])].find(({ type }) => type.startsWith("image/"));
    if (!file) return;
    event.preventDefault();
    if (reference.possible) reference.set(file);
    else asSource(file);
  });
}
