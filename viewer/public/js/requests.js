// Everything a viewer can ask for. Each changes something in one place; the page follows the state.
import { createControls } from "./controls.js";
import { hasSpeed, speedBy } from "./pace.js";
import { addressOf, share } from "./share.js";
import { createSeeking } from "./seeking.js";
import { nextOf } from "./quality.js";
import { startPlaying } from "./session.js";
import { titleOf } from "./player-phase.js";

/** `playback` reaches the player that is on; `choices` keeps what should hold for the next visit, `visit` for this one. */
export function createRequests({ document, video, root, store, playback, pace, choices, visit, startOver }) {
  const controls = createControls({ document, video, root, store, pace, play: () => startPlaying(video, store) });
  const help = document.getElementById("help");

  const setVolume = (volume) => {
    controls.setVolume(volume);
    choices.keep({ volume: video.volume });
  };
  const chooseCaption = (caption) => {
    store.set({ caption });
    choices.keep({ caption });
    playback.setCaption(caption);
  };

  const chooseSpeed = (speed) => {
    if (!hasSpeed(store.get())) return;
    store.set({ speed });
    visit.keep({ speed });
  };

  return Object.freeze({
    ...controls,
    setVolume,
    changeVolume: (by) => {
      const from = store.get().muted ? 0 : video.volume; // up from silence begins at the bottom
      setVolume(Math.round(100 * (from + by)) / 100);
    },
    ...createSeeking({ video, store, playback, play: controls.play, pause: controls.pause }),
    chooseQuality: (quality) => {
      store.set({ quality });
      choices.keep({ quality });
      playback.setQuality(quality);
    },
    chooseCaption,
    chooseAudioTrack: (audioTrack) => {
      store.set({ audioTrack });
      choices.keep({ audioTrack });
      playback.setAudioTrack(audioTrack);
    },
    chooseSpeed,
    changeSpeed: (steps) => chooseSpeed(speedBy(store.get().speed, steps)),
    startOver: startOver.begin,
    nextCaption: () => {
      const { captions, caption } = store.get();
      chooseCaption(nextOf([null, ...captions.map(({ id }) => id)], caption));
    },
    setMode: (mode) => {
      store.set({ mode });
      choices.keep({ mode });
    },
    share: () => share({ title: titleOf(store.get()), url: addressOf(store.get(), document.location) }),
    shareMoment: () => share({ title: titleOf(store.get()), url: addressOf(store.get(), document.location, { moment: true }) }),
    clip: () => {
      if (store.get().clipsUrl === null) return;
      const failed = () => store.set({ clip: { stage: "clipFailed", url: null } }); // the module did not come
      import("./clip.js").then(({ clip }) => clip({ store })).catch(failed);
    },
    copyElsewhere: async () => (await share({ url: store.get().elsewhere }, { navigator: { clipboard: navigator.clipboard } })) === "copied",
    shareClip: () => share({ title: titleOf(store.get()), url: store.get().clip.url }),
    forgetClip: () => store.set({ clip: null }),
    toggleTheatre: () => store.set({ theatre: !store.get().theatre && store.get().chatUrl !== null }),
    toggleStats: () => store.set({ statsOpen: !store.get().statsOpen }),
    closeStats: () => store.set({ statsOpen: false }),
    toggleHelp: () => (help.open ? help.close() : help.showModal()),
    setShortcuts: (shortcuts) => {
      store.set({ shortcuts });
      choices.keep({ shortcuts });
    },
  });
}
