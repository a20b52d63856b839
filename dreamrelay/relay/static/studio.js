/** The studio: wires the relay's stream to the stage, the prompt, the drawer and the source. */

import { Connection, Painter, Parameters, nowMs } from "./dreamrelay.js";
import { Form, icon, make } from "./form.js";
import { PromptBar } from "./prompt.js";
import { Source } from "./source.js";
import { FullScreen, Stage, memory } from "./stage.js";
import { describe, describeTrouble, duration } from "./states.js";

/** @param {string} id @returns {any} */
const $ = (id) => document.getElementById(id);

const asked = new URLSearchParams(location.search);
const stream = asked.get("stream") ?? "default";
const token = asked.get("token") ?? undefined;
const REFRESH_MS = 250;

const viewer = new Connection({ stream, role: "viewer", track: "both", credit: 1, token, name: "studio" });
const parameters = new Parameters(viewer);
const stage = new Stage($("stage"), $("input-pane"), $("output-pane"));
const full = new FullScreen();
const form = new Form($("fields"), parameters, $("hint"), (field) => field.name === "prompt");
const prompt = new PromptBar(
  { form: $("prompt-form"), input: $("prompt"), apply: $("apply"), meter: $("meter"), problem: $("prompt-problem"), words: $("words"), all: $("all-words"), bar: $("bar") },
  parameters,
  stream,
);
const source = new Source(
  () => new Connection({ stream, role: "producer", token, name: "studio" }),
  () => (status && status.width > 0 && status.height > 0 ? { width: status.width, height: status.height } : null),
);

/** The relay's last `status`. @type {Record<string, any> | null} */
let status = null;

// ---- pictures ------------------------------------------------------------------------------------------------

const painters = { input: new Painter($("input")), output: new Painter($("output")) };
/** Credit for the input that waits while the input is not to be seen. @type {(() => void) | null} */
let owed = null;
/** Ages of the last pictures when they were painted. @type {number[]} */
const ages = [];

viewer.addEventListener("packet", (event) => {
  const packet = /** @type {CustomEvent<import("./dreamrelay.js").Packet>} */ (event).detail;
  const done = () => viewer.give(packet.track);
  if (packet.track === "input" && !stage.showsInput) owed = done;
  else painters[packet.track].offer(packet, done);
});

stage.addEventListener("layout", () => {
  if (!stage.showsInput || !owed) return;
  owed();
  owed = null;
});

for (const [track, painter] of Object.entries(painters)) {
  painter.addEventListener("paint", () => {
    const pane = painter.canvas.parentElement;
    if (pane?.classList.contains("empty")) {
      pane.classList.remove("empty");
      show();
    }
    const { width, height } = painter.canvas;
    pane?.style.setProperty("--ratio", String(width / height));
    if (track !== "output" || !painter.packet) return;
    parameters.seen(painter.packet.revision);
    if (status?.dreaming) {
      ages.length = 0;
      return;
    }
    ages.push(ageOf(painter.packet));
    if (ages.length > 30) ages.shift();
  });
}

/** Milliseconds since the picture was taken. @param {import("./dreamrelay.js").Packet} packet */
function ageOf(packet) {
  const captured = Number(packet.capturedNs) / 1e6;
  const offset = source.sentAt(packet.capturedNs) ? 0 : (viewer.clockOffset ?? 0);
  return Math.max(0, nowMs() + offset - captured);
}

// ---- states --------------------------------------------------------------------------------------------------

const commands = (() => {
  const local = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
  const port = location.port || (location.protocol === "https:" ? "443" : "80");
  const address = new URL("../", import.meta.url);
  address.protocol = address.protocol.replace("http", "ws");
  const usual = local && port === "8765";
  const to = (usual ? "" : ` --websocket_uri=${address.href.replace(/\/$/, "")}`) + (stream === "default" ? "" : ` --stream=${stream}`);
  return {
    server: "python server.py" + (port === "8765" ? "" : ` --port=${port}`),
    worker: `python main.py${to}`,
    producer: `python client.py --mode=webcam${to}`,
  };
})();

/** When loading began to say a fraction, to guess the rest. @type {{ at: number, fraction: number } | null} */
let began = null;

function secondsLeft() {
  const fraction = status?.state === "loading" ? status.fraction : null;
  if (typeof fraction !== "number" || fraction >= 1) {
    began = null;
    return null;
  }
  if (!began || fraction < began.fraction) began = { at: nowMs(), fraction };
  const [seconds, done] = [(nowMs() - began.at) / 1000, fraction - began.fraction];
  return seconds > 2 && done > 0.02 ? ((1 - fraction) * seconds) / done : null;
}

const hasPicture = (/** @type {string} */ track) => !$(`${track}-pane`).classList.contains("empty");
let saidState = "";
/** What the notices were made of, to leave them alone while it is the same. */
const drawn = { input: "", output: "" };

function show() {
  // What the last camera left is no input any more.
  if (status?.dreaming && source.kind === null) $("input-pane").classList.add("empty");
  const said = describe({
    link: viewer.state,
    retryIn: (viewer.retryAt - nowMs()) / 1000,
    status,
    hasInput: hasPicture("input"),
    hasOutput: hasPicture("output"),
    sending: source.kind !== null,
    secondsLeft: secondsLeft(),
    commands,
  });
  $("chip").dataset.tone = said.tone;
  $("chip-text").textContent = said.chip;
  $("retry").hidden = viewer.state !== "waiting";
  document.body.dataset.state = said.state;
  $("stage").classList.toggle("dim", said.dim);
  // With the input hidden or small, its invitation takes the output's place, unless that has something more urgent.
  const beside = stage.layout !== "side" && said.input && (said.output === null || said.state === "waiting" || said.state === "live");
  showNotice("input", stage.layout === "side" ? said.input : null);
  const redundant = stage.layout === "side" && ["waiting", "away"].includes(said.state) && said.input; // the input's words are enough
  showNotice("output", beside && !hasPicture("output") ? said.input : redundant ? null : said.output);
  if (said.state !== "live" && said.state !== "dreaming") parameters.settle();
  if (said.state !== saidState) {
    saidState = said.state;
    $("say").textContent = said.state === "reconnecting" ? "The relay is gone, trying again" : [said.chip, said.output?.title].filter(Boolean).join(". ");
  }
}

/** @param {"input" | "output"} track @param {import("./states.js").Notice | null} notice */
function showNotice(track, notice) {
  const box = $(`${track}-notice`);
  const text = JSON.stringify(notice);
  if (text === drawn[track]) return;
  const before = JSON.parse(drawn[track] || "null");
  drawn[track] = text;
  box.hidden = notice === null;
  if (notice && before && before.title === notice.title && before.command === notice.command && !notice.details) {
    box.querySelector("p").textContent = notice.text ?? "";
    const bar = box.querySelector("progress");
    if (bar && typeof notice.fraction === "number") bar.value = notice.fraction;
    if ((bar !== null) === (notice.fraction !== undefined) && (!bar || bar.hasAttribute("value") === (notice.fraction !== null))) return;
  }
  if (!notice) return box.replaceChildren();
  const { title, text: words, command, fraction, details, invite } = notice;
  box.classList.toggle("whisper", notice.aside === true);
  box.replaceChildren(
    make("h2", {}, [title]),
    ...(invite ? [inviteButtons()] : []),
    make("p", { className: invite ? "aside" : "" }, [words ?? ""]),
    ...(fraction === undefined ? [] : [make("progress", { ...(fraction !== null && { value: fraction }), max: 1, "aria-label": title })]),
    ...(command ? [commandLine(command)] : []),
    ...(details ? [make("details", {}, [make("summary", {}, ["Details"]), make("pre", {}, [details])])] : []),
  );
}

function inviteButtons() {
  const offers = [["camera", "Camera"], ["screen", "Screen"], ["file", "File"], ["card", "Test card"]];
  return make("div", { className: "invite" }, offers.map(([kind, label]) => {
    const button = make("button", { type: "button" }, [icon(kind), label]);
    button.addEventListener("click", () => choose(kind));
    return button;
  }));
}

/** @param {string} command */
function commandLine(command) {
  const code = make("code", {}, [command]);
  const label = make("span", { className: "sr" }, [`Copy ${command}`]);
  const copy = make("button", { type: "button", className: "quiet", title: "Copy" }, [icon("copy"), label]);
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(command);
    } catch {
      // Without a secure page there is no clipboard to write to; selected, it is one key away.
      getSelection()?.selectAllChildren(code);
      document.execCommand("copy");
    }
    copy.classList.add("done");
    label.textContent = "Copied";
    setTimeout(() => copy.classList.remove("done"), 1500);
  });
  return make("div", { className: "command" }, [code, copy]);
}

const number = (/** @type {number} */ n) => (n >= 9.95 ? n.toFixed(0) : n.toFixed(1).replace(/\.0$/, ""));
const count = (/** @type {number} */ n, /** @type {string} */ what) => `${n} ${what}${n === 1 ? "" : "s"}`;

function showFigures() {
  const packet = painters.output.packet;
  const known = (viewer.state === "open" && status) || {};
  const moving = known.fps_in > 0 || known.fps_out > 0;
  const into = known.dreaming ? "" : `${number(known.fps_in ?? 0)} in · `;
  $("rates").textContent = moving ? `${into}${number(known.fps_out)} ${into && "out "}fps` : "";
  const people = ["producer", "worker", "viewer"].filter((role) => known[`${role}s`] > 0);
  $("people").textContent = people.map((role) => count(known[`${role}s`], role)).join(" · ");
  let age = "";
  if (packet && !known.dreaming) { // no camera took what the prompt alone made
    const now = ageOf(packet);
    const usual = [...ages].sort((a, b) => a - b)[ages.length >> 1] ?? now;
    age = now > usual + 1000 ? `${duration(now / 1000)} old` : `${Math.round(usual)} ms old`;
  }
  $("age").textContent = age;
  $("age").title = age && "Age of the picture: since the camera took it";
}

function showAbout() {
  if (!status?.model && $("about").textContent) return; // the one that made the picture on the stage
  const { engine, model, device } = status ?? {};
  const honest = model === "pocket" || model?.startsWith("pocket ") ? "pocket model: for wiring and play, not Stable Diffusion" : "";
  $("honest").textContent = honest;
  $("honest").hidden = honest === "";
  const facts = [model, engine, device].filter(Boolean).join(" · ");
  const server = viewer.welcome?.server?.replace("/", " ") ?? "";
  $("about").textContent = [honest || facts, honest && facts, server].filter(Boolean).join("\n");
}

viewer.addEventListener("state", show);
viewer.addEventListener("status", (event) => {
  status = /** @type {CustomEvent} */ (event).detail;
  show();
  showAbout();
});
setInterval(() => {
  if (document.hidden) return;
  show();
  showFigures();
}, REFRESH_MS);

$("stream").textContent = stream;
document.title = `${stream} · dreamrelay`;
const viewAddress = new URL(`../streams/${encodeURIComponent(stream)}/view`, import.meta.url);
$("view-link").append("For OBS: ", make("a", { href: viewAddress.href, target: "_blank", rel: "noopener" }, ["the picture alone"]));
$("retry").addEventListener("click", () => viewer.retryNow());

// ---- drawer --------------------------------------------------------------------------------------------------

/** @param {boolean} open */
function setDrawer(open) {
  $("drawer").hidden = !open;
  $("drawer-button").setAttribute("aria-expanded", String(open));
  memory.set("drawer", open ? "open" : "");
}

const toggleDrawer = () => setDrawer($("drawer").hidden);
$("drawer-button").addEventListener("click", toggleDrawer);
$("drawer-close").addEventListener("click", () => {
  setDrawer(false);
  $("drawer-button").focus();
});
$("reset-all").addEventListener("click", () => form.resetAll());
parameters.addEventListener("change", () => {
  $("reset-all").hidden = form.changed < 2;
  $("no-fields").hidden = form.controls.length > 0;
});
if (matchMedia("(min-width: 1000px)").matches) setDrawer(memory.get("drawer") === "open");

// ---- source --------------------------------------------------------------------------------------------------

const menu = $("source-menu");

/** @param {string} kind */
function choose(kind) {
  menu.hidePopover?.();
  if (kind === "camera") source.camera(memory.get("camera") ?? undefined);
  else if (kind === "screen") source.screen();
  else if (kind === "file") $("file").click();
  else if (kind === "card") source.card();
  else source.stop();
}

for (const button of menu.querySelectorAll("[data-source]")) button.addEventListener("click", () => choose(button.dataset.source));
$("file").addEventListener("change", () => {
  const [file] = $("file").files;
  if (file) source.file(file);
  $("file").value = "";
});
$("cameras").addEventListener("change", () => {
  memory.set("camera", $("cameras").value);
  source.camera($("cameras").value);
});
source.mirror = $("mirror").checked = memory.get("mirror") === "yes";
$("mirror").addEventListener("change", () => {
  source.mirror = $("mirror").checked;
  memory.set("mirror", source.mirror ? "yes" : "");
});

async function showCameras() {
  const cameras = await source.cameras();
  $("cameras").replaceChildren(...cameras.map((device) => make("option", { value: device.deviceId }, [device.label])));
  if (source.kind === "camera") $("cameras").value = source.deviceId;
  $("cameras").hidden = cameras.length < 2;
  $("camera-options").hidden = source.kind !== "camera" && cameras.length < 2;
}
menu.addEventListener("toggle", showCameras);
navigator.mediaDevices?.addEventListener("devicechange", showCameras);

const ICONS = { camera: "camera", screen: "screen", file: "file", card: "card" };
const NAMES = { camera: "Camera", screen: "Screen", file: "File", card: "Test card" };

source.addEventListener("change", () => {
  const { kind } = source;
  $("sending").hidden = kind === null;
  $("sending").classList.toggle("waiting", !source.onAir);
  $("source-label").textContent = kind ? NAMES[kind] : "Source";
  $("source-button").setAttribute("aria-label", kind ? `Source: ${NAMES[kind]}, sending` : "Source");
  $("source-button").title = kind ? `Sending: ${source.label}` : "Source (S)";
  $("source-icon").setAttribute("href", `#i-${kind ? ICONS[kind] : "camera"}`);
  menu.querySelector("[data-source=stop]").hidden = kind === null;
  for (const button of menu.querySelectorAll("[data-source]")) button.setAttribute("aria-current", String(button.dataset.source === kind));
  showTrouble();
  show();
});

function showTrouble() {
  const box = $("trouble");
  const { trouble } = source;
  box.hidden = trouble === null;
  if (!trouble) return box.replaceChildren();
  const local = `http://localhost:${location.port || 80}${location.pathname}${location.search}`;
  const { title, text, links = [], retry } = describeTrouble(trouble, { local, secure: location.href.replace(/^http:/, "https:") });
  const again = make("button", { type: "button" }, ["Try again"]);
  again.addEventListener("click", () => choose(trouble.kind));
  const take = make("button", { type: "button" }, ["Take over"]);
  take.addEventListener("click", () => source.takeAir());
  const card = make("button", { type: "button" }, ["Test card"]);
  card.addEventListener("click", () => choose("card"));
  const close = make("button", { type: "button", className: "quiet", title: "Close" }, [icon("close", "Close")]);
  close.addEventListener("click", () => source.dismiss());
  box.replaceChildren(
    make("div", {}, [
      make("strong", {}, [title]),
      make("p", {}, [text]),
      ...links.map((href) => make("p", {}, [make("a", { href }, [href])])),
    ]),
    make("div", { className: "actions" }, [...(retry ? [again] : []), ...(trouble.code === "off-air" ? [take] : []), ...(source.kind === null ? [card] : []), close]),
  );
}

document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  const file = event.dataTransfer?.files[0];
  if (file) source.file(file);
});

// ---- keys ----------------------------------------------------------------------------------------------------

$("full-button").addEventListener("click", () => full.toggle());
$("layout-button").addEventListener("click", () => nextLayout());

function nextLayout() {
  $("say").textContent = `Layout: ${stage.next()}`;
  show();
}

/** @type {Record<string, () => void>} */
const KEYS = {
  "/": () => prompt.parts.input.select(),
  w: () => prompt.toggleAll(),
  p: toggleDrawer,
  f: () => full.toggle(),
  l: nextLayout,
  s: () => menu.togglePopover?.(),
  "?": () => $("help").togglePopover?.(),
};

document.addEventListener("keydown", (event) => {
  const target = /** @type {HTMLElement} */ (event.target);
  const typing = target.closest("textarea, select, input:not([type=range], [type=checkbox])") !== null;
  if (event.key === "Escape" && !$("drawer").hidden && $("drawer").contains(target)) $("drawer-close").click();
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const key = KEYS[event.key] ?? KEYS[event.key.toLowerCase()];
  if (!key) return;
  event.preventDefault();
  key();
});

show();
