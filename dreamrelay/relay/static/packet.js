/** The packet: one encoded picture and its header, read from bytes and written to them; and the clock of its stamps. */

/** @typedef {"input" | "output" | "control"} Track control: the map (edges, depth, ...) that steers the picture */

/** @typedef {{ hop: number, ns: bigint }} Stamp A hop of {@link HOPS} and when it was passed, by the relay's clock. */

/**
 * @typedef {object} Packet One encoded picture with its header.
 * @property {Uint8Array<ArrayBuffer>} data the encoded picture
 * @property {string} type its MIME type; empty when the codec is not known here
 * @property {Track} track
 * @property {boolean} private answers a request, not for the public
 * @property {boolean} preview is still being worked at; a better one with the same number follows
 * @property {boolean} standIn no result, but what is shown while none come
 * @property {number} seq number of the picture in its stream
 * @property {bigint} capturedNs UNIX time at which it was taken, by the relay's clock
 * @property {number} revision of the parameters it was made under; 0 for inputs
 * @property {number} width pixels
 * @property {number} height pixels
 * @property {Stamp[]} stamps
 * @property {number} [arrivedMs] when this page got it, as of {@link nowMs}
 */

export const PROTOCOL_VERSION = 1;

/** @type {readonly Track[]} */
export const TRACKS = ["input", "output", "control"];

/** MIME types by their number on the wire. @type {Readonly<Record<number, string>>} */
export const CODECS = { 1: "image/jpeg", 2: "image/png", 3: "image/webp", 4: "image/gif", 5: "image/bmp" };

/** What a stamp's `hop` means. */
export const HOPS = {
  ENCODED: 1, RELAYED: 2, RECEIVED: 3, DECODED: 4, INFER: 5, INFERRED: 6, REENCODED: 7, RETURNED: 8, HANDED: 9,
};

const HEADER = 36;
const STAMP = 12;
const MAX_STAMPS = 16;
const MAGIC = 0x5244; // "DR", read as a little-endian number

/**
 * Read a binary message.
 * @param {ArrayBuffer | Uint8Array<ArrayBuffer>} message
 * @returns {Packet} its `data` is a view into the message, not a copy
 * @throws {TypeError} it is no packet of this version
 */
export function decodePacket(message) {
  const bytes = message instanceof Uint8Array ? message : new Uint8Array(message);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < HEADER || view.getUint16(0, true) !== MAGIC) {
    throw new TypeError("expected a packet, got bytes that do not begin with DR and a header");
  }
  const version = view.getUint8(2);
  if (version !== PROTOCOL_VERSION) {
    throw new TypeError(`expected a packet of version ${PROTOCOL_VERSION}, got version ${version}`);
  }
  const begin = view.getUint16(4, true);
  const count = view.getUint8(32);
  if (count > MAX_STAMPS || begin < HEADER + STAMP * count || begin > bytes.length) {
    throw new TypeError(`the packet's header is broken: ${count} stamps, picture at ${begin} of ${bytes.length}`);
  }
  const track = TRACKS[view.getUint8(6)];
  if (track === undefined) throw new TypeError(`expected track 0, 1 or 2, got ${view.getUint8(6)}`);
  const stamps = [];
  for (let at = HEADER; at < HEADER + STAMP * count; at += STAMP) {
    stamps.push({ hop: view.getUint8(at), ns: view.getBigUint64(at + 4, true) });
  }
  return {
    data: bytes.subarray(begin),
    type: CODECS[view.getUint8(3)] ?? "",
    track,
    private: (view.getUint8(7) & 1) !== 0,
    preview: (view.getUint8(7) & 2) !== 0,
    standIn: (view.getUint8(7) & 4) !== 0,
    seq: Number(view.getBigUint64(8, true)),
    capturedNs: view.getBigUint64(16, true),
    revision: view.getUint32(24, true),
    width: view.getUint16(28, true),
    height: view.getUint16(30, true),
    stamps,
  };
}

/** @typedef {Partial<Packet> & { data: Uint8Array, width: number, height: number }} Outgoing What is not said gets a default. */

/**
 * Write a binary message.
 * @param {Outgoing} packet
 * @returns {Uint8Array}
 */
export function encodePacket(packet) {
  const stamps = (packet.stamps ?? []).slice(0, MAX_STAMPS);
  const begin = HEADER + STAMP * stamps.length;
  const bytes = new Uint8Array(begin + packet.data.length);
  const view = new DataView(bytes.buffer);
  const type = packet.type ?? "image/jpeg";
  const codec = Object.entries(CODECS).find(([, mime]) => mime === type);
  if (codec === undefined) throw new TypeError(`expected one of ${Object.values(CODECS).join(", ")}, got ${type}`);
  view.setUint16(0, MAGIC, true);
  view.setUint8(2, PROTOCOL_VERSION);
  view.setUint8(3, Number(codec[0]));
  view.setUint16(4, begin, true);
  view.setUint8(6, TRACKS.indexOf(packet.track ?? "input"));
  view.setUint8(7, (packet.private ? 1 : 0) | (packet.preview ? 2 : 0) | (packet.standIn ? 4 : 0));
  view.setBigUint64(8, BigInt(packet.seq ?? 0), true);
  view.setBigUint64(16, packet.capturedNs ?? nowNs(), true);
  view.setUint32(24, packet.revision ?? 0, true);
  view.setUint16(28, packet.width, true);
  view.setUint16(30, packet.height, true);
  view.setUint8(32, stamps.length);
  stamps.forEach((stamp, index) => {
    view.setUint8(HEADER + STAMP * index, stamp.hop);
    view.setBigUint64(HEADER + STAMP * index + 4, stamp.ns, true);
  });
  bytes.set(packet.data, begin);
  return bytes;
}

let origin = performance.timeOrigin;

/** UNIX time in milliseconds with a fraction. The page's clock stops while a laptop sleeps; this one does not. */
export function nowMs() {
  const now = origin + performance.now();
  const drift = Date.now() - now;
  if (Math.abs(drift) < 20) return now;
  origin += drift;
  return now + drift;
}

/** UNIX time in nanoseconds. */
export function nowNs() {
  return BigInt(Math.round(nowMs() * 1000)) * 1000n;
}

/** An event with its facts as `detail`. @template T @extends {CustomEvent<T>} */
export class Told extends CustomEvent {
  /** @param {string} type @param {T} detail */
  constructor(type, detail) {
    super(type, { detail });
  }
}
