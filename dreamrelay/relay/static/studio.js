/** The studio: wires a stream of the relay to the rooms of the page. */

import { Awake } from "./awake.js";
import { Blend } from "./blend.js";
import { $, announce, make, memory, toggleFrom } from "./dom.js";
import { Connection, Parameters, Relay, RelayError, nowMs } from "./dreamrelay.js";
import { Form } from "./form.js";
import { Keys } from "./keys.js";
import { Budget } from "./latency.js";
import { WhenLost } from "./lost.js";
import { Notes, Notice } from "./notices.js";
import { Pictures } from "./pictures.js";
import { Presets } from "./presets.js";
import { PromptBar } from "./prompt.js";
import { Recorder } from "./recorder.js";
import { Reference, takeFiles } from "./reference.js";
import { Source } from "./source.js";
import { SourceMenu } from "./sources.js";
import { FullScreen, Stage, makeRoomForKeyboard } from "./stage.js";
import { describe, duration, makeCommands } from "./states.js";
import { StreamsList } from "./streams.js";
import { Voice } from "./voice.js";

const asked = new URLSearchParams(location.search);
const stream = asked.get("stream") ?? "default";
const token = asked.get("token") ?? undefined;
const REFRESH_MS = 250;

/** The relay's last `status`. @type {Record<string, any> | null} */
let status = null;
/** Why the relay does not let this page in. @type {string | null} */
let refusal = null;

const commands = makeCommands(location, new URL("../", import.meta.url), stream);
const relay = new Relay({ token });
const viewer = new Connection({ stream, role: "viewer", track: "both", credit: 1, token, name: "studio" });
const parameters = new Parameters(viewer);
const stage = new Stage($("stage"), $("input-pane"), $("output-pane"), $("wipe"));
const full = new FullScreen();
const awake = new Awake();
makeRoomForKeyboard();
const notes = new Notes($("notes"));
const form = new Form($("fields"), parameters, $("hint"), (field) => field.name === "prompt");
const blend = new Blend($("blend"), $("meter"), parameters);
const prompt = new PromptBar(
  { form: $("prompt-form"), input: $("prompt"), apply: $("apply"), blendIn: $("blend-in"), meter: $("meter"), problem: $("prompt-problem"), words: $("words"), all: $("all-words"), bar: $("bar") },
  parameters, blend, stream,
);
const source = new Source(
  () => new Connection({ stream, role: "producer", token, name: "studio" }),
  () => (status && status.width > 0 && status.height > 0 ? { width: status.width, height: status.height } : null),
  () => viewer.state === "open",
);
const pictures = new Pictures(viewer, stage, (capturedNs) => source.seenAt(capturedNs), { stream, token });
const voice = new Voice($("voice"), relay, stream, heard, commands.speech);
const sources = new SourceMenu(source, voice, notes);
const reference = new Reference($("reference"), relay, stream);
const presets = new Presets($("presets"), parameters, $("output"), stream);
const recorder = new Recorder($("output"), stream);
const whenLost = new WhenLost($("lost"), relay, stream, $("hint"));
const budget = new Budget($("budget"));
const notices = { input: new Notice($("input-notice"), (kind) => sources.choose(kind)), output: new Notice($("output-notice"), (kind) => sources.choose(kind)) };

new StreamsList($("streams"), relay, stream);
takeFiles(reference, (file) => source.file(file));
for (const room of Object.entries({ voice, reference, presets, recorder })) {
  room[1].addEventListener("note", (event) => notes.say(room[0], /** @type {CustomEvent} */ (event).detail));
}

/** What spoken commands do. @type {Record<string, (text: string, number: number) => void>} */
const SPOKEN = {
  prompt: (text) => prompt.say(text),
  add: (text) => prompt.say([$("prompt").value.replace(/[\s,]+$/, ""), text].filter(Boolean).join(", ")),
  start: () => source.kind ?? sources.choose("camera"),
  stop: () => source.stop(),
  black: () => stage.black(true),
  picture: () => stage.black(false),
  preset: (_, number) => presets.recall(number),
  seed: () => form.controls.some(({ field }) => field.name === "seed") && parameters.set({ seed: Math.floor(Math.random() * 2 ** 31) }),
  reset: () => form.resetAll(),
};

/** @param {import("./rest.js").Heard} heard @param {boolean} sure */
function heard({ text, action = { name: "prompt", text, number: null } }, sure) {
  const act = SPOKEN[action.name];
  if (!act) return voice.tell(`Heard: ${text}, which asks for nothing here`);
  if (sure || action.name !== "prompt") {
    voice.tell(`Heard: ${text}`);
    return act(action.text, action.number ?? 0);
  }
  $("prompt").value = text;
  $("prompt").dispatchEvent(new Event("input"));
  voice.tell(`Not sure: ${text}. Enter applies it`);
}

// ---- states --------------------------------------------------------------------------------------------------

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

let saidState = "";

function show() {
  awake.want(full.on || source.kind !== null);
  if (status?.dreaming && source.kind === null && !pictures.mapShown) pictures.forgetInput();
  const said = describe({
    link: viewer.state,
    retryIn: (viewer.retryAt - nowMs()) / 1000,
    status,
    hasInput: pictures.has("input"),
    hasOutput: pictures.has("output"),
    sending: source.kind !== null,
    plain: pictures.fallback.shown,
    refusal,
    secondsLeft: secondsLeft(),
    commands,
  });
  $("chip").dataset.tone = said.tone;
  $("chip-text").textContent = said.chip;
  $("retry").hidden = viewer.state !== "waiting" || refusal !== null;
  document.body.dataset.state = said.state;
  $("stage").classList.toggle("dim", said.dim);
  // With the input hidden or small, its invitation takes the output's place, unless that has something more urgent.
  const beside = stage.layout !== "side" && said.input && (said.output === null || said.state === "waiting" || said.state === "live");
  const aside = stage.layout === "side" && said.output?.invite ? { ...said.output, invite: false } : said.output;
  notices.input.show(stage.layout === "side" ? said.input : null);
  const redundant = stage.layout === "side" && ["waiting", "away"].includes(said.state) && said.input; // the input's words are enough
  notices.output.show(beside && !pictures.has("output") ? said.input : redundant ? null : aside);
  if (said.state !== "live" && said.state !== "dreaming") parameters.settle();
  if (said.state !== saidState) {
    saidState = said.state;
    announce(said.state === "reconnecting" ? "The relay is gone, trying again" : [said.chip, said.output?.title].filter(Boolean).join(". "));
  }
}

const number = (/** @type {number} */ n) => (n >= 9.95 ? n.toFixed(0) : n.toFixed(1).replace(/\.0$/, ""));
const count = (/** @type {number} */ n, /** @type {string} */ what) => `${n} ${what}${n === 1 ? "" : "s"}`;

/** @type {string | null} */
let ageShown = null;

function showFigures() {
  const known = (viewer.state === "open" && status) || {};
  const moving = known.fps_in > 0 || known.fps_out > 0;
  const into = known.dreaming ? "" : `${number(known.fps_in ?? 0)} in · `;
  $("rates").textContent = moving ? `${into}${number(known.fps_out)} ${into && "out "}fps` : "";
  const people = ["producer", "worker", "viewer"].filter((role) => known[`${role}s`] > 0);
  $("people").textContent = people.map((role) => count(known[`${role}s`], role)).join(" · ");
  const age = known.dreaming ? null : pictures.age; // no camera took what the prompt alone made
  const old = age && (age.now > age.usual + 1000 ? duration(age.now / 1000) : `${Math.round(age.usual)} ms`);
  if (old !== ageShown) $("age").replaceChildren(old ?? "", make("span", { className: "word-old" }, [" old"]));
  ageShown = old;
  $("age").hidden = age === null;
  if (budget.open && nowMs() - askedMs > 2000) askClocks();
  const own = viewer.clock ? [{ name: "this page", ms: viewer.clock.error }] : [];
  budget.show(nowMs(), [...own, ...doubts]);
}

/** How well producers and workers know the relay's clock, and this relay that of the one where the stream is at home. @type {import("./latency.js").Doubt[]} */
let doubts = [];
let askedMs = 0;

async function askClocks() {
  askedMs = nowMs();
  try {
    const { clocks } = await relay.latency(stream);
    const of = (/** @type {string} */ role) => clocks.filter((/** @type {any} */ one) => one.role === role);
    const worst = (/** @type {string} */ role) => Math.max(...of(role).map((/** @type {any} */ one) => one.error_ms));
    const home = of("home").map((/** @type {any} */ one) => ({ name: `relay ${one.name}`, ms: one.error_ms })); // this stream's, elsewhere
    doubts = [{ name: "camera", ms: worst("producer") }, { name: "worker", ms: worst("worker") }, ...home].filter(({ ms }) => Number.isFinite(ms));
  } catch (error) {
    doubts = [];
    console.debug("dreamrelay: nobody says how the clocks go:", error);
  }
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
  showLicence(status?.licence ?? {});
}

/**
 * What the model may be used for, as its worker says; nothing where it says nothing.
 * @param {{ name?: string, terms?: string, link?: string }} licence
 */
function showLicence({ name = "", terms = "", link = "" }) {
  const said = link.startsWith("https://") ? make("a", { href: link, target: "_blank", rel: "noopener noreferrer" }, [name]) : name;
  $("licence").replaceChildren("Licence of the model: ", said, terms && `, ${terms}`);
  $("licence").hidden = name === "";
}

viewer.addEventListener("state", async (event) => {
  const { code, reason } = /** @type {CustomEvent} */ (event).detail;
  if (viewer.state === "open") refusal = null;
  else if (code === 1008) refusal = reason || "The relay closed the door";
  else if (viewer.state === "waiting" && viewer.welcome === null && refusal === null) await askWhy();
  if (viewer.state !== "open") whenLost.know(null);
  show();
});

/** A browser does not tell why a WebSocket was refused; the same question by HTTP is answered. */
async function askWhy() {
  try {
    await relay.stream(stream);
  } catch (error) {
    if (error instanceof RelayError && (error.status === 401 || error.status === 403)) refusal = error.message;
  }
}

viewer.addEventListener("error", (event) => {
  const { code, message } = /** @type {CustomEvent} */ (event).detail;
  if (code === "auth") notes.say("allowed", { title: "Not allowed", text: message });
});
viewer.addEventListener("status", (event) => {
  status = /** @type {CustomEvent} */ (event).detail;
  reference.know(status, Object.keys(parameters.schema?.properties ?? {}));
  whenLost.know(status);
  show();
  showAbout();
});
pictures.addEventListener("first", show);
pictures.addEventListener("change", () => {
  $("map-chip").hidden = !pictures.mapShown;
  $("map-button").setAttribute("aria-pressed", String(pictures.mapShown));
  show();
});
pictures.addEventListener("output", (event) => {
  const packet = /** @type {CustomEvent<import("./dreamrelay.js").Packet>} */ (event).detail;
  parameters.seen(packet.revision);
  if (packet.standIn) return; // no result: it has no way to speak of
  if (!status?.dreaming) return budget.add(pictures.spans(packet), nowMs());
  pictures.forgetAges();
  budget.clear();
});
setInterval(() => {
  if (document.hidden) return;
  show();
  showFigures();
}, REFRESH_MS);

$("stream").textContent = stream;
document.title = `${stream} · dreamrelay`;
const viewAddress = new URL(`../streams/${encodeURIComponent(stream)}/view`, import.meta.url);
$("view-link").append("For OBS and other pages: ", make("a", { href: viewAddress.href, target: "_blank", rel: "noopener" }, ["the picture alone"]));
$("retry").addEventListener("click", () => viewer.retryNow());

// ---- drawer and tray -----------------------------------------------------------------------------------------

/** @param {boolean} open */
function setDrawer(open) {
  $("drawer").hidden = !open;
  $("drawer-button").setAttribute("aria-expanded", String(open));
  memory.set("drawer", open ? "open" : "");
}

/** @param {boolean} open */
function setPresets(open) {
  $("presets").hidden = !open;
  $("presets-button").setAttribute("aria-expanded", String(open));
  memory.set("presets-open", open ? "open" : "");
}

const toggleDrawer = () => setDrawer($("drawer").hidden);
const togglePresets = () => setPresets($("presets").hidden);
$("drawer-button").addEventListener("click", toggleDrawer);
$("drawer-close").addEventListener("click", () => {
  setDrawer(false);
  $("drawer-button").focus();
});
$("reset-all").addEventListener("click", () => form.resetAll());
parameters.addEventListener("change", () => {
  $("reset-all").hidden = form.changed < 2;
  $("no-fields").hidden = form.controls.length > 0;
  presets.offer();
});
addEventListener("hashchange", () => presets.offer());
viewer.addEventListener("schema", () => {
  const names = Object.keys(parameters.schema?.properties ?? {});
  $("map-button").hidden = !names.some((name) => name.startsWith("controlnet_")); // nothing steers the others
  reference.know(status, names);
});
if (matchMedia("(min-width: 1000px)").matches) setDrawer(memory.get("drawer") === "open");
setPresets(memory.get("presets-open") === "open");


// On a phone the tools that are not for every minute are in the sheet.
const narrow = matchMedia("(max-width: 719px)");
const placeTools = () => (narrow.matches ? $("drawer-tools") : $("tools")).prepend($("more-tools"));
narrow.addEventListener("change", placeTools);
placeTools();

/** @param {string} id @param {string} key of the memory @param {(on: boolean) => void} act */
function choice(id, key, act) {
  $(id).checked = memory.get(key) === "yes";
  act($(id).checked);
  $(id).addEventListener("change", () => {
    memory.set(key, $(id).checked ? "yes" : "");
    act($(id).checked);
  });
}
choice("guard", "guard", (on) => pictures.guard(on));
choice("aloud", "aloud", () => {});

// ---- keys ----------------------------------------------------------------------------------------------------

function nextLayout() {
  announce(`Layout: ${stage.next()}`);
  show();
}

recorder.addEventListener("change", () => {
  $("record-button").setAttribute("aria-pressed", String(recorder.recording));
  $("record-time").textContent = recorder.recording ? duration(recorder.seconds + 0.5) : "";
});

const keys = new Keys([
  { keys: "/", does: "write a prompt: Enter applies, ↑ brings back old ones", act: () => prompt.parts.input.select() },
  { shown: "Shift+Enter", does: "keep the old prompt as B and blend by hand" },
  { shown: "Ctrl+↑ ↓", does: "weight of the selected words" },
  { keys: "w", does: "all words that the model knows", act: () => prompt.words.toggleAll() },
  { keys: "s", does: "source", act: () => sources.toggle() },
  { keys: "v", does: "talk while held; short: listen on or stop", act: () => voice.press(), released: () => voice.release() },
  { keys: "p", does: "parameters, double-click resets one", act: toggleDrawer },
  { keys: "b", does: "presets", act: togglePresets },
  { keys: "123456789", shown: "1 – 9", does: "recall a preset, with Shift save it", act: (digit) => presets.recall(digit), shifted: (digit) => presets.save(digit) },
  { keys: "l", does: "inset, side by side, wipe, output only", act: nextLayout, button: "layout-button" },
  { keys: "k", does: "black, and back", act: () => voice.tell(stage.black() ? "Black. K brings the picture back" : "The picture is back") },
  { keys: "x", does: "swap input and output", act: () => stage.swap(), button: "swap-button" },
  { keys: "m", does: "the control map in place of the input", act: () => $("map-button").hidden || pictures.toggleMap(), button: "map-button" },
  { keys: "g", does: "save a snapshot", act: () => recorder.snapshot(), button: "snapshot-button" },
  { keys: "r", does: "record, and stop", act: () => recorder.toggle(), button: "record-button" },
  { keys: "i", does: "where the time goes", act: () => $("age").hidden || toggleFrom($("age"), $("budget")) },
  { keys: "f", does: "full screen", act: () => full.toggle(), button: "full-button" },
  { shown: "← ↑ → ↓", does: "the inset to another corner, the wipe, a step in a number (with Shift ten)" },
  { shown: "Esc", does: "close the menu you are in; in the prompt: back to what holds" },
  { keys: "?", does: "this list", act: () => toggleFrom($("help-button"), $("help")) },
]);
keys.list($("keys"));
$("presets-button").addEventListener("click", togglePresets);
stage.addEventListener("layout", show);

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && $("budget").matches(":popover-open")) $("budget").hidePopover();
  else if (event.key === "Escape" && !$("drawer").hidden && $("drawer").contains(/** @type {Node} */ (event.target))) $("drawer-close").click();
  else if (event.key === "Escape" && full.on && event.target === document.body) full.toggle(); // where the browser does not do it
});

show();
