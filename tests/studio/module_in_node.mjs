/** Drives dreamrelay.js as a program of somebody else would: no page, no DOM, a real relay. Prints JSON lines. */

import { readFile } from "node:fs/promises";

const [, , module, relay, picture] = process.argv;
const { Connection, Parameters, Relay, encodePacket, decodePacket, nowNs, HOPS } = await import(module);
const say = (what, facts = {}) => console.log(JSON.stringify({ what, ...facts }));
const once = (target, name, fits = () => true) =>
  new Promise((resolve) => target.addEventListener(name, function hear(event) {
    if (!fits(event.detail)) return;
    target.removeEventListener(name, hear);
    resolve(event.detail);
  }));

try {
  new Connection({});
  say("error", { message: "a module from a disk cannot know its relay" });
} catch (error) {
  say("needs-relay", { message: error.message });
}

try {
  new Connection({ relay: "localhost:8765" });
} catch (error) {
  say("needs-address", { message: error.message });
}
const { WebSocket } = globalThis;
globalThis.WebSocket = undefined;
try {
  new Connection({ relay });
} catch (error) {
  say("needs-websocket", { message: error.message });
}
globalThis.WebSocket = WebSocket;

const viewer = new Connection({ relay, role: "viewer", track: "both", name: "node" });
const parameters = new Parameters(viewer);
const schema = once(viewer, "schema", ({ schema }) => schema !== null);
await once(viewer, "welcome");
say("welcome", { stream: viewer.stream, state: viewer.state });
await schema;
parameters.set({ strength: 0.75 });
parameters.set({ prompt: "a fox from node" });
await once(viewer, "parameters", ({ values }) => values.strength === 0.75);
say("set", { values: parameters.values });
try {
  await viewer.patch({ strength: 7 });
} catch (error) {
  say("refused", { code: error.code, problems: error.problems });
}

const producer = new Connection({ relay, role: "producer", name: "node" });
await once(producer, "welcome");
const data = new Uint8Array(await readFile(picture));
const result = once(viewer, "packet", ({ track }) => track === "output");
const captured = nowNs();
producer.send({ data, width: 64, height: 64, capturedNs: captured, stamps: [{ hop: HOPS.ENCODED, ns: nowNs() }] });
const ack = await once(producer, "ack");
const packet = await result;
const again = decodePacket(encodePacket(packet));
say("picture", {
  accepted: ack.accepted, track: packet.track, type: packet.type, bytes: packet.data.length,
  same: packet.capturedNs === captured, revision: packet.revision, hops: packet.stamps.map(({ hop }) => hop),
  arrived: packet.arrivedMs > 0, round: again.width === packet.width,
});
viewer.give("output");

const http = new Relay({ relay });
const streams = await http.streams();
const snapshot = await http.snapshot("default");
say("http", { streams: streams.map(({ stream }) => stream), snapshot: snapshot.type });
try {
  await http.stream("nowhere");
} catch (error) {
  say("not-there", { status: error.status, name: error.name });
}
producer.close();
viewer.close();
say("end");
