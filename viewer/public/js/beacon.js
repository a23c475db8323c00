// What this page has got and from whom, and how it plays, for the operator's sums. Nobody's name: the one that it gives
// itself to be counted by is as old as the page, and the server forgets it after a minute.
//
// Not the event mode of hls.js' CMCD (1.7.4), though it leaves the requests alone: it tells neither start-up time nor
// latency nor how long stalls last, nothing when the page is closed and nothing of a browser's own player; it hides the
// playlists' Age from hls.js, and the light build has none of it.

const EVERY = 25000; // ms
const SAMPLE_EVERY = 5000; // ms
const EARLY = 500; // ms by which a timer may be
const SPREAD = 60000; // ms over which pages that are to report again begin to
const STILL = new Set(["connecting", "buffering", "waiting", "reconnecting"]);

/**
 * Reports what is new every 25 s, or as seldom as the server wants it, soon after somebody begins to watch or stops, and
 * when the page is left. A page whose draw is not below the server's share reports only while it is behind live.
 */
export function createBeacon({ url, store, video, send = sendBeacon, now = () => performance.now(), page = window, viewer = randomName(), random = Math.random }) {
  const draw = Number.parseInt(viewer.slice(0, 8), 16) / 2 ** 32; // as the server has it
  let sent = store.get();
  let seconds = 0;
  let since = now();
  let played = false;
  let counted = false; // by the server, as far as it was told
  let isBehind = false; // likewise
  let isBlind = false; // likewise: there are errors, and there has never been a picture
  let opened = 0; // when the way to the first picture began; null for one that was held up
  let startup = null; // seconds
  let stalled = 0; // ms
  let stalledAt = null;
  let reported = -Infinity; // when
  let spread = 1; // of the time between two reports around what the server wants
  let sampled = true; // whether this page was to report
  let quiet = 0; // until when it does not begin to

  function note({ status }, before) {
    if (status === "live") played = true;
    if (status === "offline") played = false;
    if (status === "offline" || status === "blocked") opened = null;
    if (status === "connecting" && before.status === "offline") opened = now();
  }

  /** The picture stands still, or does not (any more). */
  function stands(still) {
    if (stalledAt !== null) stalled += now() - stalledAt;
    stalledAt = still ? now() : null;
  }

  function watching() {
    const { status, paused } = store.get();
    return status === "live" ? !paused : played && STILL.has(status);
  }

  function blind() {
    return !played && store.get().errors > 0;
  }

  /** What goes on counts up to here. */
  function tally() {
    const state = store.get();
    if (state.status === "live" && !state.paused) seconds += (now() - since) / 1000;
    since = now();
    stands(stalledAt !== null);
    return state;
  }

  const isSampled = () => draw < store.get().reports.share;

  /** Nothing that came before is told. */
  function forget(state) {
    sent = state;
    seconds = stalled = 0;
    startup = null;
    counted = isBlind = false;
  }

  function look() {
    const state = tally();
    const behind = behindLive(state) > 0;
    const { share, every } = state.reports;
    if (!isSampled()) forget(state);
    else if (!sampled) quiet = now() + SPREAD * random();
    sampled = isSampled();
    const due = behind ? EVERY : EVERY + (1000 * every - EVERY) * spread;
    const changed = behind !== isBehind || (sampled && (watching() !== counted || blind() !== isBlind));
    const may = (behind && share > 0) || isBehind || (sampled && now() >= quiet);
    if (may && (changed || now() - reported >= due - EARLY)) report();
  }

  function report({ leaves = false } = {}) {
    const state = tally();
    const over = leaves || !watching();
    const behind = leaves ? 0 : behindLive(state);
    const { bytes, stalls, errors } = state;
    const news = {
      httpBytes: bytes.bucket - sent.bytes.bucket,
      p2pBytes: bytes.peers - sent.bytes.peers,
      uploadedBytes: bytes.uploaded - sent.bytes.uploaded,
      seconds: Math.round(seconds),
      stalls: stalls - sent.stalls,
      errors: errors - sent.errors,
      stalled: Math.round(stalled / 100) / 10,
    };
    if (over && !counted && behind === 0 && state.status !== "undecodable" && Object.values(news).every((value) => value === 0)) return;
    const lacks = state.status === "undecodable" ? { undecodable: state.undecodable } : {};
    const told = { viewer, over, behind, ...news, ...how(state), ...(startup === null ? {} : { startup }), ...lacks };
    if (!send(url, JSON.stringify(told))) return; // the next one carries it
    sent = state;
    counted = !over;
    isBehind = behind > 0;
    isBlind = blind();
    seconds -= news.seconds;
    stalled = 0;
    startup = null;
    reported = now();
    spread = 0.5 + random();
  }

  video.addEventListener("playing", () => {
    if (opened !== null) startup = Math.round(now() - opened) / 1000;
    opened = null;
    stands(false);
  });
  video.addEventListener("waiting", () => stands(played && !video.seeking));
  for (const name of ["pause", "emptied"]) video.addEventListener(name, () => stands(false));
  store.subscribe((state, before) => state.status !== before.status && note(state, before));
  setInterval(look, SAMPLE_EVERY);
  page.addEventListener("pagehide", () => (isSampled() || isBehind) && report({ leaves: true }));
}

/** Which variant is on screen, and how late where that is not the viewer's own choice. */
function how({ stages, following, delay, latency }) {
  const variant = [...stages].reverse().find(({ played }) => played !== null)?.variant ?? null;
  const late = following ? (delay ?? latency) : null;
  return late === null || late < 0 ? { variant } : { variant, latency: late };
}

/** How far behind live somebody may go on, in seconds: the server keeps what is needed for it. A recording stays. */
function behindLive({ latency, behind, paused, replay, kept }) {
  const wanted = (behind || paused) && (replay === null || replay.includes(kept));
  return wanted && latency > 0 ? latency : 0;
}

const sendBeacon = (url, text) => navigator.sendBeacon(url, text);

/** 16 hexadecimal digits; without a secure context there is no crypto.randomUUID. */
function randomName() {
  const bytes = crypto.getRandomValues(new Uint8Array(8));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
