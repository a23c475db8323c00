// What a viewer does to the video element and the screen, and the state that follows from it.
import { backoff } from "./backoff.js";

const clamp = (value) => Math.min(1, Math.max(0, value));

const AGAIN = { first: 250, factor: 2, most: 5000 }; // ms between two tries to play on
const CALM = 5000; // ms without a pause after which the next one is put right at once again
const PLUGGED = 2000; // ms around a change of audio devices in which a pause is of that: headphones were unplugged

/** Whether the browser shows controls of its own, by which a viewer may pause, play or change the sound. */
const hasOwnControls = (video) =>
  video.controls === true ||
  video.webkitDisplayingFullscreen === true ||
  (video.webkitPresentationMode ?? "inline") !== "inline" ||
  (video.remote?.state ?? "disconnected") !== "disconnected";

/**
 * `root` is what fills the screen; `play` starts the player; `pace` is what pace.js makes. Returns requests.
 *
 * `paused` and `muted` of the state are what the viewer wants. What pauses or unmutes besides (the engine, the system)
 * is put right, but for a pause of what has sound when audio devices change: who pulls headphones out wants silence.
 */
export function createControls({ document, video, root, store, play: start, pace, ...system }) {
  const { later = setTimeout, now = () => performance.now(), devices = globalThis.navigator?.mediaDevices } = system;
  const on = (target, names, listener) => names.forEach((name) => target.addEventListener(name, listener));
  const play = () => {
    store.set({ paused: false });
    return start();
  };
  const noteSound = () => store.set({ muted: video.muted || video.volume === 0, volume: video.volume });

  function followSound() {
    if (store.get().muted && !video.muted && video.volume > 0 && !hasOwnControls(video)) {
      pace?.blame();
      video.muted = true;
    } else noteSound();
  }
  on(video, ["volumechange"], followSound);
  on(video, ["play", "playing"], () => video.paused || store.set({ paused: false }));

  let tries = 0;
  let triedAt = -Infinity;
  let waiting = false;

  /**
   * Plays on after a pause that no viewer asked for: at once, and less and less often while it does not help. A page
   * that nobody sees waits to be seen: another program may be heard now, which a viewer has begun.
   */
  function playOn() {
    waiting = false;
    if (!isStopped() || (document.hidden && !store.get().pip)) return;
    if (now() - triedAt > CALM) tries = 0;
    triedAt = now();
    tries += 1;
    if (store.get().muted) video.muted = true;
    play();
  }
  const isStopped = () => video.paused && !video.ended && !store.get().paused && store.get().playlist !== null;

  let plugged = -Infinity;
  const isOfDevices = () => !store.get().muted && now() - plugged < PLUGGED;
  devices?.addEventListener?.("devicechange", () => {
    plugged = now();
    // The browser may tell of the devices after it has paused.
    if (isOfDevices() && !store.get().paused && now() - triedAt < PLUGGED) pause();
  });

  /** Between two players there is nothing to pause: the next one does not begin by itself. */
  function pause() {
    store.set({ paused: true, following: false });
    video.pause();
  }

  // Who pauses stays there; the end of a stream pauses too.
  on(video, ["pause"], () => {
    if (video.ended) return store.set({ paused: true });
    if (hasOwnControls(video) || isOfDevices()) return store.set({ paused: true, following: false });
    if (!isStopped() || waiting) return undefined;
    pace?.blame();
    if (now() - triedAt > CALM) return playOn();
    waiting = true;
    return later(playOn, backoff(tries - 1, AGAIN, () => 0.5));
  });
  on(document, ["visibilitychange"], () => document.hidden || playOn());
  on(video, ["enterpictureinpicture"], () => store.set({ pip: true }));
  on(video, ["leavepictureinpicture"], () => store.set({ pip: false }));
  on(document, ["fullscreenchange"], () => store.set({ fullscreen: document.fullscreenElement !== null }));

  video.muted = false; // with sound, if the browser lets a page start so
  noteSound();
  video.remote?.watchAvailability((castable) => store.set({ castable })).catch(() => {}); // not with this source

  const setVolume = (volume) => {
    store.set({ muted: clamp(volume) === 0 });
    video.volume = clamp(volume);
    video.muted = video.volume === 0;
  };
  const unmute = () => {
    store.set({ muted: false });
    video.muted = false;
    if (video.volume === 0) video.volume = 1;
    play();
  };

  return {
    play,
    unmute,
    setVolume,
    toggleMute: () => {
      if (store.get().muted) unmute();
      else video.muted = true;
    },
    pause,
    cast: () => quietly(() => video.remote.prompt()),
    togglePip: () => quietly(() => togglePip(document, video)),
    toggleFullscreen: () => quietly(() => toggleFullscreen(document, root, video)),
  };
}

function togglePip(document, video) {
  if (document.pictureInPictureElement) return document.exitPictureInPicture();
  return video.requestPictureInPicture();
}

/** The root and not the video, so that the page's own controls come along; an iPhone can only do the video. */
async function toggleFullscreen(document, root, video) {
  if (document.fullscreenElement) return document.exitFullscreen();
  if (!root.requestFullscreen) return video.webkitEnterFullscreen();
  await root.requestFullscreen();
  // A phone turns the picture as wide as it is; whoever cannot be turned refuses, and nothing is lost.
  return document.defaultView.screen.orientation?.lock?.("landscape").catch(() => {});
}

/** A browser may refuse (an iframe without the right, no picture yet); then nothing has changed. */
async function quietly(ask) {
  try {
    await ask();
  } catch (error) {
    console.info(error.message);
  }
}

/** What this browser can do at all: buttons for the rest stay away. */
export function abilities(document, video) {
  return {
    pip: document.pictureInPictureEnabled === true && typeof video.requestPictureInPicture === "function",
    fullscreen: document.fullscreenEnabled === true || typeof video.webkitEnterFullscreen === "function",
  };
}
