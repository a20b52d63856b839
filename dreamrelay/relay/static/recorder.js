/** The output as a file: one picture, or a recording. */

import { announce, download, fileName } from "./dom.js";

const KINDS = ["video/webm;codecs=vp9", "video/webm;codecs=vp8", "video/webm", "video/mp4"];
const BITS = 8_000_000; // a second
const FPS = 30;

/** Events: `change` (recording or not, seconds), `note`. */
export class Recorder extends EventTarget {
  /** @type {MediaRecorder | null} */
  #recorder = null;
  #begun = 0;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #clock;

  /** @param {HTMLCanvasElement} canvas @param {string} stream */
  constructor(canvas, stream) {
    super();
    this.canvas = canvas;
    this.stream = stream;
    addEventListener("beforeunload", (event) => {
      if (this.recording) event.preventDefault(); // what is recorded is in this page only
    });
  }

  get recording() {
    return this.#recorder !== null;
  }

  get seconds() {
    return this.recording ? (performance.now() - this.#begun) / 1000 : 0;
  }

  /** The picture that is to be seen, as PNG. */
  snapshot() {
    if (this.canvas.width < 2) return this.#note("There is no picture yet");
    this.canvas.toBlob((blob) => {
      if (!blob) return this.#note("The browser could not write the picture");
      download(blob, fileName(this.stream, "png"));
      announce("Snapshot saved");
    }, "image/png");
  }

  toggle() {
    if (this.#recorder) this.#recorder.stop();
    else this.#start();
  }

  #start() {
    const type = KINDS.find((kind) => globalThis.MediaRecorder?.isTypeSupported(kind));
    if (!type || !this.canvas.captureStream) return this.#note("This browser records no canvas", "Chromium, Firefox and Safari from 14.1 do.");
    if (this.canvas.width < 2) return this.#note("There is no picture yet");
    /** @type {Blob[]} */
    const pieces = [];
    const stream = this.canvas.captureStream(FPS);
    const recorder = new MediaRecorder(stream, { mimeType: type, videoBitsPerSecond: BITS });
    recorder.ondataavailable = ({ data }) => pieces.push(data);
    recorder.onerror = () => this.#note("The recording broke off", "What was recorded until then is saved.");
    recorder.onstop = () => {
      stream.getTracks().forEach((track) => track.stop());
      clearInterval(this.#clock);
      this.#recorder = null;
      download(new Blob(pieces, { type }), fileName(this.stream, type.startsWith("video/mp4") ? "mp4" : "webm"));
      announce("Recording saved");
      this.#changed();
    };
    recorder.start(1000); // in pieces, which the browser may put aside
    this.#recorder = recorder;
    this.#begun = performance.now();
    this.#clock = setInterval(() => this.#changed(), 500);
    announce("Recording");
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }

  /** @param {string} title @param {string} [text] */
  #note(title, text) {
    this.dispatchEvent(new CustomEvent("note", { detail: { title, text } }));
  }
}
