// Puts the parts together.
import { createAlarm } from "./backoff.js";
import { loadConfig } from "./config.js";
import { Hls } from "./engine.js";
import { follow, playWith } from "./live.js";
import { createNativePlayer } from "./native.js";
import { createPlayer } from "./player.js";
import { startPlaying } from "./session.js";
import { createStore } from "./state.js";
import { createLedger } from "./stats.js";
import { createUi } from "./ui.js";

const video = document.querySelector("video");
const store = createStore();
const ledger = createLedger(store);
const alarm = createAlarm();
const deck = { player: null }; // the player that is on, if any

/** Everything a viewer can ask for. */
const requests = Object.freeze({
  play: () => startPlaying(video, store),
  unmute: () => {
    video.muted = false;
    if (video.volume === 0) video.volume = 1;
    requests.play();
  },
  goLive: () => {
    deck.player?.goLive();
    requests.play();
  },
  chooseQuality: (quality) => {
    store.set({ quality });
    deck.player?.setQuality(quality);
  },
});

// For tests and the curious: a frozen picture of the state; there is nothing to set.
Object.defineProperty(window, "broadcasterViewer", { get: () => store.get() });

function chooseEngine() {
  if (Hls.isSupported()) return { engine: "hls.js", makePlayer: createPlayer };
  if (video.canPlayType("application/vnd.apple.mpegurl")) return { engine: "native", makePlayer: createNativePlayer };
  return { engine: null, makePlayer: null };
}

const noteSound = () => store.set({ muted: video.muted || video.volume === 0 });
video.addEventListener("volumechange", noteSound);
for (const name of ["play", "playing", "pause", "emptied"]) {
  video.addEventListener(name, () => store.set({ paused: video.paused }));
}
// Somebody looks at the page again, or the network is back: look at once.
document.addEventListener("visibilitychange", () => document.hidden || alarm.wake());
window.addEventListener("online", () => alarm.wake());

video.muted = true; // the only way browsers let a page start by itself
noteSound();
createUi(document, store, requests);

const config = await loadConfig(document.baseURI);
const { engine, makePlayer } = chooseEngine();
store.set({ title: config.title, engine });
if (makePlayer === null) {
  store.set({ status: "unsupported" });
} else {
  const play = playWith({ video, url: config.playlistUrl, store, ledger, deck, makePlayer });
  await follow({ url: config.playlistUrl, store, alarm, play });
}
