/** What viewers are shown while no results come: the choice of the stream, made here for everybody. */

import { make } from "./dom.js";

/** The relay's words, and those for people: as short as what the chip says then. */
const CHOICES = { hold: "last picture", pass: "camera as it is", slate: "slate" };
const HELP = "What everybody sees once results have stopped and the last picture was held for a while.";
const HELP_AFTER = "Seconds that the last picture is held for before something else is shown.";
const LONGEST = 3600; // seconds, as the relay has it

export class WhenLost {
  #chosen = { when_lost: "", hold_seconds: 0 };
  #asking = 0;

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
    const bounds = { min: 0, max: LONGEST, step: "any", inputMode: "decimal" };
    this.seconds = make("input", { id: "hold-seconds", type: "number", ...bounds, "aria-describedby": "hold-seconds-help when-lost-problem" });
    this.after = make("label", { className: "after", htmlFor: "hold-seconds", hidden: true }, ["after so many seconds", this.seconds]);
    this.problem = make("p", { className: "problem", id: "when-lost-problem", role: "alert" });
    root.append(
      make("label", { htmlFor: "when-lost" }, ["When results stop"]), this.select, this.after, this.problem,
      make("p", { className: "sr", id: "when-lost-help" }, [HELP]), make("p", { className: "sr", id: "hold-seconds-help" }, [HELP_AFTER]),
    );
    this.select.addEventListener("change", () => this.#choose({ when_lost: this.select.value }));
    this.seconds.addEventListener("change", () => {
      const fits = this.seconds.value !== "" && this.seconds.checkValidity();
      if (fits) return this.#choose({ hold_seconds: Number(this.seconds.value) });
      this.problem.textContent = `expected 0 to ${LONGEST} seconds`;
      this.#show();
    });
    for (const event of ["focusin", "pointerover"]) {
      root.addEventListener(event, ({ target }) => (hint.textContent = this.after.contains(/** @type {Node} */ (target)) ? HELP_AFTER : HELP));
    }
  }

  /** @param {Record<string, any> | null} status the relay's last one; null: there is no relay */
  know(status) {
    this.select.disabled = !(status?.when_lost in CHOICES);
    if (!status || this.select.disabled || this.#asking > 0) return;
    const { when_lost, hold_seconds } = status;
    this.#chosen = { when_lost, hold_seconds };
    this.#show(document.activeElement === this.seconds);
  }

  /** @param {{ when_lost?: string, hold_seconds?: number }} choice */
  async #choose(choice) {
    let problem = "";
    this.#asking += 1;
    try {
      this.#chosen = await this.relay.fallBack(this.stream, choice);
    } catch (error) {
      problem = /** @type {Error} */ (error).message;
    }
    this.#asking -= 1;
    this.problem.textContent = problem;
    this.#show();
  }

  /** A picture that stays needs no time to go. @param {boolean} [typing] somebody writes a time */
  #show(typing = false) {
    const { when_lost, hold_seconds } = this.#chosen;
    this.select.value = when_lost;
    this.after.hidden = when_lost === "hold" || hold_seconds === undefined; // an older relay does not say it
    if (!typing) this.seconds.value = String(hold_seconds);
  }
}
