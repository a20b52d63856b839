/** The microphone: hold the button to talk, press it shortly to have it listen by itself. Nothing is kept. */

import { announce, make } from "./dom.js";
import { VoiceDetector } from "./vad.js";

const KINDS = ["audio/webm;codecs=opus", "audio/ogg;codecs=opus", "audio/mp4"];
const SHORT_MS = 350; // a press below it is a click
const LOOK_MS = 50;
const PREROLL_MS = 750; // at least so much before the first word is sent with it, where nobody spoke before
const LONGEST_TALK_MS = 50_000; // who holds on is not listened to for ever; the relay takes 60 s
const SURE = 0.4;
const LOADING_MS = 1000;
const CAPTION_MS = 5000;

/** @type {Partial<Record<Stage, string>>} */
const CAPTIONS = { starting: "The microphone is coming", talk: "Talk, let go to send", listen: "Listening", hear: "Hearing you" };

/** @typedef {"off" | "starting" | "talk" | "listen" | "hear"} Stage */

/** Events: `note` (detail: what is to be said, or null), `change`. What it does and hears is captioned above the button's form. */
export class Voice extends EventTarget {
  /** @type {Stage} */
  stage = "off";
  /** Recordings that the relay has not answered yet. */
  thinking = 0;
  deviceId = "";

  /** @type {MediaStream | null} */
  #stream = null;
  /** The oldest first. While it listens on, two run side by side: the older has what came before the first word. @type {MediaRecorder[]} */
  #recorders = [];
  /** @type {AudioContext | null} */
  #sound = null;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #clock;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #longest;
  #turn = 0;
  #pressed = 0;
  #recordings = 0;
  #caption = make("p", { id: "voice-caption", hidden: true });
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #captioned;

  /**
   * @param {HTMLButtonElement} button
   * @param {import("./dreamrelay.js").Relay} relay
   * @param {string} stream
   * @param {(heard: import("./rest.js").Heard, sure: boolean) => void} said
   * @param {string} command that starts a relay with ears
   */
  constructor(button, relay, stream, said, command) {
    super();
    this.button = button;
    this.relay = relay;
    this.stream = stream;
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
    // Who goes elsewhere with the key down lets go of it there, unseen.
    globalThis.addEventListener("blur", () => this.stage === "talk" && this.#finish());
    this.#caption.setAttribute("aria-hidden", "true"); // it is read out as it comes
    button.closest("footer, body")?.prepend(this.#caption);
    this.#show();
  }

  /** The button, or its key, goes down. */
  async press() {
    this.#pressed = performance.now();
    if (this.stage === "listen" || this.stage === "hear") return this.stop();
    if (this.stage !== "off" || !(await this.#open())) return;
    this.#become("talk");
    this.#record();
    this.#longest = setTimeout(() => this.#finish(), LONGEST_TALK_MS);
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

  /** Say and show what became of what was heard. @param {string} text */
  tell(text) {
    announce(text);
    clearTimeout(this.#captioned);
    this.#caption.textContent = text;
    this.#captioned = setTimeout(() => {
      this.#captioned = undefined;
      this.#show();
    }, CAPTION_MS);
    this.#show();
  }

  /** No more listening, the microphone is given back. */
  stop() {
    this.#turn += 1;
    clearInterval(this.#clock);
    clearTimeout(this.#longest);
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
      this.relay.loadSpeech().catch(() => {}); // meanwhile; what cannot be is told with the first recording
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
    this.#recorders.push(recorder);
  }

  /** Forget what is being recorded, or all but the newest so many. */
  #drop(kept = 0) {
    const count = Math.max(0, this.#recorders.length - kept);
    for (const recorder of this.#recorders.splice(0, count)) if (recorder.state !== "inactive") recorder.stop();
  }

  /** Send what was recorded. */
  #send() {
    const recorder = this.#recorders.shift();
    this.#drop();
    if (!recorder || recorder.state === "inactive") return;
    recorder.ondataavailable = ({ data }) => this.#transcribe(data);
    recorder.stop();
  }

  #finish() {
    clearTimeout(this.#longest);
    this.#send();
    // The recorder has to end before its microphone does.
    const stream = this.#stream;
    this.#stream = null;
    setTimeout(() => stream?.getTracks().forEach((track) => track.stop()), 0);
    this.#become("off");
  }

  #listen() {
    clearTimeout(this.#longest);
    const sound = (this.#sound = new AudioContext());
    const ear = sound.createAnalyser();
    ear.fftSize = 1024;
    sound.createMediaStreamSource(/** @type {MediaStream} */ (this.#stream)).connect(ear);
    const samples = new Float32Array(ear.fftSize);
    const detector = new VoiceDetector();
    let fresh = performance.now();
    const another = (/** @type {number} */ kept) => {
      this.#drop(kept);
      this.#record();
      fresh = performance.now();
    };
    another(0);
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
        another(0);
        this.#become("listen");
      } else if (heard === "nothing") this.#become("listen");
      else if (!detector.speaking && now - fresh > PREROLL_MS) another(1);
    }, LOOK_MS);
  }

  /** @param {Blob} recording */
  async #transcribe(recording) {
    this.thinking += 1;
    this.#show();
    try {
      const heard = await this.#answer(recording, ++this.#recordings);
      if (heard?.text) this.said(heard, (heard.confidence ?? 1) >= SURE);
      else if (heard) this.tell(heard.spoken === 0 ? "Nobody spoke" : await this.#notUnderstood());
    } catch (error) {
      this.#refused(/** @type {import("./dreamrelay.js").RelayError} */ (error));
    } finally {
      this.thinking -= 1;
      this.#show();
    }
  }

  /**
   * Ask; while the engine loads, say how far it is, and ask again when it is ready.
   * @param {Blob} recording @param {number} number
   * @returns {Promise<import("./rest.js").Heard | null>} null: something newer was said meanwhile
   */
  async #answer(recording, number) {
    for (let loaded = true; loaded; ) {
      const asked = { out: true };
      this.#progress(() => asked.out);
      try {
        return await this.relay.transcribe(this.stream, recording);
      } catch (error) {
        const refusal = /** @type {import("./dreamrelay.js").RelayError} */ (error);
        if (refusal.status !== 503) throw refusal;
        const { state, text } = await this.#progress(() => true);
        loaded = state === "ready";
        if (state === "failed") refusal.message = text;
        if (!loaded) throw refusal;
      } finally {
        asked.out = false;
        this.#note(null);
      }
      if (number !== this.#recordings) return null;
    }
    return null;
  }

  /** @param {import("./dreamrelay.js").RelayError} error */
  #refused({ status, code, message }) {
    if (status !== 404 && status !== 503) return this.#note({ title: "That was not understood", text: message });
    this.stop();
    const install = code === "missing-extra" ? message.match(/pip install .*/)?.[0] : undefined;
    this.#note({ title: "This relay does not listen", text: status === 404 ? "Start one that turns speech into text:" : message, command: install ?? this.command });
  }

  async #notUnderstood() {
    const { engine } = /** @type {Record<string, any>} */ (await this.relay.speech().catch(() => ({})));
    return engine === "offline" ? "Not understood. Without Whisper, say a command or the model's words" : "Not understood";
  }

  /**
   * While the speech engine loads, and somebody waits for it: say how far it is.
   * @param {() => boolean} waiting
   * @returns {Promise<{ state: string, text: string }>} how it is then
   */
  async #progress(waiting) {
    for (;;) {
      await new Promise((resolve) => setTimeout(resolve, LOADING_MS));
      /** @type {Record<string, any>} */
      const { state = "", text = "", fraction } = waiting() ? await this.relay.speech().catch(() => ({})) : {};
      if (state !== "loading" || !waiting()) return { state, text };
      const percent = typeof fraction === "number" ? `, ${Math.round(fraction * 100)} %` : "";
      this.#note({ title: "The ears are loading", text: `${text}${percent}. What you said is kept until then.` });
    }
  }

  /** @param {"insecure" | "denied" | "none" | "busy" | "unable"} code @returns {false} */
  #trouble(code) {
    this.dispatchEvent(new CustomEvent("trouble", { detail: { code, kind: "microphone", text: "" } }));
    return false;
  }

  /** @param {Stage} stage */
  #become(stage) {
    // What became of the last words is not talked over by what is the same as before them.
    const same = stage === this.stage || (stage === "listen" && this.stage === "hear");
    if (!same && (stage === "listen" || stage === "talk")) announce(stage === "talk" ? "Recording, let go to send" : "Listening");
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
    if (this.#captioned === undefined || stage === "talk") {
      const thought = this.thinking > 0 && (stage === "off" || stage === "listen") ? "Understanding" : CAPTIONS[stage];
      this.#caption.textContent = thought ?? "";
    }
    this.#caption.hidden = this.#caption.textContent === "";
    this.dispatchEvent(new Event("change"));
  }

  /** @param {import("./notices.js").Note | null} detail */
  #note(detail) {
    this.dispatchEvent(new CustomEvent("note", { detail }));
  }
}
