/** What is said over the pictures and above the prompt: drawn here, worded in `states.js`. */

import { button, copy, icon, make } from "./dom.js";
import { canShareScreen } from "./source.js";

/**
 * @typedef {object} Note A line above the prompt.
 * @property {string} title
 * @property {string} [text]
 * @property {string} [command] to be typed in a terminal
 * @property {string} [link] to be copied
 * @property {string[]} [links] to be followed
 * @property {{ label: string, act: () => void }[]} [actions]
 */

/** A line to be copied. @param {string} text @param {string} [what] */
function copyLine(text, what = "") {
  const words = text.split(" "); // a command breaks between its flags; a link is cut
  const code = make("code", {}, words.length === 1 ? words : words.flatMap((word, i) => [i ? " " : "", make("span", {}, [word])]));
  const label = make("span", { className: "sr" }, [`Copy ${what || text}`]);
  const made = make("button", { type: "button", className: "quiet", title: "Copy" }, [icon("copy"), label]);
  made.addEventListener("click", async () => {
    await copy(text, code);
    made.classList.add("done");
    label.textContent = "Copied";
    setTimeout(() => made.classList.remove("done"), 1500);
  });
  return make("div", { className: "command" }, [code, made]);
}

/** Notes above the prompt: one of each room at a time, and each can be closed. */
export class Notes {
  /** @type {Map<string, HTMLElement>} */
  #shown = new Map();

  /** @param {HTMLElement} root */
  constructor(root) {
    this.root = root;
  }

  /**
   * @param {string} room whose note it is
   * @param {Note | null} note
   * @param {() => void} [closed]
   */
  say(room, note, closed = () => {}) {
    this.#shown.get(room)?.remove();
    this.#shown.delete(room);
    if (!note) return;
    const away = () => {
      this.say(room, null);
      closed();
    };
    const { title, text = "", command, link, links = [], actions = [] } = note;
    const acts = actions.map(({ label, act }) => button({ label }, () => {
      this.say(room, null);
      act();
    }));
    const box = make("div", { id: `note-${room}`, className: "note", role: "alert" }, [
      make("div", {}, [
        make("strong", {}, [title]), make("p", {}, [text]),
        ...(command ? [copyLine(command)] : []), ...(link ? [copyLine(link, "the link")] : []),
        ...links.map((href) => make("p", {}, [make("a", { href }, [href])])),
      ]),
      make("div", { className: "actions" }, [...acts, button({ icon: "close", label: "Close", quiet: true }, away)]),
    ]);
    this.#shown.set(room, box);
    this.root.append(box);
  }
}

/** What is said in a pane; drawn anew only when it changes. */
export class Notice {
  #drawn = "";

  /**
   * @param {HTMLElement} box
   * @param {(kind: string) => void} choose a source, where one is offered
   */
  constructor(box, choose) {
    this.box = box;
    this.choose = choose;
  }

  /** @param {import("./states.js").Notice | null} notice */
  show(notice) {
    const { box } = this;
    const text = JSON.stringify(notice);
    if (text === this.#drawn) return;
    const before = JSON.parse(this.#drawn || "null");
    this.#drawn = text;
    box.hidden = notice === null;
    if (notice && before && before.title === notice.title && before.command === notice.command && !notice.details) {
      const words = box.querySelector("p");
      if (words) words.textContent = notice.text ?? "";
      const bar = box.querySelector("progress");
      if (bar && typeof notice.fraction === "number") bar.value = notice.fraction;
      if ((bar !== null) === (notice.fraction !== undefined) && (!bar || bar.hasAttribute("value") === (notice.fraction !== null))) return;
    }
    if (!notice) return box.replaceChildren();
    const { title, text: words, command, fraction, details, invite, token } = notice;
    box.classList.toggle("whisper", notice.aside === true);
    box.replaceChildren(
      make("h2", {}, [title]),
      ...(invite && !notice.aside ? [this.#offers()] : []),
      make("p", { className: invite && !notice.aside ? "aside" : "" }, [words ?? ""]),
      ...(invite && notice.aside ? [this.#offers()] : []),
      ...(fraction === undefined ? [] : [make("progress", { ...(fraction !== null && { value: fraction }), max: 1, "aria-label": title })]),
      ...(command ? [copyLine(command)] : []),
      ...(token ? [tokenForm()] : []),
      ...(details ? [make("details", {}, [make("summary", {}, ["Details"]), make("pre", {}, [details])])] : []),
    );
  }

  #offers() {
    const offers = [["camera", "Camera"], ...(canShareScreen ? [["screen", "Screen"]] : []), ["file", "File"], ["card", "Test card"]];
    return make("div", { className: "invite" }, offers.map(([kind, label]) => button({ icon: kind, label, shown: true }, () => this.choose(kind))));
  }
}

/** Where a token can be typed: the page comes again with it. */
function tokenForm() {
  const input = make("input", { id: "token", type: "password", autocomplete: "off", required: true, placeholder: "Token" });
  const form = make("form", { className: "command" }, [make("label", { className: "sr", htmlFor: "token" }, ["Token"]), input, make("button", { type: "submit" }, ["Open"])]);
  form.addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    const address = new URL(location.href);
    address.searchParams.set("token", input.value.trim());
    location.replace(address);
  });
  return form;
}
