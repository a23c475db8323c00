// What a viewer does to the video element and the screen, and the state that follows from it.

const clamp = (value) => Math.min(1, Math.max(0, value));

/** `root` is what fills the screen; `play` starts to play. Returns requests. */
export function createControls({ document, video, root, store, play }) {
  const noteSound = () => store.set({ muted: video.muted || video.volume === 0, volume: video.volume });
  const on = (target, names, listener) => names.forEach((name) => target.addEventListener(name, listener));
  on(video, ["volumechange"], noteSound);
  on(video, ["play", "playing", "pause"], () => store.set({ paused: video.paused }));
  // Who pauses stays there; the end of a stream pauses too.
  on(video, ["pause"], () => video.ended || store.set({ following: false }));
  on(video, ["enterpictureinpicture"], () => store.set({ pip: true }));
  on(video, ["leavepictureinpicture"], () => store.set({ pip: false }));
  on(document, ["fullscreenchange"], () => store.set({ fullscreen: document.fullscreenElement !== null }));

  video.muted = false; // with sound, if the browser lets a page start so
  noteSound();
  video.remote?.watchAvailability((castable) => store.set({ castable })).catch(() => {}); // not with this source

  const setVolume = (volume) => {
    video.volume = clamp(volume);
    video.muted = video.volume === 0;
  };
  const unmute = () => {
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
    /** Between two players there is nothing to pause: the next one does not begin by itself. */
    pause() {
      video.pause();
      store.set({ paused: true, following: false });
    },
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
