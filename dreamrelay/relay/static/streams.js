/** The list of streams: pick one, find one by a part of its name, or open another. */

import { button, make } from "./dom.js";
import { STAND_IN } from "./states.js";

const EVERY_MS = 2000;
const NAME = "[A-Za-z0-9_.\\-]{1,64}";

export class StreamsList {
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #clock;
  #list = make("ul");
  #words = make("p", { className: "quiet" });
  #name;
  /** As the relay last said. @type {Record<string, any>[]} */
  #streams = [];

  /**
   * @param {HTMLElement} root a popover
   * @param {import("./dreamrelay.js").Relay} relay
   * @param {string} present
   */
  constructor(root, relay, present) {
    this.relay = relay;
    this.present = present;
    const name = make("input", { id: "other-stream", pattern: NAME, maxLength: 64, placeholder: "find, or name another", required: true, autocomplete: "off", spellcheck: false });
    this.#name = name;
    name.addEventListener("input", () => this.#show());
    const form = make("form", {}, [make("label", { className: "sr", htmlFor: "other-stream" }, ["Name of a stream"]), name, make("button", { type: "submit" }, ["Open"])]);
    form.addEventListener("submit", (/** @type {Event} */ event) => {
      event.preventDefault();
      this.open(name.value);
    });
    root.append(make("div", { className: "head" }, [make("h2", {}, ["Streams"]), form]), this.#list, this.#words);
    root.addEventListener("toggle", () => {
      clearInterval(this.#clock);
      if (!root.matches(":popover-open")) return;
      name.value = "";
      this.#load().then(() => this.#list.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" }));
      this.#clock = setInterval(() => this.#load(), EVERY_MS);
    });
  }

  /** @param {string} name */
  open(name) {
    const address = new URL(location.href);
    address.searchParams.set("stream", name);
    address.hash = "";
    if (name !== this.present) location.assign(address);
  }

  async #load() {
    try {
      const order = (/** @type {any} */ a, /** @type {any} */ b) => a.stream.localeCompare(b.stream, "en", { numeric: true });
      this.#streams = (await this.relay.streams()).sort(order);
      this.#show();
    } catch (error) {
      this.#words.textContent = `The list is not to be had: ${/** @type {Error} */ (error).message}`;
    }
  }

  #show() {
    const part = this.#name.value.trim().toLowerCase();
    const found = this.#streams.filter(({ stream }) => stream.toLowerCase().includes(part));
    const none = part ? "None is called so: Open makes it." : "None yet: a stream is made by whoever names it first.";
    this.#words.textContent = found.length === 0 ? none : "";
    const focused = this.#list.contains(document.activeElement) ? document.activeElement?.firstChild?.textContent : "";
    this.#list.replaceChildren(...found.map((status) => make("li", {}, [this.#row(status)])));
    for (const row of this.#list.querySelectorAll("button")) if (focused && row.firstChild?.textContent === focused) row.focus();
  }

  /** @param {Record<string, any>} status */
  #row({ stream, state, stand_in, held, fps_out, viewers }) {
    const shown = STAND_IN.get(stand_in)?.chip ?? (held ? "held" : "");
    const facts = [state, shown, fps_out > 0 ? `${Math.round(fps_out)} fps` : "", `${viewers} watching`].filter(Boolean).join(" · ");
    const made = button({ label: stream }, () => this.open(stream));
    made.replaceChildren(make("span", {}, [stream]), make("small", {}, [facts]));
    if (stream === this.present) made.setAttribute("aria-current", "true");
    return made;
  }
}
