// Looks at the player twice a second and says how it does. Pure: the sample comes from outside.

const HICCUP = 1500; // ms without progress that nobody needs to hear about
const LEFT = 2; // seconds of a recording that are worth waiting for
const TAIL = 4000; // ms without progress after which a finished stream counts as played out

/**
 * Returns `look(sample)`; sample = {now, currentTime, seeking, filled, paused, hidden, failing, live, advancedAt,
 * heardAt, targetDuration, whole, left, exhausted}.
 * `heardAt` is when the service answered last, in ms like `now`; `filled` the place up to which there is video.
 * - idle: paused by the viewer, or not in view (hidden tabs get too few ticks to judge)
 * - playing; hiccup (too short to mention); buffering; reconnecting (playlists do not arrive, or nothing at all)
 * - waiting: all that is listed has been played, or the playlist stopped growing, and the service says so
 * - finished: the playlist has ended and there is nothing left to play
 * - stuck: buffering or reconnecting for longer than `patience` ms; a new look at the stream is due
 */
export function createWatch(patience = 12000) {
  let position = null;
  let full = null;
  let last = null;
  let still = 0;

  return function look(sample) {
    // A throttled timer must not look like a long stall: one tick never counts for more than a second.
    const step = last === null ? 0 : Math.min(sample.now - last, 1000);
    last = sample.now;
    const moved = position !== null && sample.currentTime !== position;
    position = sample.currentTime;
    still = moved || sample.paused || sample.hidden ? 0 : still + step;
    if (full !== null && sample.filled > full) still = Math.min(still, HICCUP); // slowly, but it comes
    full = sample.filled;
    if (sample.paused) return "idle";
    if (moved && !sample.seeking) return "playing"; // who is sent somewhere may find nothing there
    if (sample.hidden) return "idle";
    if (!sample.live && still >= TAIL && !(sample.left > LEFT && sample.whole)) return "finished";
    if (still < HICCUP) return "hiccup";
    const failing = sample.failing || silent(sample);
    if (!failing && sample.live && (sample.exhausted || quiet(sample))) {
      still = Math.min(still, HICCUP); // patience starts anew when segments come again
      return "waiting";
    }
    if (still >= patience) return "stuck";
    return failing ? "reconnecting" : "buffering";
  };
}

/** A new segment is due within 1.5 × TARGETDURATION of the last (RFC 8216bis, 6.2.1); a second for the way. */
function quiet({ now, advancedAt, targetDuration }) {
  return advancedAt !== null && now - advancedAt > 1500 * targetDuration + 1000;
}

/** A request for the next playlist may take 3 × TARGETDURATION, one for events 20 s. */
function silent({ now, heardAt, targetDuration }) {
  return now - heardAt > Math.max(25000, 3000 * targetDuration + 3000);
}

/** Whether the playlists grow as they should: where they do not, nobody can catch up. */
export const isFresh = (sample) => sample.advancedAt !== null && !sample.failing && !quiet(sample);
