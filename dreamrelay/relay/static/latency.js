/** Where the time of a picture goes: its stamps as named spans, and a small panel of them. */

import { make } from "./dom.js";
import { HOPS } from "./dreamrelay.js";

const REMEMBERED_MS = 10_000;
const SVG = "http://www.w3.org/2000/svg";

/** @typedef {{ name: string, ms: number, rough?: boolean }} Span rough: guessed, as two clocks do not agree */

/** What each span is, for people; in the order of a picture's way. */
export const SPANS = {
  capture: "camera to page", encode: "taken to JPEG", relay: "to the relay", queue: "until a worker is free", hand: "relay to worker",
  decode: "JPEG to pixels", wait: "until the engine is free", infer: "the engine", "encode again": "pixels to JPEG", return: "worker to relay",
  view: "relay to this page", paint: "decode and paint",
};

/**
 * Split a picture's way into spans.
 *
 * All stamps are by the relay's clock, and so is ours, by pings. Where a worker does not know that clock (a span would
 * be negative), what is left between two stamps of the relay is halved.
 * @param {import("./dreamrelay.js").Packet} packet
 * @param {object} page
 * @param {number} page.paintedMs when it was painted, by our clock
 * @param {number} page.offset the relay's clock minus ours, ms
 * @param {number} [page.seenMs] when this page got it from its camera, if it did
 * @returns {Span[]}
 */
export function spans(packet, { paintedMs, offset, seenMs }) {
  /** @type {Record<number, number>} */
  const at = {};
  for (const { hop, ns } of packet.stamps) at[hop] = Number(ns) / 1e6;
  const captured = Number(packet.capturedNs) / 1e6;
  const encoded = at[HOPS.ENCODED];
  const arrived = (packet.arrivedMs ?? paintedMs) + offset;
  /** @type {Span[]} */
  const all = [];
  const add = (/** @type {string} */ name, /** @type {number | undefined} */ from, /** @type {number | undefined} */ to) => {
    if (from === undefined || to === undefined) return;
    all.push({ name, ms: Math.max(0, to - from), ...(to < from && { rough: true }) });
  };
  if (seenMs !== undefined) add("capture", captured, seenMs + offset);
  add("encode", seenMs === undefined ? captured : seenMs + offset, encoded);
  add("relay", encoded ?? captured, at[HOPS.RELAYED]);
  const [received, reencoded, returned] = [at[HOPS.RECEIVED], at[HOPS.REENCODED], at[HOPS.RETURNED]];
  add("queue", at[HOPS.RELAYED], at[HOPS.HANDED]);
  const left = at[HOPS.HANDED] ?? at[HOPS.RELAYED];
  const foreign = received < left || returned < reencoded;
  const travel = foreign ? Math.max(0, returned - left - (reencoded - received)) / 2 : 0;
  if (foreign) all.push({ name: "hand", ms: travel, rough: true });
  else add("hand", left, received);
  add("decode", received, at[HOPS.DECODED]);
  add("wait", at[HOPS.DECODED], at[HOPS.INFER]);
  add("infer", at[HOPS.INFER], at[HOPS.INFERRED]);
  add("encode again", at[HOPS.INFERRED], reencoded);
  if (foreign) all.push({ name: "return", ms: travel, rough: true });
  else add("return", reencoded, returned);
  add("view", returned, arrived);
  add("paint", arrived, paintedMs + offset);
  return all;
}

/** Which pictures of how long the panel shows. */
const VIEWS = {
  usual: { share: 0.5, ms: 1500, text: "usual" },
  p95: { share: 0.95, ms: REMEMBERED_MS, text: "slowest 5 %" },
  p99: { share: 0.99, ms: REMEMBERED_MS, text: "slowest 1 %" },
};

/** @typedef {{ name: string, ms: number }} Doubt a clock, and how far it may be off */

/** How well the times between machines hold, for people. @param {Doubt[]} doubts */
export function certainty(doubts) {
  if (doubts.length === 0) return "Nobody has compared the clocks yet.";
  const each = doubts.map(({ name, ms }) => `${name} ±${ms < 9.95 ? ms.toFixed(1) : ms.toFixed(0)} ms`);
  return `Clocks, against the relay's: ${each.join(", ")}.`;
}

/** The panel: a bar of the spans, a list of them, and the last ten seconds as a line. */
export class Budget {
  /** @type {keyof typeof VIEWS} */
  #view = "usual";
  #doubt = make("p", { className: "quiet doubt" });
  /** @type {{ at: number, total: number, all: Span[] }[]} */
  #past = [];
  #bar = make("div", { className: "spans", "aria-hidden": "true" });
  #list = make("dl");
  #total = make("strong");
  #line;
  #path;
  #scale = make("span", { className: "quiet" });

  /** @param {HTMLElement} root a popover; nothing is drawn while it is closed */
  constructor(root) {
    this.root = root;
    this.#line = document.createElementNS(SVG, "svg");
    this.#path = document.createElementNS(SVG, "polyline");
    this.#line.setAttribute("viewBox", "0 0 100 32");
    this.#line.setAttribute("preserveAspectRatio", "none");
    this.#line.setAttribute("class", "spark");
    this.#line.setAttribute("role", "img");
    this.#line.append(this.#path);
    const choice = make("select", { ariaLabel: "Which pictures" }, Object.entries(VIEWS).map(([value, { text }]) => make("option", { value }, [text])));
    choice.addEventListener("change", () => (this.#view = /** @type {keyof typeof VIEWS} */ (choice.value)));
    root.append(make("h2", {}, ["From camera to eye ", choice, this.#total]), this.#doubt, this.#bar, this.#list, make("p", { className: "past" }, [this.#line, this.#scale]));
  }

  /** A picture was painted. @param {Span[]} all @param {number} now */
  add(all, now) {
    this.#past.push({ at: now, total: all.reduce((sum, { ms }) => sum + ms, 0), all });
    while (this.#past.length > 0 && now - this.#past[0].at > REMEMBERED_MS) this.#past.shift();
  }

  clear() {
    this.#past = [];
  }

  get open() {
    return this.root.matches(":popover-open");
  }

  /** @param {number} now @param {Doubt[]} doubts */
  show(now, doubts) {
    if (!this.open) return;
    const { share, ms: since } = VIEWS[this.#view];
    const recent = this.#past.filter(({ at }) => now - at < since);
    this.#doubt.textContent = certainty(doubts);
    this.root.classList.toggle("nothing", recent.length === 0);
    if (recent.length === 0) {
      this.#total.textContent = "no picture now";
      this.#bar.replaceChildren();
      this.#list.replaceChildren();
      return;
    }
    const part = (/** @type {number[]} */ of) => of.sort((a, b) => a - b)[Math.min(of.length - 1, Math.floor(share * of.length))] ?? 0;
    const parts = recent[recent.length - 1].all.map(({ name, rough }) => ({
      name, rough, ms: part(recent.flatMap(({ all }) => all.filter((span) => span.name === name).map(({ ms }) => ms))),
    }));
    const sum = parts.reduce((total, { ms }) => total + ms, 0) || 1;
    this.#total.textContent = `${Math.round(part(recent.map(({ total }) => total)))} ms`;
    this.#bar.replaceChildren(...parts.map(({ name, ms }) => {
      const bar = make("i", { title: name, "data-span": name });
      bar.style.flexGrow = String(ms / sum);
      return bar;
    }));
    this.#list.replaceChildren(...parts.map(({ name, ms, rough }) => make("div", { "data-span": name }, [
      make("dt", {}, [make("i"), name, make("small", {}, [SPANS[/** @type {keyof typeof SPANS} */ (name)]])]),
      make("dd", {}, [`${rough ? "~" : ""}${ms < 9.95 ? ms.toFixed(1) : ms.toFixed(0)} ms`]),
    ])));
    this.#spark(now);
  }

  /** @param {number} now */
  #spark(now) {
    const most = Math.max(50, ...this.#past.map(({ total }) => total));
    const top = Math.ceil(most / 50) * 50;
    const points = this.#past.map(({ at, total }) => `${(100 - ((now - at) / REMEMBERED_MS) * 100).toFixed(1)},${(32 - (total / top) * 31).toFixed(1)}`);
    this.#path.setAttribute("points", points.join(" "));
    this.#line.setAttribute("aria-label", `Last ten seconds, up to ${Math.round(most)} ms`);
    this.#scale.textContent = `last 10 s, 0 to ${top} ms`;
  }
}
