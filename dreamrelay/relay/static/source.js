/** Pictures of this browser, sent to the stream: camera, screen, a file, or the test card. */

import { HOPS, nowMs, nowNs } from "./dreamrelay.js";
import { drawCard } from "./card.js";
import { cover } from "./encoder.js";

/** @typedef {"camera" | "screen" | "file" | "card"} Kind */
/** @typedef {"insecure" | "denied" | "none" | "busy" | "unplugged" | "unreadable" | "refused" | "off-air"} Trouble */

const LONGEST = 512; // pixels of the longer side while no engine says what it wants
const STILL_MS = 80;
const MOVING_MS = 33;
const QUALITY = 0.85;

/** @type {Record<string, Trouble>} */
const TROUBLES = {
  NotAllowedError: "denied", SecurityError: "denied", NotFoundError: "none", OverconstrainedError: "none",
  NotReadableError: "busy", AbortError: "busy",
};

/** JPEG off the main thread; where workers cannot draw, on it. */
class Encoder {
  /** @type {Worker | null} */
  #worker = null;
  /** @type {HTMLCanvasElement | null} */
  #canvas = null;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #clock;
  /** @type {(() => void) | null} */
  ontick = null;
  /** @type {((answer: any) => void) | null} */
  #answered = null;

  constructor() {
    if (typeof OffscreenCanvas === "undefined") {
      this.#canvas = document.createElement("canvas");
      return;
    }
    this.#worker = new Worker(new URL("encoder.js", import.meta.url), { type: "module" });
    this.#worker.onmessage = ({ data }) => {
      if (data.tick) this.ontick?.();
      else this.#answered?.(data);
    };
  }

  /** Call `ontick` so often, also in a hidden tab; 0 stops. @param {number} every milliseconds */
  tick(every) {
    if (this.#worker) this.#worker.postMessage({ every });
    else {
      clearInterval(this.#clock);
      if (every > 0) this.#clock = setInterval(() => this.ontick?.(), every);
    }
  }

  /**
   * @param {ImageBitmap} bitmap is closed
   * @param {number} width @param {number} height @param {boolean} mirror
   * @returns {Promise<Uint8Array<ArrayBuffer>>}
   */
  async encode(bitmap, width, height, mirror) {
    if (this.#canvas) {
      Object.assign(this.#canvas, { width, height });
      cover(/** @type {CanvasRenderingContext2D} */ (this.#canvas.getContext("2d")), bitmap, width, height, mirror);
      bitmap.close();
      const canvas = this.#canvas;
      /** @type {Blob | null} */
      const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", QUALITY));
      if (!blob) throw new Error("the browser could not encode the picture");
      return new Uint8Array(await blob.arrayBuffer());
    }
    const { jpeg, error } = await new Promise((resolve) => {
      this.#answered = resolve;
      this.#worker?.postMessage({ bitmap, width, height, mirror, quality: QUALITY }, [bitmap]);
    });
    if (error) throw new Error(error);
    return new Uint8Array(jpeg);
  }
}

/**
 * What is being sent. One at a time; a picture leaves only while the relay has credit for it, and a newer one
 * takes the place of one that waits. Events: `change` (kind, trouble or device changed).
 */
export class Source extends EventTarget {
  /** @type {Kind | null} */
  kind = null;
  /** @type {{ code: Trouble, kind: Kind, text: string } | null} */
  trouble = null;
  /** For people: the camera's or file's name. */
  label = "";
  deviceId = "";
  mirror = false;
  /** False while another producer has the stream. */
  onAir = true;

  #connect;
  #size;
  /** @type {import("./dreamrelay.js").Connection | null} */
  #connection = null;
  /** @type {Encoder | null} */
  #encoder = null;
  /** @type {HTMLVideoElement | HTMLCanvasElement | ImageBitmap | null} */
  #eye = null;
  /** @type {() => void} */
  #release = () => {};
  /** When the newest picture was taken that has not been sent. @type {bigint | null} */
  #fresh = null;
  #encoding = false;
  #turn = 0; // counts starts and stops, so that a slow permission dialogue cannot undo a later choice
  #paced = 0;
  #count = 0;
  /** @type {Set<bigint>} */
  #sent = new Set();

  /**
   * @param {() => import("./dreamrelay.js").Connection} connect makes the producer's connection
   * @param {() => { width: number, height: number } | null} size what the engine wants
   */
  constructor(connect, size) {
    super();
    this.#connect = connect;
    this.#size = size;
    document.addEventListener("visibilitychange", () => this.#pace());
  }

  /** Whether a picture taken at that time came from this page: then its age needs no clock but ours. @param {bigint} capturedNs */
  sentAt(capturedNs) {
    return this.#sent.has(capturedNs);
  }

  /** @param {string} [deviceId] */
  async camera(deviceId) {
    if (!this.#secure("camera")) return;
    const turn = ++this.#turn;
    const size = this.#size() ?? { width: 640, height: LONGEST };
    const video = {
      width: { ideal: size.width }, height: { ideal: size.height }, frameRate: { ideal: 30 },
      ...(deviceId && { deviceId: { exact: deviceId } }),
    };
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ video, audio: false });
      await this.#show("camera", stream, turn);
    } catch (error) {
      this.#fail("camera", turn, error);
    }
  }

  async screen() {
    if (!this.#secure("screen")) return;
    const turn = ++this.#turn;
    try {
      const stream = await navigator.mediaDevices.getDisplayMedia({ video: { frameRate: { ideal: 30 } }, audio: false });
      await this.#show("screen", stream, turn);
    } catch (error) {
      // Whoever closes the browser's picker has changed their mind, which is no trouble.
      if (/** @type {Error} */ (error).name !== "NotAllowedError") this.#fail("screen", turn, error);
    }
  }

  /** @param {File} file a picture or a video */
  async file(file) {
    const turn = ++this.#turn;
    try {
      if (file.type.startsWith("video/")) {
        const video = newVideo();
        const url = URL.createObjectURL(file);
        video.loop = true;
        video.src = url;
        await played(video);
        this.#start("file", file.name, video, turn, () => URL.revokeObjectURL(url));
      } else {
        const bitmap = await createImageBitmap(file);
        this.#start("file", file.name, bitmap, turn, () => bitmap.close());
      }
    } catch {
      this.#tell("unreadable", "file", turn, file.name);
    }
  }

  card() {
    const canvas = document.createElement("canvas");
    const { width, height } = this.#size() ?? { width: LONGEST, height: LONGEST };
    Object.assign(canvas, { width, height });
    this.#start("card", "Test card", canvas, ++this.#turn, () => {});
  }

  /** Have the stream instead of who has it now: it belongs to the producer that came last. */
  takeAir() {
    if (this.kind === null) return;
    this.#join();
    this.dismiss();
  }

  stop() {
    this.#turn += 1;
    this.#end();
    this.trouble = null;
    this.#changed();
  }

  /** @returns {Promise<MediaDeviceInfo[]>} nameless ones (no permission yet) are left out */
  async cameras() {
    const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
    return devices.filter((device) => device.kind === "videoinput" && device.label !== "");
  }

  dismiss() {
    this.trouble = null;
    this.#changed();
  }

  /** @param {Kind} kind */
  #secure(kind) {
    if (window.isSecureContext && navigator.mediaDevices) return true;
    this.#tell("insecure", kind, ++this.#turn);
    return false;
  }

  /** @param {Kind} kind @param {MediaStream} stream @param {number} turn */
  async #show(kind, stream, turn) {
    const release = () => stream.getTracks().forEach((track) => track.stop());
    if (turn !== this.#turn) return release();
    const [track] = stream.getVideoTracks();
    const video = newVideo();
    track.onended = () => {
      if (this.#eye !== video) return;
      this.stop();
      if (kind === "camera") this.#tell("unplugged", kind, this.#turn, track.label);
    };
    video.srcObject = stream;
    await played(video);
    this.deviceId = track.getSettings().deviceId ?? "";
    this.#start(kind, track.label, video, turn, release);
  }

  /**
   * @param {Kind} kind @param {string} label @param {HTMLVideoElement | HTMLCanvasElement | ImageBitmap} eye
   * @param {number} turn @param {() => void} release
   */
  #start(kind, label, eye, turn, release) {
    if (turn !== this.#turn) return release();
    this.#end();
    Object.assign(this, { kind, label, trouble: null });
    this.#eye = eye;
    this.#release = release;
    this.#encoder ??= new Encoder();
    this.#encoder.ontick = () => this.#see(nowNs());
    this.#join();
    this.#pace();
    this.#changed();
  }

  #join() {
    this.#connection?.close();
    this.onAir = true;
    const connection = (this.#connection = this.#connect());
    connection.addEventListener("welcome", () => this.#pump());
    connection.addEventListener("ack", (event) => this.#acked(/** @type {CustomEvent} */ (event).detail));
  }

  #end() {
    this.#encoder?.tick(0);
    this.#connection?.close();
    if (this.#eye instanceof HTMLVideoElement) {
      this.#eye.pause();
      this.#eye.srcObject = null;
    }
    this.#release();
    this.#release = () => {};
    this.#connection = this.#eye = this.#fresh = this.kind = null;
    this.label = "";
  }

  /** Follow the video's own pictures while the tab is seen, and a clock where there are none. */
  #pace() {
    const eye = this.#eye;
    if (!eye || !this.#encoder) return;
    const follows = eye instanceof HTMLVideoElement && "requestVideoFrameCallback" in eye && !document.hidden;
    this.#encoder.tick(follows ? 0 : eye instanceof ImageBitmap ? STILL_MS : MOVING_MS);
    if (!follows) return;
    const pace = ++this.#paced;
    const next = (/** @type {number} */ now, /** @type {VideoFrameCallbackMetadata} */ { captureTime }) => {
      if (this.#eye !== eye || pace !== this.#paced || document.hidden) return;
      eye.requestVideoFrameCallback(next);
      const ago = captureTime === undefined ? 0 : performance.now() - captureTime;
      this.#see(BigInt(Math.round((nowMs() - (ago > 0 && ago < 1000 ? ago : 0)) * 1000)) * 1000n);
    };
    eye.requestVideoFrameCallback(next);
  }

  /** @param {bigint} capturedNs */
  #see(capturedNs) {
    this.#fresh = capturedNs;
    this.#pump();
  }

  async #pump() {
    const [eye, connection, capturedNs] = [this.#eye, this.#connection, this.#fresh];
    if (!eye || !connection || !this.#encoder || capturedNs === null || this.#encoding || connection.credits < 1) return;
    this.#fresh = null;
    this.#encoding = true;
    try {
      if (eye instanceof HTMLCanvasElement) this.#drawCard(eye, capturedNs);
      const bitmap = await createImageBitmap(eye);
      const { width, height } = this.#size() ?? within(bitmap.width, bitmap.height);
      const data = await this.#encoder.encode(bitmap, width, height, this.mirror && this.kind === "camera");
      const stamps = [{ hop: HOPS.ENCODED, ns: nowNs() }];
      if (connection.send({ data, width, height, capturedNs, stamps, seq: this.#count++ })) this.#remember(capturedNs);
    } catch (error) {
      // A camera between two sizes, or a source that has just ended: the next picture will do.
      if (this.#eye === eye) console.debug("dreamrelay: a picture was left out:", error);
    } finally {
      this.#encoding = false;
    }
    this.#pump();
  }

  /** @param {HTMLCanvasElement} canvas @param {bigint} capturedNs */
  #drawCard(canvas, capturedNs) {
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    const seconds = Number(capturedNs / 1000000n) / 1000;
    drawCard(context, Math.floor(seconds * 30) % 100000, seconds % 1e6);
  }

  /** @param {bigint} capturedNs */
  #remember(capturedNs) {
    this.#sent.add(capturedNs);
    for (const oldest of this.#sent) {
      if (this.#sent.size <= 300) break;
      this.#sent.delete(oldest);
    }
  }

  /** @param {{ accepted: boolean, message?: string, on_air?: boolean }} ack */
  #acked(ack) {
    const onAir = ack.on_air !== false;
    if (onAir !== this.onAir) {
      this.onAir = onAir;
      if (!onAir) this.#tell("off-air", this.kind ?? "file", this.#turn);
      else if (this.trouble?.code === "off-air") this.trouble = null;
      this.#changed();
    }
    if (ack.accepted === false) this.#tell("refused", this.kind ?? "file", this.#turn, ack.message);
    else if (this.trouble?.code === "refused") this.dismiss();
    this.#pump();
  }

  /** @param {Kind} kind @param {number} turn @param {unknown} error */
  #fail(kind, turn, error) {
    const { name, message } = /** @type {Error} */ (error);
    this.#tell(TROUBLES[name] ?? "busy", kind, turn, message);
  }

  /** @param {Trouble} code @param {Kind} kind @param {number} turn @param {string} [text] */
  #tell(code, kind, turn, text = "") {
    if (turn !== this.#turn) return;
    if (this.trouble?.code === code && this.trouble.text === text) return;
    this.trouble = { code, kind, text };
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}

/** @param {number} width @param {number} height the size to send at when nobody asks for one */
function within(width, height) {
  const scale = Math.min(1, LONGEST / Math.max(width, height));
  const even = (/** @type {number} */ n) => Math.max(2, 2 * Math.round((n * scale) / 2));
  return { width: even(width), height: even(height) };
}

function newVideo() {
  return Object.assign(document.createElement("video"), { muted: true, playsInline: true });
}

/** @param {HTMLVideoElement} video @returns {Promise<void>} when it has a picture */
async function played(video) {
  await new Promise((resolve, reject) => {
    video.onloadeddata = resolve;
    video.onerror = () => reject(new Error(video.error?.message ?? "the video cannot be read"));
    video.play().catch(reject);
  });
}
