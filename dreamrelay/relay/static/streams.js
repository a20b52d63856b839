/** The list of streams: pick one, or open another by its name. */

import { button, make } from "./dom.js";
import { STAND_IN } from "./states.js";

const EVERY_MS = 2000;
const NAME = "[A-Za-z0-9_.\\-]{1,64}";

export class StreamsList {
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #clock;
  #list = make("ul");
  #words = make("p", { className: "quiet" });

  /**
   * @param {HTMLElement} root a popover
   * @param {import("./dreamrelay.js").Relay} relay
   * @param {string} present
   */
  constructor(root, relay, present) {
    this.relay = relay;
    this.present = present;
    const name = make("input", { id: "other-stream", pattern: NAME, maxLength: 64, placeholder: "another", required: true, autocomplete: "off", spellcheck: false });
    const form = make("form", {}, [make("label", { className: "sr", htmlFor: "other-stream" }, ["Name of a stream"]), name, make("button", { type: "submit" }, ["Open"])]);
    form.addEventListener("submit", (/** @type {Event} */ event) => {
      event.preventDefault();
      this.open(name.value);
    });
    root.append(make("h2", {}, ["Streams"]), this.#list, this.#words, form);
    root.addEventListener("toggle", () => {
      clearInterval(this.#clock);
      if (!root.matches(":popover-open")) return;
      this.#load();
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
      const streams = await this.relay.streams();
      this.#words.textContent = streams.length === 0 ? "None yet: a stream is made by whoever names it first." : "";
      const focused = this.#list.contains(document.activeElement) ? document.activeElement?.textContent : "";
      this.#list.replaceChildren(...streams.map((status) => make("li", {}, [this.#row(status)])));
      for (const row of this.#list.querySelectorAll("button")) if (focused && row.textContent === focused) row.focus();
    } catch (error) {
      this.#words.textContent = `The list is not to be had: ${/** @type {Error} */ (error).message}`;
    }
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
