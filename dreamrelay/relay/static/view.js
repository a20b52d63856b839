/** The view: a stream's pictures in the whole window, on nothing. `?fit=contain|cover|fill`, `?track=output|input`. */

import { Connection, Painter } from "./dreamrelay.js";

const [, stream] = /\/streams\/([^/]+)\/view\/?$/.exec(location.pathname) ?? [];
const asked = new URLSearchParams(location.search);
const canvas = /** @type {HTMLCanvasElement} */ (document.getElementById("output"));
const track = asked.get("track") === "input" ? "input" : "output";
const fit = asked.get("fit") ?? "contain";

if (["cover", "fill"].includes(fit)) canvas.classList.add(fit);
const viewer = new Connection({
  stream: decodeURIComponent(stream ?? asked.get("stream") ?? "default"),
  role: "viewer",
  track,
  token: asked.get("token") ?? undefined,
});
new Painter(canvas).follow(viewer, track);
