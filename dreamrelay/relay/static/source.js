/** Pictures of this browser, sent to the stream: camera, screen, a file, or the test card. */

import { Publisher } from "./dreamrelay.js";
import { drawCard } from "./card.js";

/** @typedef {"camera" | "screen" | "file" | "card"} Kind */
/** @typedef {"insecure" | "denied" | "none" | "busy" | "unplugged" | "unreadable" | "refused" | "off-air" | "forbidden"} Trouble */

const LONGEST = 512; // pixels, while no engine says what it wants

/** @type {Record<string, Trouble>} */
const TROUBLES = {
  NotAllowedError: "denied", SecurityError: "denied", NotFoundError: "none", OverconstrainedError: "none",
  NotReadableError: "busy", AbortError: "busy",
};

/** Phones share none. On a page that is not secure nobody can tell, and is told that. */
export const canShareScreen = !globalThis.navigator?.mediaDevices || "getDisplayMedia" in navigator.mediaDevices;

/**
 * What is being sent, one at a time. Events: `change` (kind, trouble or device changed).
 */
export class Source extends EventTarget {
  /** @type {Kind | null} */
  kind = null;
  /** @type {{ code: Trouble, kind: Kind, text: string } | null} */
  trouble = null;
  /** For people: the camera's or file's name. */
  label = "";
  deviceId = "";
  #mirror = false;
  /** False while another producer has the stream. */
  onAir = true;

  #connect;
  #size;
  #there;
  /** @type {import("./dreamrelay.js").Connection | null} */
  #connection = null;
  /** @type {HTMLVideoElement | HTMLCanvasElement | ImageBitmap | null} */
  #eye = null;
  /** @type {() => void} */
  #release = () => {};
  #turn = 0; // counts starts and stops, so that a slow permission dialogue cannot undo a later choice
  #publisher;

  /**
   * @param {() => import("./dreamrelay.js").Connection} connect makes the producer's connection
   * @param {() => { width: number, height: number } | null} size what the engine wants
   * @param {() => boolean} there whether the relay is
   */
  constructor(connect, size, there) {
    super();
    this.#there = there;
    this.#connect = connect;
    this.#size = size;
    this.#publisher = new Publisher({ size });
  }

  get mirror() {
    return this.#mirror;
  }

  set mirror(on) {
    this.#mirror = on;
    this.#publisher.mirror = on && this.kind === "camera";
  }

  /** When this page got a picture of its own; undefined: it is somebody else's. @param {bigint} capturedNs of the picture */
  seenAt(capturedNs) {
    return this.#publisher.seenAt(capturedNs);
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
    this.#publisher.ondraw = eye instanceof HTMLCanvasElement ? (capturedNs) => this.#drawCard(eye, capturedNs) : null;
    this.mirror = this.#mirror;
    this.#join();
    this.#publisher.watch(eye);
    this.#changed();
  }

  #join() {
    this.#connection?.close();
    this.onAir = true;
    const connection = (this.#connection = this.#connect());
    connection.addEventListener("state", () => {
      // A door that stays shut, though the relay is there, is one for others.
      if (connection.state !== "waiting" || connection.welcome !== null || connection.failures < 2 || !this.#there()) return;
      const kind = this.kind ?? "file";
      this.stop();
      this.#tell("forbidden", kind, this.#turn);
    });
    this.#publisher.join(connection);
    connection.addEventListener("ack", (event) => this.#acked(/** @type {CustomEvent} */ (event).detail));
  }

  #end() {
    this.#publisher.watch(null);
    this.#publisher.join(null);
    this.#connection?.close();
    if (this.#eye instanceof HTMLVideoElement) {
      this.#eye.pause();
      this.#eye.srcObject = null;
    }
    this.#release();
    this.#release = () => {};
    this.#connection = this.#eye = this.kind = null;
    this.label = "";
  }

  /** @param {HTMLCanvasElement} canvas @param {bigint} capturedNs */
  #drawCard(canvas, capturedNs) {
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    const seconds = Number(capturedNs / 1000000n) / 1000;
    drawCard(context, Math.floor(seconds * 30) % 100000, seconds % 1e6);
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
    else if (this.trouble?.code === "refused" || this.trouble?.code === "forbidden") this.dismiss();
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
