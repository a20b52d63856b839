/**
 * What a show needs, from measured costs: `dreamrelay/capacity.py`, line by line the same, which a test compares.
 * `docs/capacity.md` has the formulas in words. Runs in browsers and in Node.
 */

const MEASURED_KB = 60;
const MEASURED_VIEWERS = 16;
const DEFAULT_CONNECTIONS = 256;
const VIDEO_GBIT = 200;
const PHONE_MBIT = 10;

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

  // Every relay takes every stream, as far as it has viewers for it.
  const fixed = fps * (streams * (once + each) + viewers * each);
  const spread = fps * streams * once;
  const alone = (fixed + spread * perStream) / show.headroom;
  const room = show.headroom - spread;
  const byCpu = room > 0 ? Math.min(fixed / room, alone) : alone;

  const pictureBits = show.picture_kb * 8000 * c.wire_factor;
  const usable = show.nic_gbit * 1e9 * show.headroom;
  let byNic = (pictureBits * fps * (viewers + streams)) / usable;
  if (Math.max(byCpu, byNic) > 1 || show.regions > 1) byNic += (pictureBits * fps * 2 * streams) / usable; // and to the others, in and out
  const relays = show.regions * Math.max(1, Math.ceil(Math.max(byCpu, byNic) / show.regions));
  const copies = Math.min(relays, perStream);
  const cpu = fixed + spread * copies;

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
    relay_gbit: (byNic * usable) / relays / 1e9,
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
