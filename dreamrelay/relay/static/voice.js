/** The microphone: hold the button to talk, press it shortly to have it listen by itself. Nothing is kept. */

import { announce, make } from "./dom.js";
import { VoiceDetector } from "./vad.js";

const KINDS = ["audio/webm;codecs=opus", "audio/ogg;codecs=opus", "audio/mp4"];
const SHORT_MS = 350; // a press below it is a click
const LOOK_MS = 50;
const PREROLL_MS = 1500; // so much before the first word is sent with it
const SURE = 0.4;

/** @typedef {"off" | "starting" | "talk" | "listen" | "hear"} Stage */

/** Events: `note` (detail: what is to be said, or null), `change`. */
export class Voice extends EventTarget {
  /** @type {Stage} */
  stage = "off";
  /** Recordings that the relay has not answered yet. */
  thinking = 0;
  deviceId = "";

  /** @type {MediaStream | null} */
  #stream = null;
  /** @type {MediaRecorder | null} */
  #recorder = null;
  /** @type {AudioContext | null} */
  #sound = null;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #clock;
  #turn = 0;
  #pressed = 0;

  /**
   * @param {HTMLButtonElement} button
   * @param {import("./dreamrelay.js").Relay} relay
   * @param {(text: string, sure: boolean) => void} said
   * @param {string} command that starts a relay with ears
   */
  constructor(button, relay, said, command) {
    super();
    this.button = button;
    this.relay = relay;
    this.said = said;
    this.command = command;
    button.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      button.setPointerCapture(event.pointerId);
      this.press();
    });
    for (const end of ["pointerup", "pointercancel"]) button.addEventListener(end, () => this.release());
    button.addEventListener("keydown", (event) => {
      if (event.key !== " " && event.key !== "Enter") return;
      event.preventDefault();
      if (!event.repeat) this.press();
    });
    button.addEventListener("keyup", (event) => {
      if (event.key === " " || event.key === "Enter") this.release();
    });
    button.addEventListener("contextmenu", (event) => event.preventDefault()); // a long touch is talk
    this.#show();
  }

  /** The button, or its key, goes down. */
  async press() {
    this.#pressed = performance.now();
    if (this.stage === "listen" || this.stage === "hear") return this.stop();
    if (this.stage !== "off" || !(await this.#open())) return;
    this.#become("talk");
    this.#record();
  }

  /** And up. */
  release() {
    const long = performance.now() - this.#pressed > SHORT_MS;
    if (this.stage === "starting") {
      // The browser asks for permission: whoever answers it has let go of the button.
      this.#pressed = Infinity;
    } else if (this.stage === "talk") {
      if (long) this.#finish();
      else this.#listen();
    }
  }

  /** No more listening, the microphone is given back. */
  stop() {
    this.#turn += 1;
    clearInterval(this.#clock);
    this.#drop();
    this.#stream?.getTracks().forEach((track) => track.stop());
    this.#sound?.close();
    this.#stream = this.#sound = null;
    this.#become("off");
  }

  /** @returns {Promise<MediaDeviceInfo[]>} */
  async devices() {
    const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
    return devices.filter((device) => device.kind === "audioinput" && device.label !== "");
  }

  async #open() {
    if (!window.isSecureContext || !navigator.mediaDevices) return this.#trouble("insecure");
    if (!this.#kind) return this.#trouble("unable");
    const turn = ++this.#turn;
    this.#become("starting");
    try {
      const audio = { echoCancellation: true, noiseSuppression: true, ...(this.deviceId && { deviceId: { exact: this.deviceId } }) };
      const stream = await navigator.mediaDevices.getUserMedia({ audio, video: false });
      if (turn !== this.#turn) {
        stream.getTracks().forEach((track) => track.stop());
        return false;
      }
      this.#stream = stream;
      stream.getAudioTracks()[0].onended = () => this.stop();
      this.#note(null);
      if (this.#pressed !== Infinity) return true;
      this.#listen();
      return false;
    } catch (error) {
      this.stop();
      const name = /** @type {Error} */ (error).name;
      return this.#trouble(name === "NotAllowedError" ? "denied" : name === "NotFoundError" ? "none" : "busy");
    }
  }

  get #kind() {
    return KINDS.find((kind) => globalThis.MediaRecorder?.isTypeSupported(kind));
  }

  #record() {
    const recorder = new MediaRecorder(/** @type {MediaStream} */ (this.#stream), { mimeType: this.#kind, audioBitsPerSecond: 32_000 });
    recorder.start();
    this.#recorder = recorder;
  }

  /** Forget what is being recorded. */
  #drop() {
    const recorder = this.#recorder;
    this.#recorder = null;
    if (recorder && recorder.state !== "inactive") recorder.stop();
  }

  /** Send what was recorded. */
  #send() {
    const recorder = this.#recorder;
    this.#recorder = null;
    if (!recorder || recorder.state === "inactive") return;
    recorder.ondataavailable = ({ data }) => this.#transcribe(data);
    recorder.stop();
  }

  #finish() {
    this.#send();
    // The recorder has to end before its microphone does.
    this.#recorder = null;
    const stream = this.#stream;
    this.#stream = null;
    setTimeout(() => stream?.getTracks().forEach((track) => track.stop()), 0);
    this.#become("off");
  }

  #listen() {
    const sound = (this.#sound = new AudioContext());
    const ear = sound.createAnalyser();
    ear.fftSize = 1024;
    sound.createMediaStreamSource(/** @type {MediaStream} */ (this.#stream)).connect(ear);
    const samples = new Float32Array(ear.fftSize);
    const detector = new VoiceDetector();
    let fresh = performance.now();
    const again = () => {
      this.#drop();
      this.#record();
      fresh = performance.now();
    };
    this.#drop();
    this.#record();
    this.#become("listen");
    this.#clock = setInterval(() => {
      ear.getFloatTimeDomainData(samples);
      const level = Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length);
      this.button.style.setProperty("--level", String(Math.min(1, level * 6)));
      const now = performance.now();
      const heard = detector.hear(level, now);
      if (heard === "begin") this.#become("hear");
      else if (heard === "end") {
        this.#send();
        this.#record();
        fresh = now;
        this.#become("listen");
      } else if (heard === "nothing") {
        again();
        this.#become("listen");
      } else if (!detector.speaking && now - fresh > PREROLL_MS) again();
    }, LOOK_MS);
  }

  /** @param {Blob} recording */
  async #transcribe(recording) {
    this.thinking += 1;
    this.#show();
    try {
      const { text, confidence } = await this.relay.transcribe(recording);
      this.#note(null);
      if (text) this.said(text, (confidence ?? 1) >= SURE);
      else announce("Nothing understood");
    } catch (error) {
      const { status, message } = /** @type {import("./dreamrelay.js").RelayError} */ (error);
      if (status === 404 || status === 503) {
        this.stop();
        this.#note({ title: "This relay does not listen", text: status === 404 ? "Start one that turns speech into text:" : message, command: this.command });
      } else this.#note({ title: "That was not understood", text: message });
    } finally {
      this.thinking -= 1;
      this.#show();
    }
  }

  /** @param {"insecure" | "denied" | "none" | "busy" | "unable"} code @returns {false} */
  #trouble(code) {
    this.dispatchEvent(new CustomEvent("trouble", { detail: { code, kind: "microphone", text: "" } }));
    return false;
  }

  /** @param {Stage} stage */
  #become(stage) {
    if (stage !== this.stage && (stage === "listen" || stage === "talk")) announce(stage === "talk" ? "Recording, let go to send" : "Listening");
    this.stage = stage;
    this.#show();
  }

  #show() {
    const { button, stage } = this;
    const label = stage === "off" ? "Talk: hold, or press to listen on" : stage === "talk" ? "Talking, let go to send" : "Listening, press to stop";
    button.dataset.stage = this.thinking > 0 && stage === "off" ? "think" : stage;
    button.setAttribute("aria-pressed", String(stage === "listen" || stage === "hear"));
    button.title = `${label} (V)`;
    const words = button.querySelector(".sr") ?? button.appendChild(make("span", { className: "sr" }));
    words.textContent = label;
    this.dispatchEvent(new Event("change"));
  }

  /** @param {import("./notices.js").Note | null} detail */
  #note(detail) {
    this.dispatchEvent(new CustomEvent("note", { detail }));
  }
}
