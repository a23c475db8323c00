// What a viewer asks of the window: another place in it, live again, a picture further.
import { clampTo, positionAt } from "./timeline.js";

const NEAR = 1; // seconds before live that mean live

/** Returns requests; `playback` reaches the player that is on, `play` starts to play, `pause` stops it. */
export function createSeeking({ video, store, playback, play, pause }) {
  const isOver = () => store.get().status === "over"; // a recording, which begins again where it is sent
  const go = (position) => {
    store.set({ following: false, gone: false, missed: null, ...(isOver() ? { position } : {}) });
    if (isOver()) return play();
    return playback.seek(position);
  };

  function goLive() {
    const { recording, replay, timeline } = store.get();
    if (recording !== null) {
      if (timeline !== null) go(timeline.live);
      return;
    }
    store.set({ following: true, gone: false, missed: null, replay: null });
    if (replay === null) playback.goLive();
    else playback.renew();
    play();
  }

  /** To a place in media time, as far as the window goes; its end is live. */
  function seekTo(position) {
    const { timeline, recording } = store.get();
    if (timeline === null) return;
    if (recording === null && position >= timeline.live - NEAR) goLive();
    else go(clampTo(timeline, position));
  }

  /** Plays on; from the window's beginning where it has left what was paused. */
  function resume() {
    const { gone, timeline } = store.get();
    if (isOver() && timeline !== null) return go(timeline.first);
    if (gone && timeline !== null) go(timeline.first);
    play();
  }

  return {
    goLive,
    seekTo,
    play: resume,
    togglePlay: () => (store.get().paused ? resume() : pause()),
    seekBy: (seconds) => {
      const forward = seconds > 0 && !store.get().behind;
      if (!forward) seekTo((isOver() ? store.get().position : video.currentTime) + seconds);
    },
    /** `share` of the window, from 0 to 1. */
    seekPart: (share) => {
      const { timeline } = store.get();
      if (timeline !== null) seekTo(timeline.first + share * (timeline.live - timeline.first));
    },
    /** So many pictures on or back, while paused. */
    stepFrames: (count) => {
      const { timeline, paused } = store.get();
      if (!paused || timeline === null) return;
      go(clampTo(timeline, video.currentTime + count * (playback.frame() ?? 0)));
    },
    watchMissed: () => {
      const { missed, timeline } = store.get();
      const from = missed && timeline ? positionAt(timeline.anchors, missed.date) : null;
      if (from !== null) seekTo(Math.max(from, timeline.first));
      play();
    },
    forgetMissed: () => store.set({ missed: null }),
  };
}
