/**
 * The view: a stream's pictures in the whole window, on nothing. `?fit=contain|cover|stretch`,
 * `?track=output|input|control`, `?hud=on`: figures in a corner, `?guard=off`: flicker is not held back, `?report=on`: tell
 * the relay how old pictures are here.
 */

import { Connection, Fallback, FlashGuard, Painter, Relay, nowMs } from "./dreamrelay.js";
import { Shown } from "./shown.js";

const [, stream] = /\/streams\/([^/]+)\/view\/?$/.exec(location.pathname) ?? [];
const asked = new URLSearchParams(location.search);
const YES = ["on", "1", "yes", "true", ""];
const NO = ["off", "0", "no", "false"];

/**
 * One of these words, the first if nothing is said; what is none of them is told whoever sets the page up.
 * @template {string} T @param {string} name @param {readonly T[]} words @returns {T}
 */
function oneOf(name, words) {
  const said = asked.get(name);
  const found = words.find((word) => word === said);
  if (said !== null && found === undefined) console.warn(`dreamrelay: expected ${words.filter(Boolean).join(", ")} as ${name}, got ${said}`);
  return found ?? words[0];
}

const on = (/** @type {string} */ name, /** @type {boolean} */ usual) => !NO.includes(oneOf(name, usual ? [...YES, ...NO] : [...NO, ...YES]));
const canvas = /** @type {HTMLCanvasElement} */ (document.getElementById("output"));
const track = oneOf("track", /** @type {const} */ (["output", "input", "control"]));
const token = asked.get("token") ?? undefined;
const fit = oneOf("fit", ["contain", "cover", "stretch", "fill"]);

document.body.dataset.fit = fit === "stretch" ? "fill" : fit;
const viewer = new Connection({ stream: decodeURIComponent(stream ?? asked.get("stream") ?? "default"), role: "viewer", track, token, name: "view" });
const painter = new Painter(canvas, { guard: on("guard", true) ? new FlashGuard() : null }).follow(viewer, track);
const fallback = new Fallback(painter, viewer, track, { token });

if (on("report", false)) {
  const shown = new Shown(viewer, "view");
  painter.addEventListener("paint", () => painter.packet && shown.add(painter.packet));
}

if (on("hud", false)) {
  const hud = /** @type {HTMLElement} */ (document.getElementById("hud"));
  /** When the pictures of the last second were painted. @type {number[]} */
  const times = [];
  const relay = new Relay({ token });
  let state = "";
  viewer.addEventListener("status", (event) => (state = /** @type {CustomEvent} */ (event).detail.state));
  viewer.addEventListener("state", () => {
    if (viewer.state === "open") state = "";
    if (viewer.state !== "waiting") return;
    state = "relay gone";
    // A browser does not tell why a WebSocket was refused; the same question by HTTP is answered.
    if (viewer.welcome === null) relay.stream(viewer.stream).catch(({ status }) => (state = [401, 403].includes(status) ? "not allowed" : state));
  });
  painter.addEventListener("paint", () => times.push(nowMs()));
  hud.hidden = false;
  setInterval(() => {
    const now = nowMs();
    while (times.length > 0 && now - times[0] > 1000) times.shift();
    const packet = painter.packet;
    const age = packet ? Math.max(0, Math.round(now + (viewer.clockOffset ?? 0) - Number(packet.capturedNs) / 1e6)) : null;
    const facts = fallback.shown ? ["MJPEG"] : [state.replace("-", " "), `${times.length} fps`, age !== null && times.length > 0 ? `${age} ms` : "", painter.guard?.active ? "flicker held back" : ""];
    hud.textContent = facts.filter(Boolean).join(" · ");
  }, 250);
}
