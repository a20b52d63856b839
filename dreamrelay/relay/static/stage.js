/** Where the pictures are: the input as an inset, side by side, under a wipe, or not at all; and full screen. */

import { memory } from "./dom.js";

const NAMES = { inset: "inset", side: "side by side", wipe: "wipe", output: "output only" };
const LAYOUTS = Object.keys(NAMES);
const WIPE_STEP = 0.02;
const CORNERS = ["top-left", "top-right", "bottom-right", "bottom-left"];
const IDLE_MS = 3000;

/** Events: `layout` (the input may be shown or hidden now). */
export class Stage extends EventTarget {
  /**
   * @param {HTMLElement} root
   * @param {HTMLElement} input @param {HTMLElement} output the two panes
   * @param {HTMLElement} handle of the wipe
   */
  constructor(root, input, output, handle) {
    super();
    this.root = root;
    this.handle = handle;
    this.panes = { input, output };
    this.layout = memory.get("layout") ?? "inset";
    this.corner = memory.get("corner") ?? "top-right";
    this.swapped = false;
    for (const pane of [input, output]) this.#insetControls(pane);
    this.#wipeControls();
    this.#wipe(0.5);
    this.#show();
  }

  /** Whether the input is to be seen at all. */
  get showsInput() {
    return this.layout !== "output" || this.swapped;
  }

  next() {
    this.layout = LAYOUTS[(LAYOUTS.indexOf(this.layout) + 1) % LAYOUTS.length];
    this.swapped = false;
    memory.set("layout", this.layout);
    this.#show();
    return NAMES[/** @type {keyof NAMES} */ (this.layout)];
  }

  swap() {
    this.swapped = !this.swapped;
    this.#show();
  }

  /** The projector's black: no picture, while all goes on behind it. @param {boolean} [on] the other of the two, if not given @returns {boolean} */
  black(on = !this.root.classList.contains("black")) {
    return this.root.classList.toggle("black", on);
  }

  #show() {
    if (!LAYOUTS.includes(this.layout)) this.layout = "inset";
    if (!CORNERS.includes(this.corner)) this.corner = "top-right";
    const { root, panes, layout } = this;
    Object.assign(root.dataset, { layout, corner: this.corner });
    root.classList.toggle("swapped", this.swapped);
    this.handle.hidden = layout !== "wipe";
    const small = layout === "inset" ? (this.swapped ? panes.output : panes.input) : null;
    for (const pane of [panes.input, panes.output]) {
      const isSmall = pane === small;
      pane.classList.toggle("small", isSmall);
      pane.tabIndex = isSmall ? 0 : -1;
      if (isSmall) pane.title = "Click swaps, drag moves to another corner";
      else pane.removeAttribute("title");
    }
    this.dispatchEvent(new Event("layout"));
  }

  /** Click or Enter swaps, dragging or the arrow keys move to another corner. @param {HTMLElement} pane */
  #insetControls(pane) {
    const isSmall = () => pane.classList.contains("small");
    /** @type {{ x: number, y: number, moved: boolean } | null} */
    let held = null;
    pane.addEventListener("pointerdown", (event) => {
      if (!isSmall() || event.button !== 0) return;
      held = { x: event.clientX, y: event.clientY, moved: false };
      pane.setPointerCapture(event.pointerId);
    });
    pane.addEventListener("pointermove", (event) => {
      if (!held) return;
      const [dx, dy] = [event.clientX - held.x, event.clientY - held.y];
      held.moved ||= Math.hypot(dx, dy) > 8;
      if (held.moved) pane.style.translate = `${dx}px ${dy}px`;
    });
    const drop = (/** @type {PointerEvent} */ event) => {
      if (!held) return;
      pane.style.translate = "";
      if (!held.moved && event.type === "pointerup") this.swap();
      else if (event.type === "pointerup") {
        const box = this.root.getBoundingClientRect();
        this.#move(event.clientX < box.x + box.width / 2, event.clientY < box.y + box.height / 2);
      }
      held = null;
    };
    pane.addEventListener("pointerup", drop);
    pane.addEventListener("pointercancel", drop);
    pane.addEventListener("keydown", (event) => {
      if (!isSmall() || event.target !== pane) return;
      const [top, left] = [this.corner.startsWith("top"), this.corner.endsWith("left")];
      if (event.key === "Enter") this.swap();
      else if (event.key === "ArrowLeft" || event.key === "ArrowRight") this.#move(event.key === "ArrowLeft", top);
      else if (event.key === "ArrowUp" || event.key === "ArrowDown") this.#move(left, event.key === "ArrowUp");
      else return;
      event.preventDefault();
    });
  }

  /** Input to the left of it, output to the right; the pointer, the arrows, Home and End move it. */
  #wipeControls() {
    const { handle, root } = this;
    const to = (/** @type {PointerEvent} */ event) => {
      const box = handle.parentElement?.getBoundingClientRect() ?? root.getBoundingClientRect();
      this.#wipe((event.clientX - box.left) / box.width);
    };
    handle.addEventListener("pointerdown", (event) => handle.setPointerCapture(event.pointerId));
    handle.addEventListener("pointermove", (event) => {
      if (handle.hasPointerCapture(event.pointerId)) to(event);
    });
    handle.addEventListener("keydown", (event) => {
      const far = event.shiftKey ? 5 : 1;
      const step = { ArrowLeft: -far, ArrowDown: -far, ArrowRight: far, ArrowUp: far, Home: -Infinity, End: Infinity }[event.key];
      if (step === undefined) return;
      event.preventDefault();
      this.#wipe(this.#at + step * WIPE_STEP);
    });
  }

  #at = 0.5;

  /** @param {number} at 0 is left */
  #wipe(at) {
    this.#at = Math.min(1, Math.max(0, at));
    this.root.style.setProperty("--wipe", String(this.#at));
    const percent = Math.round(this.#at * 100);
    this.handle.setAttribute("aria-valuenow", String(percent));
    this.handle.setAttribute("aria-valuetext", `${percent} % input`);
  }

  /** @param {boolean} left @param {boolean} top */
  #move(left, top) {
    this.corner = `${top ? "top" : "bottom"}-${left ? "left" : "right"}`;
    memory.set("corner", this.corner);
    this.#show();
  }
}

/**
 * In full screen, all but the pictures fades when nothing is touched for a while. Where the browser has none to give
 * (an iPhone), the picture fills the page all the same.
 */
export class FullScreen {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  constructor() {
    document.addEventListener("fullscreenchange", () => this.#fill(document.fullscreenElement !== null));
    for (const touch of ["pointermove", "pointerdown", "keydown", "focusin", "wheel"]) {
      document.addEventListener(touch, () => this.#wake(), { passive: true });
    }
  }

  toggle() {
    if (document.fullscreenElement) document.exitFullscreen();
    else if (this.on) this.#fill(false);
    else if (!document.fullscreenEnabled) this.#fill(true);
    else document.documentElement.requestFullscreen().catch(() => this.#fill(true));
  }

  get on() {
    return document.body.classList.contains("full");
  }

  /** @param {boolean} on */
  #fill(on) {
    document.body.classList.toggle("full", on);
    this.#wake();
  }

  #wake() {
    clearTimeout(this.#timer);
    document.body.classList.remove("idle");
    if (!this.on) return;
    this.#timer = setTimeout(() => document.body.classList.add("idle"), IDLE_MS);
  }
}

/**
 * Keep the page above the keyboard of a phone, where the browser lays it over the page instead of making room
 * (`interactive-widget` asks for that, and Safari does not know it).
 */
export function makeRoomForKeyboard() {
  const view = globalThis.visualViewport;
  view?.addEventListener("resize", () => {
    const covered = view.scale === 1 && view.height < innerHeight - 1;
    document.body.style.height = covered ? `${view.height}px` : "";
    if (covered) scrollTo(0, 0); // where the browser has moved it to, for the sake of the field
  });
}
