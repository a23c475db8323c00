// What the playlists of hls.js say about the window, in media time and seconds.
import { anchorsOf } from "./timeline.js";

const FRAME = 1 / 30; // where the playlist does not tell

/**
 * Returns `look()`, and `update()` for when there is a new playlist. `latency` is from the window's end,
 * `left` what there is to play, `whole` says that it is a recording.
 */
export function createWindow(hls, video) {
  let anchors = Object.freeze([]);
  return Object.freeze({
    update({ fragments = [] }) {
      anchors = anchorsOf(fragments.map(({ start, programDateTime }) => ({ start, date: programDateTime })));
    },
    look() {
      const details = hls.latestLevelDetails ?? null;
      if (details === null) return { start: null, sync: null, anchors, latency: null, whole: false, left: null };
      const { fragmentStart: start, edge, age, type, live } = details;
      const whole = type !== null; // EXT-X-PLAYLIST-TYPE: nothing leaves it
      const sync = whole && !live ? edge : hls.liveSyncPosition;
      const left = edge - video.currentTime;
      return { start, sync, anchors, latency: left + age, whole, left };
    },
    /** How long a picture is shown. */
    frame: () => {
      const rate = hls.levels[hls.currentLevel]?.frameRate;
      return rate > 0 ? 1 / rate : FRAME;
    },
  });
}
