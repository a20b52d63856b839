/** Where the time of a picture goes: its stamps as named spans, and a small panel of them. */

import { make } from "./dom.js";
import { HOPS } from "./dreamrelay.js";

const REMEMBERED_MS = 10_000;
const SVG = "http://www.w3.org/2000/svg";

/** @typedef {{ name: string, ms: number, rough?: boolean }} Span rough: guessed, as two clocks do not agree */

/** What each span is, for people; in the order of a picture's way. */
export const SPANS = {
  capture: "camera to page", encode: "taken to JPEG", relay: "to the relay", queue: "relay to worker, and waiting there",
  decode: "JPEG to pixels", wait: "until the engine is free", infer: "the engine", "encode again": "pixels to JPEG", return: "worker to relay",
  view: "relay to this page", paint: "decode and paint",
};

/**
 * Split a picture's way into spans.
 *
 * Producer, worker and this page have clocks of their own. Ours is brought to the relay's by pings; where the
 * worker's cannot agree with it (a span would be negative), what is left between two stamps of the relay is halved.
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
  const own = seenMs === undefined ? 0 : offset;
  const captured = Number(packet.capturedNs) / 1e6 + own;
  const encoded = at[HOPS.ENCODED] === undefined ? undefined : at[HOPS.ENCODED] + own;
  const arrived = (packet.arrivedMs ?? paintedMs) + offset;
  /** @type {Span[]} */
  const all = [];
  const add = (/** @type {string} */ name, /** @type {number | undefined} */ from, /** @type {number | undefined} */ to) => {
    if (from === undefined || to === undefined) return;
    all.push({ name, ms: Math.max(0, to - from), ...(to < from && { rough: true }) });
  };
  if (seenMs !== undefined) add("capture", captured, seenMs + own);
  add("encode", seenMs === undefined ? captured : seenMs + own, encoded);
  add("relay", encoded ?? captured, at[HOPS.RELAYED]);
  const [relayed, received, reencoded, returned] = [at[HOPS.RELAYED], at[HOPS.RECEIVED], at[HOPS.REENCODED], at[HOPS.RETURNED]];
  const foreign = received < relayed || returned < reencoded;
  const travel = foreign ? Math.max(0, returned - relayed - (reencoded - received)) / 2 : 0;
  if (foreign) all.push({ name: "queue", ms: travel, rough: true });
  else add("queue", relayed, received);
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

/** The panel: a bar of the median spans, a list of them, and the last ten seconds as a line. */
export class Budget {
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
    root.append(make("h2", {}, ["From camera to eye ", this.#total]), this.#bar, this.#list, make("p", { className: "past" }, [this.#line, this.#scale]));
  }

  /** A picture was painted. @param {Span[]} all @param {number} now */
  add(all, now) {
    this.#past.push({ at: now, total: all.reduce((sum, { ms }) => sum + ms, 0), all });
    while (this.#past.length > 0 && now - this.#past[0].at > REMEMBERED_MS) this.#past.shift();
  }

  clear() {
    this.#past = [];
  }

  /** @param {number} now */
  show(now) {
    if (!this.root.matches(":popover-open")) return;
    const recent = this.#past.filter(({ at }) => now - at < 1500);
    this.root.classList.toggle("nothing", recent.length === 0);
    if (recent.length === 0) {
      this.#total.textContent = "no picture now";
      this.#bar.replaceChildren();
      this.#list.replaceChildren();
      return;
    }
    const middle = (/** @type {number[]} */ of) => of.sort((a, b) => a - b)[of.length >> 1] ?? 0;
    const medians = recent[recent.length - 1].all.map(({ name, rough }) => ({
      name, rough, ms: middle(recent.flatMap(({ all }) => all.filter((span) => span.name === name).map(({ ms }) => ms))),
    }));
    const sum = medians.reduce((total, { ms }) => total + ms, 0) || 1;
    this.#total.textContent = `${Math.round(middle(recent.map(({ total }) => total)))} ms`;
    this.#bar.replaceChildren(...medians.map(({ name, ms }) => {
      const part = make("i", { title: name, "data-span": name });
      part.style.flexGrow = String(ms / sum);
      return part;
    }));
    this.#list.replaceChildren(...medians.map(({ name, ms, rough }) => make("div", { "data-span": name }, [
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
