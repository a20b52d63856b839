/** What viewers are shown while no results come: the choice of the stream, made here for everybody. */

import { make } from "./dom.js";

/** The relay's words, and those for people: as short as what the chip says then. */
const CHOICES = { hold: "last picture", pass: "camera as it is", slate: "slate" };
const HELP = "What everybody sees once results have stopped and the last picture was held for a while.";

export class WhenLost {
  #chosen = "";
  #asking = false;

  /**
   * @param {HTMLElement} root a row of the drawer
   * @param {import("./dreamrelay.js").Relay} relay
   * @param {string} stream
   * @param {HTMLElement} hint explains the control that is pointed at
   */
  constructor(root, relay, stream, hint) {
    this.relay = relay;
    this.stream = stream;
    const options = Object.entries(CHOICES).map(([value, text]) => make("option", { value }, [text]));
    this.select = make("select", { id: "when-lost", disabled: true, "aria-describedby": "when-lost-help when-lost-problem" }, options);
    this.problem = make("p", { className: "problem", id: "when-lost-problem", role: "alert" });
    root.append(
      make("label", { htmlFor: "when-lost" }, ["When results stop"]), this.select, this.problem,
      make("p", { className: "sr", id: "when-lost-help" }, [HELP]),
    );
    this.select.addEventListener("change", () => this.#choose(this.select.value));
    for (const event of ["focusin", "pointerover"]) root.addEventListener(event, () => (hint.textContent = HELP));
  }

  /** @param {Record<string, any> | null} status the relay's last one; null: there is no relay */
  know(status) {
    this.select.disabled = !(status?.when_lost in CHOICES);
    if (this.select.disabled) return;
    this.#chosen = status?.when_lost;
    if (!this.#asking) this.select.value = this.#chosen;
  }

  /** @param {string} word */
  async #choose(word) {
    let problem = "";
    this.#asking = true;
    try {
      this.#chosen = (await this.relay.fallBack(this.stream, { when_lost: word })).when_lost;
    } catch (error) {
      problem = /** @type {Error} */ (error).message;
    }
    this.#asking = false;
    this.problem.textContent = problem;
    this.select.value = this.#chosen;
  }
}
