/** The source menu: which camera, screen, file or card goes in, which microphone listens, and what went wrong. */

import { $, make, memory, toggleFrom } from "./dom.js";
import { canShareScreen } from "./source.js";
import { describeTrouble } from "./states.js";

const ICONS = { camera: "camera", screen: "screen", file: "file", card: "card" };
const NAMES = { camera: "Camera", screen: "Screen", file: "File", card: "Test card" };

export class SourceMenu {
  #menu = $("source-menu");

  /**
   * @param {import("./source.js").Source} source
   * @param {import("./voice.js").Voice} voice
   * @param {import("./notices.js").Notes} notes
   */
  constructor(source, voice, notes) {
    this.source = source;
    this.voice = voice;
    this.notes = notes;
    const menu = this.#menu;
    for (const entry of menu.querySelectorAll("[data-source]")) entry.addEventListener("click", () => this.choose(entry.dataset.source));
    $("file").addEventListener("change", () => {
      const [file] = $("file").files;
      if (file) source.file(file);
      $("file").value = "";
    });
    $("cameras").addEventListener("change", () => {
      memory.set("camera", $("cameras").value);
      source.camera($("cameras").value);
    });
    source.mirror = $("mirror").checked = memory.get("mirror") === "yes";
    $("mirror").addEventListener("change", () => {
      source.mirror = $("mirror").checked;
      memory.set("mirror", source.mirror ? "yes" : "");
    });
    voice.deviceId = memory.get("microphone") ?? "";
    $("microphones").addEventListener("change", () => {
      voice.deviceId = $("microphones").value;
      memory.set("microphone", voice.deviceId);
      voice.stop();
    });
    menu.querySelector("[data-source=screen]").hidden = !canShareScreen;
    menu.addEventListener("beforetoggle", () => this.#place());
    menu.addEventListener("toggle", () => this.#devices());
    navigator.mediaDevices?.addEventListener("devicechange", () => this.#devices());
    source.addEventListener("change", () => this.#show());
    voice.addEventListener("change", () => (menu.querySelector("[data-source=microphone] span").textContent = voice.stage === "off" ? "Microphone" : "Stop listening"));
    voice.addEventListener("trouble", (event) => this.#trouble("voice", /** @type {CustomEvent} */ (event).detail));
  }

  toggle() {
    toggleFrom($("source-button"), this.#menu);
  }

  /** @param {string} kind */
  choose(kind) {
    const { source, voice } = this;
    this.#menu.hidePopover?.();
    if (kind === "camera") source.camera(memory.get("camera") ?? undefined);
    else if (kind === "screen") source.screen();
    else if (kind === "file") $("file").click();
    else if (kind === "card") source.card();
    else if (kind === "microphone") {
      voice.press();
      voice.release(); // as a short press: it listens on
    } else source.stop();
  }

  /** Over the prompt, wherever that is and however many lines it has. */
  #place() {
    const { top, left } = $("prompt-form").getBoundingClientRect();
    Object.assign(this.#menu.style, { bottom: `${innerHeight - top + 8}px`, left: `${left}px`, maxHeight: `${top - 16}px` });
  }

  async #devices() {
    const { source, voice } = this;
    const option = (/** @type {MediaDeviceInfo} */ device) => make("option", { value: device.deviceId }, [device.label]);
    const cameras = await source.cameras();
    $("cameras").replaceChildren(...cameras.map(option));
    if (source.kind === "camera") $("cameras").value = source.deviceId;
    $("cameras").hidden = cameras.length < 2;
    $("camera-options").hidden = source.kind !== "camera" && cameras.length < 2;
    const microphones = await voice.devices();
    $("microphones").replaceChildren(...microphones.map(option));
    $("microphones").value = voice.deviceId || microphones[0]?.deviceId;
    $("microphones").hidden = microphones.length < 2;
  }

  #show() {
    const { source } = this;
    const { kind } = source;
    $("sending").hidden = kind === null;
    $("sending").classList.toggle("waiting", !source.onAir);
    $("source-label").textContent = kind ? NAMES[kind] : "Source";
    $("source-button").setAttribute("aria-label", kind ? `Source: ${NAMES[kind]}, sending` : "Source");
    $("source-button").title = kind ? `Sending: ${source.label}` : "Source (S)";
    $("source-icon").setAttribute("href", `#i-${kind ? ICONS[kind] : "camera"}`);
    this.#menu.querySelector("[data-source=stop]").hidden = kind === null;
    for (const entry of this.#menu.querySelectorAll("[data-source]")) entry.setAttribute("aria-current", String(entry.dataset.source === kind));
    this.#trouble("source", source.trouble);
  }

  #said = "";

  /** @param {"source" | "voice"} room @param {{ code: string, kind: string, text: string } | null} trouble */
  #trouble(room, trouble) {
    const { source, notes } = this;
    if (room === "source") {
      const said = JSON.stringify([trouble, source.kind]);
      if (said === this.#said) return;
      this.#said = said;
    }
    if (!trouble) return notes.say(room, null);
    const local = `http://localhost:${location.port || 80}${location.pathname}${location.search}`;
    const { title, text, links, retry } = describeTrouble(trouble, { local, secure: location.href.replace(/^http:/, "https:") });
    const actions = [
      ...(retry ? [{ label: "Try again", act: () => this.choose(trouble.kind) }] : []),
      ...(trouble.code === "off-air" ? [{ label: "Take over", act: () => source.takeAir() }] : []),
      ...(room === "source" && source.kind === null ? [{ label: "Test card", act: () => this.choose("card") }] : []),
    ];
    notes.say(room, { title, text, links, actions }, () => room === "source" && source.dismiss());
  }
}
