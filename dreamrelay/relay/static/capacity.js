/**
 * What a show needs, from measured costs: `dreamrelay/capacity.py`, line by line the same, which a test compares.
 * `docs/capacity.md` has the formulas in words. Runs in browsers and in Node.
 */

const MEASURED_KB = 60;
const MEASURED_VIEWERS = 16;
const DEFAULT_CONNECTIONS = 256;
const MOST_RELAYS = 256;
const VIDEO_GBIT = 200;
const PHONE_MBIT = 10;

/** How many relays: the smallest n with fixed + copy * min(n, most) <= n * room. @param {number} fixed @param {number} copy @param {number} most @param {number} room */
function relaysFor(fixed, copy, most, room) {
  const allCopies = (fixed + copy * most) / room;
  return room > copy ? Math.min(fixed / (room - copy), allCopies) : allCopies;
}

/**
 * @param {Record<string, any>} show every input of `data.inputs`; `engine_ms` may be null
 * @param {{ costs: Record<string, { value: number }>, engines: Record<string, any> }} data capacity.json
 * @returns {Record<string, any>} the fields of `data.rows`, and `binds`, `tier`, `notes`
 */
export function plan(show, data) {
  const c = Object.fromEntries(Object.entries(data.costs).map(([name, cost]) => [name, cost.value]));
  const { viewers, streams, fps } = show;
  const perStream = viewers / streams;

  // A relay's seconds for a picture that comes, and for each viewer that it goes to.
  let each = (16 * c.relay_us_16 - c.relay_us_1) / 15;
  let once = c.relay_us_1 - each;
  const size = Math.max(1, show.picture_kb / MEASURED_KB);
  const factor = ((show.tls ? c.tls_factor : 1) * size) / 1e6;
  each *= factor;
  once *= factor;

  // What all of it takes at one relay; and, of several, what each copy of each stream adds: one letter out of its
  // home, one into another relay. (The home needs none; one more input does.)
  let cpu = fps * (streams * (2 * once + each) + viewers * each);
  const cpuCopy = fps * streams * (once + each);
  const pictureBits = show.picture_kb * 8000 * c.wire_factor;
  let bits = pictureBits * fps * (viewers + streams);
  const bitsCopy = pictureBits * fps * streams;
  const usable = show.nic_gbit * 1e9 * show.headroom;
  let byCpu = cpu / show.headroom;
  let byNic = bits / usable;
  if (Math.max(byCpu, byNic) > 1 || show.regions > 1) {
    byCpu = relaysFor(cpu, cpuCopy, perStream, show.headroom);
    byNic = relaysFor(bits, bitsCopy, perStream, usable);
  }
  const relays = show.regions * Math.max(1, Math.ceil(Math.max(byCpu, byNic) / show.regions));
  const copies = Math.min(relays, perStream);
  if (relays > 1) {
    cpu += cpuCopy * copies;
    bits += bitsCopy * copies;
  }

  const messages = relays > 1 ? fps * streams * copies : 0;
  const natsGbit = (messages * pictureBits) / 1e9;
  const natsCores = (messages * c.nats_us * size) / 1e6;
  const natsLoad = (natsGbit * 1e9) / usable;

  const engine = data.engines[show.engine];
  const engineMs = show.engine_ms ?? engine.value;
  const load = (fps * engineMs) / 1000 / c.worker_efficiency;
  const workers = load <= 1 ? 1 : Math.ceil(load / c.dispatch_efficiency);
  const shared = show.share_cards && load <= 1;
  const cards = shared ? Math.ceil(streams / Math.floor(1 / load)) : streams * workers;

  const atRelay = perStream / copies;
  const fanout = Math.max(once + each * atRelay, (pictureBits * atRelay) / (show.nic_gbit * 1e9));
  const delays = [
    engineMs * (workers > 1 ? c.age_p95 : 1),
    fanout * 1000,
    relays > 1 ? 2 * c.nats_hop_ms : 0,
    show.regions > 1 ? show.region_ms : 0,
  ];
  const viewersGbit = (viewers * fps * pictureBits) / 1e9;
  /** @type {[string, number][]} */
  const needs = [["cpu", byCpu], ["nic", byNic], ["card", load]];
  const atEach = viewers / relays;
  const notes = {
    stateless: workers > 1,
    connections: atEach + 16 > DEFAULT_CONNECTIONS,
    processes: relays > 1 && byCpu > byNic,
    "too-many": relays > MOST_RELAYS,
    extrapolated: atEach > MEASURED_VIEWERS,
    line: (fps * pictureBits) / 1e6 > PHONE_MBIT,
    published: show.engine_ms == null && !engine.measured,
    processor: show.engine_ms == null && engine.processor,
  };
  return {
    viewer_mbit: (fps * pictureBits) / 1e6,
    viewers_gbit: viewersGbit,
    relays,
    relays_by_cpu: byCpu,
    relays_by_nic: byNic,
    relay_core: cpu / relays,
    relay_gbit: bits / relays / 1e9,
    connections: Math.ceil(1.25 * atEach) + 16,
    nats_messages: messages,
    nats_gbit: natsGbit,
    nats_cores: natsCores,
    nats_servers: Math.ceil(natsLoad),
    cards_per_stream: workers,
    cards,
    card_busy: (streams * load) / cards,
    engine_ms: delays[0],
    fanout_ms: delays[1],
    backplane_ms: delays[2],
    region_ms: delays[3],
    added_ms: delays.reduce((sum, delay) => sum + delay, 0),
    traffic_tb: (viewersGbit * show.hours * 3600) / 8 / 1000,
    video_gbit: (viewers * c.video_mbit) / 1000,
    // Relays and cards one adds; NATS is one server until it is made a cluster.
    binds: natsLoad > 1 ? "nats" : needs.reduce((most, need) => (need[1] > most[1] ? need : most))[0],
    tier: viewersGbit > VIDEO_GBIT ? "video" : relays === 1 ? "one" : "several",
    notes: Object.entries(notes).filter(([, holds]) => holds).map(([name]) => name),
  };
}
