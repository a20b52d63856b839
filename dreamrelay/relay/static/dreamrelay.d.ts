/**
 * Types of dreamrelay.js: view the pictures of a relay, send it pictures, change parameters. No dependencies.
 * docs/embedding.md has examples, docs/protocol.md the protocol byte by byte.
 */

export type Track = "input" | "output" | "control";

/** When a hop of {@link HOPS} was passed, in ns of UNIX time by the relay's clock. */
export interface Stamp {
  hop: number;
  ns: bigint;
}

/** One encoded picture with its header. */
export interface Packet {
  data: Uint8Array<ArrayBuffer>;
  /** Its MIME type; empty when the codec is not known here. */
  type: string;
  track: Track;
  /** Answers a request, not for the public. */
  private: boolean;
  /** Is still being worked at; a better one with the same number follows. */
  preview: boolean;
  /** No result, but what is shown while none come. */
  standIn: boolean;
  /** Number of the picture in its stream. */
  seq: number;
  /** UNIX time in ns at which it was taken, by the relay's clock. */
  capturedNs: bigint;
  /** Of the parameters it was made under; 0 for inputs. */
  revision: number;
  /** Pixels. */
  width: number;
  height: number;
  stamps: Stamp[];
  /** When this side got it, as of {@link nowMs}. */
  arrivedMs?: number;
}

/** What is not said gets a default: JPEG, taken now, track "input". */
export type Outgoing = Partial<Packet> & { data: Uint8Array; width: number; height: number };

export const PROTOCOL_VERSION: 1;
export const TRACKS: readonly Track[];
/** MIME types by their number on the wire. */
export const CODECS: Readonly<Record<number, string>>;
export const HOPS: {
  ENCODED: number; RELAYED: number; RECEIVED: number; DECODED: number;
  INFER: number; INFERRED: number; REENCODED: number; RETURNED: number; HANDED: number;
};

/** Read a binary message; `data` is a view into it. @throws {TypeError} it is no packet of this version */
export function decodePacket(message: ArrayBuffer | Uint8Array<ArrayBuffer>): Packet;
/** Write a binary message. @throws {TypeError} the relay takes no pictures of that type */
export function encodePacket(packet: Outgoing): Uint8Array<ArrayBuffer>;
/** UNIX time in milliseconds with a fraction. */
export function nowMs(): number;
/** UNIX time in nanoseconds. */
export function nowNs(): bigint;

/** What the relay refused; `code` is "closed" when the connection went before it answered. */
export class RelayError extends Error {
  constructor(code: string, message: string, problems?: Record<string, string>, status?: number);
  name: "RelayError";
  code: string;
  /** What was wrong with which parameter. */
  problems: Record<string, string>;
  /** Of the HTTP answer; 0: there was none. */
  status: number;
}

export interface RelayOptions {
  /** The relay's address (http or ws); where this module came from, if not given. */
  relay?: string | URL;
  token?: string;
}

export interface ConnectionOptions extends RelayOptions {
  /** "default" if not given. */
  stream?: string;
  /** "viewer" if not given. */
  role?: "viewer" | "producer" | "worker";
  /** Viewer: which pictures, "both" being input and output; "output" if not given. */
  track?: Track | "both";
  /** Viewer: how many pictures may be under way; 1 if not given. */
  credit?: number;
  /** For the relay's list of peers. */
  name?: string;
  /** For surroundings that have none. */
  WebSocket?: typeof WebSocket;
}

/** `state` and `packet`, and each message of the relay under its own name (docs/protocol.md). */
export interface ConnectionEvents {
  state: CustomEvent<{ state: Connection["state"]; retryAt: number; code?: number; reason?: string }>;
  packet: CustomEvent<Packet>;
  welcome: CustomEvent<Record<string, any>>;
  schema: CustomEvent<{ schema: Record<string, any> | null }>;
  parameters: CustomEvent<{ values: Record<string, any>; revision: number; changed: string[]; origin: string }>;
  status: CustomEvent<Record<string, any>>;
  ack: CustomEvent<{ seq: number; accepted: boolean; message?: string; on_air?: boolean }>;
  error: CustomEvent<{ code: string; message: string; problems?: Record<string, string> }>;
}

/** One role of one stream, kept up: it reconnects by itself, with growing, jittered pauses. */
export class Connection extends EventTarget {
  constructor(options?: ConnectionOptions);
  state: "connecting" | "open" | "waiting" | "closed";
  /** When the next attempt is due (as of {@link nowMs}), in state "waiting". */
  retryAt: number;
  /**
   * What is to be added to {@link nowMs} to have the relay's clock, and how far that may be off, in ms; null until known.
   * Clocks that may agree are taken to agree: that is 0.
   */
  get clock(): { offset: number; error: number } | null;
  /** The relay's clock minus ours in ms; null until known. */
  get clockOffset(): number | null;
  /** Round trip in ms of the last ping. */
  roundTrip: number | null;
  /** Producer: how many pictures may be sent now. */
  credits: number;
  /** The relay's first words. */
  welcome: Record<string, any> | null;
  /** Attempts that failed since it last was open. */
  failures: number;
  get stream(): string;
  get role(): string;
  /** Where the WebSocket goes. */
  get address(): URL;
  /** Try again at once instead of waiting. */
  retryNow(): void;
  /** Leave for good. */
  close(): void;
  /** Send a control message; false: there is no connection. */
  say(message: Record<string, any>): boolean;
  /** Viewer: one more picture may come. */
  give(track?: Track): void;
  /** Producer: send a picture. It costs a credit, which its `ack` brings back; false: nothing was sent. */
  send(packet: Outgoing): boolean;
  /** Change parameters: all of the patch, or nothing of it. @throws {RelayError} */
  patch(patch: Record<string, unknown>): Promise<{ values: Record<string, any>; revision: number }>;
  addEventListener<K extends keyof ConnectionEvents>(type: K, listener: (event: ConnectionEvents[K]) => void, options?: AddEventListenerOptions | boolean): void;
  addEventListener(type: string, listener: EventListenerOrEventListenerObject | null, options?: AddEventListenerOptions | boolean): void;
}

/** The stream's parameters, as they hold, and the changes that are on their way. Event: `change`. */
export class Parameters extends EventTarget {
  constructor(connection: Connection);
  schema: Record<string, any> | null;
  values: Record<string, any>;
  revision: number;
  pending: Map<string, { value: unknown; stage: "waiting" | "sent" | "accepted" | "refused"; revision: number }>;
  /** What the relay said against a value; it stays until another is accepted. */
  problems: Map<string, string>;
  /** The value as the user should see it: the pending one if there is one. */
  value(name: string): any;
  /** Change parameters; what is said within one frame goes out as one patch. */
  set(patch: Record<string, unknown>): void;
  /** Forget a change that was refused. */
  forget(name: string): void;
  /** A picture made under this revision was seen. */
  seen(revision: number): void;
  /** No picture will come that could show the accepted changes; take them as done. */
  settle(): void;
}

/** What was said; `action` is a prompt, unless it is a command. */
export interface Heard {
  text: string;
  /** 0 to 1. */
  confidence: number;
  action?: { name: string; text: string; number: number | null };
}

/** The relay's HTTP side; from a page of another origin a browser lets nothing of it through. All throw {@link RelayError}. */
export class Relay {
  constructor(options?: RelayOptions);
  /** An address below the relay's; the token is not in it. */
  address(path: string): URL;
  streams(): Promise<Record<string, any>[]>;
  /** Status, `parameters` and `revision` of one. */
  stream(stream: string): Promise<Record<string, any>>;
  /** Where the time of its pictures goes (docs/latency.md). */
  latency(stream: string): Promise<Record<string, any>>;
  /** The last picture of a track. */
  snapshot(stream: string, track?: Track): Promise<Blob>;
  /** The picture that another one is to look like. */
  reference(stream: string): Promise<Blob>;
  setReference(stream: string, picture: Blob): Promise<void>;
  clearReference(stream: string): Promise<void>;
  /** Choose what is shown while no results come (docs/surviving.md); what is not named stays as it is. */
  fallBack(stream: string, choice: { when_lost?: "hold" | "pass" | "slate"; hold_seconds?: number }): Promise<{ when_lost: string; hold_seconds: number }>;
  /** Text of a recording (WebM/Opus, Ogg, MP4, WAV), in the words that the stream's model knows. */
  transcribe(stream: string, recording: Blob): Promise<Heard>;
  /** Whether it listens: `state` off, idle, loading, ready or failed, `text`, `fraction`. */
  speech(): Promise<Record<string, any>>;
  /** Have it get ready to listen. */
  loadSpeech(): Promise<void>;
}

// ---- with a DOM ----------------------------------------------------------------------------------------------

/** Paints packets on a canvas, newest wins; credit goes back after the paint. Events: `paint`, `broken`. */
export class Painter extends EventTarget {
  constructor(canvas: HTMLCanvasElement, options?: { guard?: FlashGuard | null });
  canvas: HTMLCanvasElement;
  /** What is on the canvas. */
  packet: Packet | null;
  guard: FlashGuard | null;
  /** Paint what a viewer is sent. */
  follow(viewer: Connection, track?: Track): this;
  /** Paint this unless a newer one comes first; `done` is called once, whatever became of it. */
  offer(packet: Packet, done?: () => void): void;
}

/** The pictures as MJPEG, over the canvas, while no WebSocket gets through or what comes cannot be decoded. Event: `change`. */
export class Fallback extends EventTarget {
  constructor(painter: Painter, viewer: Connection, track?: Track, options?: RelayOptions);
  /** The picture's element while it is in use. */
  image: HTMLImageElement | null;
  /** Whether its pictures are to be seen. */
  get shown(): boolean;
}

/** Sends what an element shows, newest wins, while there is credit. */
export class Publisher {
  constructor(options?: { size?: () => { width: number; height: number } | null; quality?: number });
  mirror: boolean;
  /** Of the JPEG, 0 to 1. */
  quality: number;
  /** Draws the next picture, where a canvas has to be asked. */
  ondraw: ((capturedNs: bigint) => void) | null;
  /** Send over this connection (role "producer") from now on; it stays yours to close. */
  join(connection: Connection | null): void;
  /** Look at this from now on; null: at nothing. */
  watch(eye: HTMLVideoElement | HTMLCanvasElement | ImageBitmap | null): void;
  /** When this page got the picture that was taken then; undefined: it is not one of ours. */
  seenAt(capturedNs: bigint): number | undefined;
}

/** Holds flicker back for photosensitive viewers (WCAG 2.3.1, general flashes). Give one to a Painter. */
export class FlashGuard {
  /** Whether it is holding back now. */
  active: boolean;
  /** How much of the next picture to mix over the present one, 0 to 1; then say {@link showed}. */
  admit(light: Float32Array, now: number): number;
  showed(light: Float32Array): void;
}
