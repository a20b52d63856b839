/** What to say in each state: facts in, words out. No DOM here. */

/**
 * @typedef {object} Facts
 * @property {"connecting" | "open" | "waiting" | "closed"} link our connection to the relay
 * @property {number} retryIn seconds until the next attempt
 * @property {Record<string, any> | null} status the relay's last `status`
 * @property {boolean} hasInput an input picture is on the stage
 * @property {boolean} hasOutput an output picture is on the stage
 * @property {boolean} sending this page sends pictures
 * @property {boolean} plain the pictures come as MJPEG, nothing else does
 * @property {string | null} refusal why the relay does not let this page in
 * @property {number | null} secondsLeft of loading, where it can be guessed
 * @property {{ server: string, worker: string, producer: string, speech: string }} commands
 */

/**
 * @typedef {object} Notice
 * @property {string} title
 * @property {string} [text]
 * @property {string} [command] to be typed in a terminal
 * @property {number | null} [fraction] of a progress bar; null: nobody can say
 * @property {string} [details] on request
 * @property {boolean} [invite] offer the sources
 * @property {boolean} [token] offer to type one
 * @property {boolean} [aside] one quiet line under the picture
 */

/**
 * @typedef {object} Said
 * @property {string} state
 * @property {string} chip
 * @property {"accent" | "quiet" | "wrong"} tone
 * @property {boolean} dim the picture on the stage is an old one
 * @property {Notice | null} output what to say where the output is (in one line, if there is a picture)
 * @property {Notice | null} input what to say where the input is, while it is empty
 */

const AWAY = "The source gives no picture";

/**
 * What to type in a terminal, for this relay and stream.
 * @param {{ protocol: string, hostname: string, port: string }} page @param {URL} relay @param {string} stream
 */
export function makeCommands(page, relay, stream) {
  const port = page.port || (page.protocol === "https:" ? "443" : "80");
  const usual = ["localhost", "127.0.0.1", "[::1]"].includes(page.hostname) && port === "8765";
  const address = relay.href.replace(/^http/, "ws").replace(/\/$/, "");
  const to = (usual ? "" : ` --websocket_uri=${address}`) + (stream === "default" ? "" : ` --stream=${stream}`);
  const server = "python server.py" + (port === "8765" ? "" : ` --port=${port}`);
  return {
    server,
    worker: `python main.py${to}`,
    producer: `python client.py --mode=webcam${to}`,
    speech: `${server} --speech=auto`,
  };
}

/** @param {number} seconds */
export function duration(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 90 * 60) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}

/** @param {Facts} facts @returns {Said} */
export function describe(facts) {
  if (facts.link !== "open") return unconnected(facts);
  const input = facts.hasInput ? null : inviteOf(facts);
  const say = (/** @type {Partial<Said>} */ said) =>
    /** @type {Said} */ ({ state: "", chip: "", tone: "quiet", dim: false, output: null, input, ...said });
  const said = connected(facts, say);
  const instead = STAND_IN.get(facts.status?.stand_in);
  return instead && said.state !== "held" ? { ...said, chip: `${said.chip} · ${instead.short}`, dim: false } : said;
}

/** @param {Facts} facts @param {(said: Partial<Said>) => Said} say @returns {Said} */
function connected(facts, say) {
  const { status, hasOutput, commands } = facts;
  const text = status?.text || "";
  switch (status?.state) {
    case undefined:
      return say({ state: "connecting", chip: "connecting", input: null });
    case "no-worker":
      return say({
        state: "no-worker", chip: "no worker", dim: hasOutput,
        output: { title: "No worker yet", text: hasOutput ? "Start one:" : "Start what makes the pictures in a second terminal:", command: commands.worker },
      });
    case "lost":
      return lost(facts, say);
    case "loading":
    case "warming": {
      const { fraction = null } = status;
      const loading = status.state === "loading";
      const left = facts.secondsLeft === null ? "" : `, about ${duration(facts.secondsLeft)} left`;
      const percent = loading && fraction !== null ? ` ${Math.round(fraction * 100)} %` : "";
      return say({
        state: status.state, chip: (loading ? "loading" : "warming up") + percent, dim: hasOutput,
        output: { title: loading ? "Loading the model" : "Warming up", text: text + left, fraction },
      });
    }
    case "paused":
      return say({ state: "paused", chip: "paused", dim: hasOutput, output: hasOutput ? null : { title: "Paused", text } });
    case "error": {
      const [first, ...rest] = text.split("\n");
      return say({
        state: "error", chip: "error", tone: "wrong", dim: hasOutput,
        output: { title: "The worker has a problem", text: first || "It did not say which.", details: rest.join("\n").trim() || undefined },
      });
    }
    default:
      return live(facts, say);
  }
}

/** What stands in for results, as the relay says it: the chip, the word beside another one, and a sentence. */
export const STAND_IN = new Map([
  ["pass", { chip: "camera as it is", short: "camera", shown: "The camera is shown as it is." }],
  ["slate", { chip: "slate", short: "slate", shown: "A slate is shown." }],
]);

/** @param {Facts} facts @param {(said: Partial<Said>) => Said} say */
function lost({ status, hasOutput, commands }, say) {
  const hangs = Boolean(status?.engine);  // one that is gone has none
  const instead = STAND_IN.get(status?.stand_in);
  const shown = instead?.shown ?? (hasOutput ? "Its last picture is held." : "");
  const title = hangs ? "The worker gives no pictures" : "The worker is gone";
  const advice = hangs ? "If it does not come back, start another one beside it:" : "Start it again:";
  const command = commands.worker + (hangs ? " --replace" : "");
  const output = { title, text: `${shown} ${advice}`.trim(), command };
  return say({ state: "held", chip: instead?.chip ?? "held", dim: !instead, output });
}

/** @param {Facts} facts @param {(said: Partial<Said>) => Said} say */
function live(facts, say) {
  const { status, hasInput, hasOutput, sending } = facts;
  if (status?.input_text) {
    const [chip, dim] = status.dreaming ? ["from the prompt", false] : ["source away", hasOutput];
    const away = { title: AWAY, text: status.input_text, aside: hasOutput };
    return say({ state: "away", chip, tone: "wrong", dim, output: away });
  }
  if (status?.dreaming && !sending) {
    const title = status.producers ? "The source is silent" : "No source yet";
    return say({
      state: "dreaming", chip: "from the prompt", tone: "accent",
      output: { title, text: "painted from the prompt alone", invite: true, aside: true },
    });
  }
  if (!status?.producers && !sending) {
    const waiting = { title: "Waiting for a source", text: hasInput ? "The last producer is gone." : undefined };
    return say({ state: "waiting", chip: "no source", dim: hasOutput, output: hasOutput ? null : waiting });
  }
  return say({ state: "live", chip: "live", tone: "accent", output: hasOutput ? null : { title: "The first picture is on its way" } });
}

/** @param {Facts} facts @returns {Notice} */
function inviteOf({ sending, status, commands }) {
  if (status?.input_text && !sending) return { title: AWAY, text: status.input_text };
  if (sending || (status?.producers && !status.dreaming)) return { title: "Waiting for the first picture" };
  return { title: "What should go in?", invite: true, text: "Or from a terminal:", command: commands.producer };
}

/** @param {Facts} facts @returns {Said} */
function unconnected({ link, retryIn, status, hasOutput, commands, plain, refusal }) {
  const first = status === null;
  if (refusal !== null) {
    const why = refusal.charAt(0).toUpperCase() + refusal.slice(1);
    const output = { title: "Not allowed", text: `${why}. Open the link that the relay printed, or type its token:`, token: true };
    return { state: "not-allowed", chip: "not allowed", tone: "wrong", dim: hasOutput, output, input: null };
  }
  if (plain) {
    const output = { title: "Pictures only", text: "WebSockets do not get through here, so this is MJPEG", aside: true };
    return { state: "plain", chip: "MJPEG", tone: "quiet", dim: false, output, input: null };
  }
  if (link === "connecting" && first) {
    return { state: "connecting", chip: "connecting", tone: "quiet", dim: false, output: null, input: null };
  }
  const wait = link === "waiting" && retryIn > 0 ? `${Math.ceil(retryIn)} s` : "trying";
  return {
    state: "reconnecting", chip: `relay gone · ${wait}`, tone: "wrong", dim: hasOutput,
    output: hasOutput ? null : { title: "The relay does not answer", text: "This page comes back by itself. If it was stopped:", command: commands.server },
    input: null,
  };
}

/**
 * What went wrong with a source, for its user.
 * @param {{ code: string, kind: string, text: string }} trouble
 * @param {{ local: string, secure: string }} addresses of this page
 */
export function describeTrouble({ code, kind, text }, addresses) {
  const what = kind === "screen" || kind === "microphone" ? kind : "camera";
  const other = what === "microphone" ? "" : "Plug one in, or take the screen, a file or the test card.";
  const retry = true;
  switch (code) {
    case "insecure":
      return {
        title: `The browser lends its ${what} only to secure pages`,
        text: "This one came over plain HTTP from another machine. Two ways out: open it on the machine of the relay, or start the relay with a certificate and use HTTPS.",
        links: [addresses.local, addresses.secure], retry: false,
      };
    case "denied":
      return { title: `The ${what} is not allowed here`, text: "Allow it at the left end of the browser's address bar.", retry };
    case "none":
      return { title: `No ${what} found`, text: other || "Plug one in.", retry };
    case "busy":
      return { title: `The ${what} does not start`, text: "Another program may hold it. Close that one.", retry };
    case "unplugged":
      return { title: "The camera is gone", text, retry };
    case "unreadable":
      return { title: "This file cannot be shown", text: `${text}: the browser reads JPEG, PNG, WebP, GIF, AVIF, and MP4 or WebM video.`, retry: false };
    case "forbidden":
      return { title: "This page may not send pictures", text: "The relay wants a token with the permission to publish. Open the page with the link it printed.", retry };
    case "unable":
      return { title: "This browser records no sound", text: "Chromium, Firefox and Safari from 14.1 do.", retry: false };
    case "off-air":
      return { title: "Another source has the stream", text: "Yours waits, and goes in when that one ends.", retry: false };
    default:
      return { title: "The relay refuses these pictures", text, retry: false };
  }
}
