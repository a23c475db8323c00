// What the playlists of hls.js say about the window, in media time and seconds.
import { anchorsOf } from "./timeline.js";
import { bufferAhead } from "./player-health.js";

const FRAME = 1 / 30; // where the playlist does not tell
const SLACK = 0.3; // seconds by which what is buffered may end before its segment does

const NOTHING = Object.freeze({ lost: false, exhausted: false, longest: 0 });

/**
 * Returns `look()`, and `update()` for when there is a new playlist. `latency` is from the window's end,
 * `left` what there is to play, `whole` says that it is a recording. `lost`: what follows the buffer is missing from the
 * stream, so that the buffer cannot grow there. `exhausted`: nothing follows it that could be played. `longest` is the
 * duration of the longest segment.
 */
export function createWindow(hls, video) {
  let anchors = Object.freeze([]);
  return Object.freeze({
    update({ fragments = [] }) {
      anchors = anchorsOf(fragments.map(({ start, programDateTime }) => ({ start, date: programDateTime })));
    },
    look() {
      const details = hls.latestLevelDetails ?? null;
      if (details === null) return { start: null, sync: null, anchors, latency: null, whole: false, left: null, ...NOTHING };
      const { fragmentStart: start, edge, age, type, live } = details;
      const whole = type !== null; // EXT-X-PLAYLIST-TYPE: nothing leaves it
      const sync = whole && !live ? edge : hls.liveSyncPosition;
      const left = edge - video.currentTime;
      return { start, sync, anchors, latency: left + age, whole, left, ...fragmentsAfter(details, video) };
    },
    /** How long a picture is shown. */
    frame: () => {
      const rate = hls.levels[hls.currentLevel]?.frameRate;
      return rate > 0 ? 1 / rate : FRAME;
    },
  });
}

/** {lost, exhausted, longest} of what follows the buffer. */
function fragmentsAfter({ fragments = [] }, video) {
  const filled = video.currentTime + (bufferAhead(video) ?? 0);
  const first = fragments.findIndex(({ start, duration }) => start + duration > filled + SLACK);
  const longest = Math.max(0, ...fragments.map(({ duration }) => duration));
  if (first < 0) return { lost: false, exhausted: true, longest };
  const lost = fragments[first].gap === true || isHole(video, filled);
  return { longest, lost, exhausted: fragments.slice(first).every(({ gap }) => gap) };
}

/** There is video behind this place, but not at it. */
function isHole({ buffered }, filled) {
  return buffered?.length > 0 && buffered.start(buffered.length - 1) > filled + SLACK / 3;
}
