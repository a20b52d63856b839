/** Small tools that every room of the page uses. */

/** @param {string} id @returns {any} */
export const $ = (id) => document.getElementById(id);

/** @param {string} tag @param {Record<string, any>} [properties] @param {(Node | string)[]} [children] @returns {any} */
export function make(tag, properties = {}, children = []) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined) continue;
    if (name in element) /** @type {any} */ (element)[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** @param {string} name @param {string} [label] @returns {HTMLElement} */
export function icon(name, label) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  svg.setAttribute("aria-hidden", "true");
  return label ? make("span", { className: "iconed" }, [svg, make("span", { className: "sr" }, [label])]) : /** @type {any} */ (svg);
}

/**
 * A button with an icon, or with words.
 * @param {{ icon?: string, label: string, quiet?: boolean, shown?: boolean, title?: string }} look shown: the label is to be seen
 * @param {() => void} act
 * @returns {HTMLButtonElement}
 */
export function button({ icon: name, label, quiet = false, shown = !name, title }, act) {
  const content = name ? (shown ? [icon(name), label] : [icon(name, label)]) : [label];
  const made = make("button", { type: "button", className: quiet ? "quiet" : "", title: title ?? (shown ? undefined : label) }, content);
  made.addEventListener("click", act);
  return made;
}

/** Open a menu by a key, or close it, as its button does: the next Tab goes into it. @param {HTMLElement} button @param {any} menu */
export function toggleFrom(button, menu) {
  button.focus();
  menu.togglePopover?.({ source: button });
}

/** Put a text on the clipboard. @param {string} text @param {Node} [shown] where it is to be seen, to be selected instead */
export async function copy(text, shown) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without a secure page there is no clipboard to write to; selected, it is one key away.
    if (!shown) return;
    getSelection()?.selectAllChildren(shown);
    document.execCommand("copy");
  }
}

/** Hand a file to the person. @param {Blob} blob @param {string} name */
export function download(blob, name) {
  const href = URL.createObjectURL(blob);
  make("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 60_000);
}

/** A file's name with the time in it. @param {string} stream @param {string} ending */
export function fileName(stream, ending) {
  const now = new Date();
  const two = (/** @type {number} */ n) => String(n).padStart(2, "0");
  const day = `${now.getFullYear()}${two(now.getMonth() + 1)}${two(now.getDate())}`;
  return `${stream}-${day}-${two(now.getHours())}${two(now.getMinutes())}${two(now.getSeconds())}.${ending}`;
}

/** Have words read out. @param {string} text */
export function announce(text) {
  $("say").textContent = text;
  if (memory.get("aloud") !== "yes" || !("speechSynthesis" in globalThis)) return;
  speechSynthesis.cancel();
  speechSynthesis.speak(new SpeechSynthesisUtterance(text));
}

/** Small choices that outlive the page; a browser that forbids storage just forgets them. */
export const memory = {
  /** @param {string} key @returns {string | null} */
  get(key) {
    try {
      return localStorage.getItem(`dreamrelay.${key}`);
    } catch {
      return null;
    }
  },
  /** @param {string} key @param {string} value @returns {boolean} whether it will be there next time */
  set(key, value) {
    try {
      localStorage.setItem(`dreamrelay.${key}`, value);
      return true;
    } catch {
      return false;
    }
  },
};
