/** The two pictures of the stage: who paints them, how old they are, and where their time went. */

import { Connection, Fallback, FlashGuard, Painter, nowMs } from "./dreamrelay.js";
import { spans } from "./latency.js";
import { Shown } from "./shown.js";

/** @typedef {import("./dreamrelay.js").Packet} Packet */
/** @typedef {import("./dreamrelay.js").Track} Track */

const AGES = 30;

/** Events: `first` (a pane has a picture now), `output` (detail: the packet painted), `change` (another map or fallback). */
export class Pictures extends EventTarget {
  /** Whether the input's pane shows the map that steers the picture instead. */
  mapShown = false;

  #viewer;
  #stage;
  #seenAt;
  #options;
  #painters;
  /** Credit for the input that waits while the input is not to be seen. @type {(() => void) | null} */
  #owed = null;
  /** Ages of the last pictures when they were painted. @type {number[]} */
  #ages = [];
  /** @type {Connection | null} */
  #map = null;
  #shown;

  /**
   * @param {Connection} viewer of both tracks
   * @param {import("./stage.js").Stage} stage
   * @param {(capturedNs: bigint) => number | undefined} seenAt when this page got a picture of its own
   * @param {{ stream: string, token?: string }} options of further connections
   */
  constructor(viewer, stage, seenAt, options) {
    super();
    this.#viewer = viewer;
    this.#stage = stage;
    this.#seenAt = seenAt;
    this.#options = options;
    this.#shown = new Shown(viewer, "studio");
    const canvas = (/** @type {HTMLElement} */ pane) => /** @type {HTMLCanvasElement} */ (pane.querySelector("canvas"));
    this.#painters = { input: new Painter(canvas(stage.panes.input)), output: new Painter(canvas(stage.panes.output)) };
    this.fallback = new Fallback(this.#painters.output, viewer, "output", options);
    this.fallback.addEventListener("change", () => {
      stage.panes.output.classList.toggle("empty", !this.fallback.shown && this.output === null);
      this.dispatchEvent(new Event("change"));
    });
    viewer.addEventListener("packet", (event) => this.#sort(/** @type {CustomEvent<Packet>} */ (event).detail));
    stage.addEventListener("layout", () => this.#release());
    this.#painters.input.addEventListener("paint", () => this.#painted("input"));
    this.#painters.output.addEventListener("paint", () => this.#painted("output"));
  }

  /** The output that is to be seen. @returns {Packet | null} */
  get output() {
    return this.#painters.output.packet;
  }

  /** @param {"input" | "output"} track */
  has(track) {
    return !this.#stage.panes[track].classList.contains("empty");
  }

  /** What the last camera left is no input any more. */
  forgetInput() {
    this.#stage.panes.input.classList.add("empty");
  }

  /** @param {boolean} on */
  guard(on) {
    for (const painter of Object.values(this.#painters)) painter.guard = on ? new FlashGuard() : null;
  }

  /** Show the map in place of the input, or the input again. */
  toggleMap() {
    this.mapShown = !this.mapShown;
    this.#map?.close();
    this.#map = null;
    this.forgetInput();
    if (this.mapShown) {
      this.#map = new Connection({ ...this.#options, role: "viewer", track: "control", name: "studio" });
      this.#map.addEventListener("packet", (event) => {
        const map = this.#map;
        this.#painters.input.offer(/** @type {CustomEvent<Packet>} */ (event).detail, () => map?.give());
      });
    } else this.#release();
    this.dispatchEvent(new Event("change"));
  }

  /** Milliseconds since the output was taken, now and usually; null while that has no meaning. */
  get age() {
    const packet = this.output;
    if (!packet || this.#ages.length === 0) return null;
    const now = this.#ageOf(packet);
    return { now, usual: [...this.#ages].sort((a, b) => a - b)[this.#ages.length >> 1] ?? now };
  }

  /** No camera took what comes now. */
  forgetAges() {
    this.#ages.length = 0;
    this.#shown.forget();
  }

  /** @param {Packet} packet */
  #sort(packet) {
    const done = () => this.#viewer.give(packet.track);
    if (packet.track === "input" && (this.mapShown || !this.#stage.showsInput)) this.#owed = done;
    else if (packet.track !== "control") this.#painters[packet.track].offer(packet, done);
  }

  #release() {
    if (!this.#stage.showsInput || this.mapShown || !this.#owed) return;
    this.#owed();
    this.#owed = null;
  }

  /** @param {"input" | "output"} track */
  #painted(track) {
    const { canvas, packet } = this.#painters[track];
    const pane = this.#stage.panes[track];
    const ratio = String(canvas.width / canvas.height);
    pane.style.setProperty("--ratio", ratio);
    if (track === "output") this.#stage.root.style.setProperty("--ratio", ratio);
    if (pane.classList.contains("empty")) {
      pane.classList.remove("empty");
      this.dispatchEvent(new Event("first"));
    }
    if (track !== "output" || !packet) return;
    if (!packet.standIn) this.#ages.push(this.#ageOf(packet));
    if (this.#ages.length > AGES) this.#ages.shift();
    this.#shown.add(packet);
    this.dispatchEvent(new CustomEvent("output", { detail: packet }));
  }

  /** Where the time of a picture went that is being painted now. @param {Packet} packet */
  spans(packet) {
    return spans(packet, { paintedMs: nowMs(), offset: this.#viewer.clockOffset ?? 0, seenMs: this.#seenAt(packet.capturedNs) });
  }

  /** Milliseconds since the picture was taken. @param {Packet} packet */
  #ageOf(packet) {
    const captured = Number(packet.capturedNs) / 1e6;
    return Math.max(0, nowMs() + (this.#viewer.clockOffset ?? 0) - captured);
  }
}
