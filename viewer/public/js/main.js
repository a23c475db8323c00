// Puts the parts together.
//
// state.js holds all that the page knows, frozen. Modules set it, and draw or act when it changes; what else one of
// them remembers is its own.
//
//   what the viewer wants  keyboard, media-session, ui/* → requests (controls, seeking, share) → store, video, playback
//   what is on             live (wait, play, again) → session (one player) → player or native; fallback wraps both
//   inside a player        engine (hls.js), recover, codecs, window, link, captions, audio-tracks, quality
//   where the viewer is    place: catch-up (rate, jumps), rebuffer-policy (waiting), pace (the rate), timeline (clock times)
//   how it does            watch, player-health → status; player-phase makes a phase of it, phase keeps each
//                          for a second, texts and intl have its words
//   before this script     embed, head-start (the playlists and the server's first word)
//   from the server        server-events: channel (held-events or events), stream-forecast, clock, catalog, timings
//   where bytes come from  segment-source: loaders (fragment-loader, playlist-loader), prefetch, p2p, sharing, modes
//   what is shown          ui, ui/*, theme; seek-thumbnails, iframes (pictures on the seek bar) and stats-panel with ui/statistics
//                          (stats, history, segment-stages, costs) on demand
//   for the operator       config, choices (the viewer's), beacon
import { createAlarm } from "./backoff.js";
import { createBeacon } from "./beacon.js";
import { createChoices } from "./choices.js";
import { loadConfig } from "./config.js";
import { abilities } from "./controls.js";
import { createMeter } from "./costs.js";
import { Hls, fetchWorker } from "./engine.js";
import { createFallback } from "./fallback.js";
import { createHistory } from "./history.js";
import { listenToKeys } from "./keyboard.js";
import { follow, playWith } from "./live.js";
import { createMediaSession } from "./media-session.js";
import { createNativePlayer } from "./native.js";
import { findStream, waitForStream } from "./offline.js";
import { createPace } from "./pace.js";
import { showPhase } from "./phase.js";
import { createPlayback } from "./playback.js";
import { createPlayer } from "./player.js";
import { createPlaylistPrefetch } from "./playlist-prefetch.js";
import { requestedBy } from "./recordings.js";
import { createRequests } from "./requests.js";
import { createServerEvents } from "./server-events.js";
import { createStartOver } from "./start-over.js";
import { createStore } from "./state.js";
import { createLedger } from "./stats.js";
import { loadTexts, textsOf } from "./texts.js";
import { createUi } from "./ui.js";

/** A recording needs nothing that tells of the stream. */
const ALONE = Object.freeze({ eventsUrl: null, trackerUrl: null, beaconUrl: null, fallbackUrl: null });
const { documentElement: root } = document;
const video = document.querySelector("video");
const store = createStore();
const ledger = createLedger(store);
const alarm = createAlarm();
const playback = createPlayback();
const choices = createChoices();
const visit = createChoices(() => window.sessionStorage);
const startOver = createStartOver({ store, playback });
const pace = createPace(video);
const requests = createRequests({ document, video, root: document.querySelector("main"), store, playback, pace, choices, visit, startOver });
const history = createHistory();
const meter = createMeter();

// For tests and the curious: a frozen picture of the state; there is nothing to set.
Object.defineProperty(window, "broadcasterViewer", { get: () => store.get() });

function chooseEngine() {
  if (Hls.isSupported()) return { engine: "hls.js", makePlayer: createPlayer };
  if (video.canPlayType("application/vnd.apple.mpegurl")) return { engine: "native", makePlayer: createNativePlayer };
  return { engine: null, makePlayer: null };
}

// Somebody looks at the page again, or the network is back: look at once.
document.addEventListener("visibilitychange", () => document.hidden || alarm.wake());
window.addEventListener("online", () => alarm.wake());
document.addEventListener("visibilitychange", () => document.hidden && choices.keep({ bandwidth: store.get().bandwidth }));

// What this viewer chose at an earlier visit.
const { shortcuts = true, volume = 1, quality = "auto", caption = null, audioTrack = null, bandwidth = null } = choices.load();
store.set({ shortcuts, quality, caption, audioTrack, bandwidth, ...visit.load() });
video.volume = volume;

store.subscribe(meter.note);
showPhase({ store });
setInterval(() => history.add(performance.now(), store.get()), 1000);
// After the first requests, which go out in this turn.
setTimeout(() => createUi({ document, store, requests, can: abilities(document, video), meter, history }));
listenToKeys(document, requests, () => store.get().shortcuts);
createMediaSession({ store, requests });

const config = await loadConfig(document.baseURI, fetch, document.getElementById("config")?.textContent);
const { engine, makePlayer } = chooseEngine();
const { title, logo, performer, description, links, startsAt, pageUrl, chatUrl, clipsUrl, colors, costs, poster, recordings, keptUrl: kept } = config;
const { mode = config.mode } = choices.load();
const elsewhere = new URL(config.playlistUrl).pathname.startsWith("/t/") ? config.playlistUrl : null; // with the guest's token
store.set({ elsewhere, title, logo, performer, description, links, startsAt, pageUrl, chatUrl, clipsUrl, texts: textsOf({ own: config.texts }), colors, costs, poster, recordings, kept, engine, mode });
root.toggleAttribute("data-chat", chatUrl !== null && !root.hasAttribute("data-embed"));
setTimeout(() => root.removeAttribute("data-unset"));
const worded = loadTexts({ language: config.language, own: config.texts });
worded.then((texts) => {
  store.set({ texts });
  root.removeAttribute("data-wordless");
});
if (poster !== null) {
  const paint = (tint) => tint !== null && root.style.setProperty("--tint", tint);
  import("./accent.js").then(({ accentAt }) => accentAt(poster, document)).then(paint);
}
const watching = config.recording !== null || (recordings !== null && requestedBy(location.search) !== null);
if (makePlayer === null) {
  store.set({ status: "unsupported" });
} else {
  const terms = watching ? { ...config, ...ALONE } : config;
  const { playlistUrl: url, beaconUrl, fallbackUrl, fallbackAfterSeconds: afterSeconds } = terms;
  if (beaconUrl !== null) createBeacon({ url: beaconUrl, store, video });
  if (engine === "hls.js") fetchWorker();
  const playlists = createPlaylistPrefetch();
  const look = (address) => findStream(address, playlists.get, store.get().bandwidth);
  const native = engine === "native";
  const serverEvents = createServerEvents({ config: terms, store, ledger, alarm, playback, playlists, native, document });
  const fallback = createFallback({ fallbackUrl, afterSeconds, store, alarm, look });
  const make = (terms) => makePlayer({ ...terms, serverEvents });
  const play = playWith({ video, url, store, pace, ledger, playback, makePlayer: make });
  const { goesOn, ready, wake } = serverEvents;
  document.addEventListener("visibilitychange", () => document.hidden || wake());
  window.addEventListener("online", wake);
  const lookAround = startOver.lookWith(look, fallback.look);
  const wait = (terms) => Promise.all([waitForStream({ ...terms, look: lookAround }), ready]); // at the same time: each is a way there and back
  if (watching) {
    const { watchRecording } = await import("./recording.js");
    await watchRecording({ config, page: location, store, video, alarm, play, document, worded });
  } else {
    await follow({ url, store, alarm, goesOn, play: startOver.wrap(fallback.wrap(play, url)), wait });
  }
}
