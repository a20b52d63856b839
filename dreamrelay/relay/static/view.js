/**
 * The view: a stream's pictures in the whole window, on nothing. `?fit=contain|cover|fill`,
 * `?track=output|input|control`, `?hud=on`: figures in a corner, `?guard=off`: flicker is not held back, `?report=on`: tell
 * the relay how old pictures are here.
 */

import { Connection, Fallback, FlashGuard, Painter, TRACKS, nowMs } from "./dreamrelay.js";
import { Shown } from "./shown.js";

const [, stream] = /\/streams\/([^/]+)\/view\/?$/.exec(location.pathname) ?? [];
const asked = new URLSearchParams(location.search);
const on = (/** @type {string} */ name, /** @type {boolean} */ usual) => {
  const said = asked.get(name);
  return said === null ? usual : !["off", "0", "no", "false"].includes(said);
};
const canvas = /** @type {HTMLCanvasElement} */ (document.getElementById("output"));
const track = TRACKS.find((name) => name === asked.get("track")) ?? "output";
const token = asked.get("token") ?? undefined;
const fit = asked.get("fit") ?? "contain";

document.body.dataset.fit = ["cover", "fill"].includes(fit) ? fit : "contain";
const viewer = new Connection({ stream: decodeURIComponent(stream ?? asked.get("stream") ?? "default"), role: "viewer", track, token, name: "view" });
const painter = new Painter(canvas, { guard: on("guard", true) ? new FlashGuard() : null }).follow(viewer, track);
new Fallback(painter, viewer, track, { token });

if (on("report", false)) {
  const shown = new Shown(viewer, "view");
  painter.addEventListener("paint", () => painter.packet && shown.add(painter.packet));
}

if (on("hud", false)) {
  const hud = /** @type {HTMLElement} */ (document.getElementById("hud"));
  /** When the pictures of the last second were painted. @type {number[]} */
  const times = [];
  let state = "";
  viewer.addEventListener("status", (event) => (state = /** @type {CustomEvent} */ (event).detail.state));
  painter.addEventListener("paint", () => times.push(nowMs()));
  hud.hidden = false;
  setInterval(() => {
    const now = nowMs();
    while (times.length > 0 && now - times[0] > 1000) times.shift();
    const packet = painter.packet;
    const age = packet ? Math.max(0, Math.round(now + (viewer.clockOffset ?? 0) - Number(packet.capturedNs) / 1e6)) : null;
    const facts = [viewer.state === "open" ? state : "relay gone", `${times.length} fps`, age !== null && times.length > 0 ? `${age} ms` : "", painter.guard?.active ? "flicker held back" : ""];
    hud.textContent = facts.filter(Boolean).join(" · ");
  }, 250);
}
