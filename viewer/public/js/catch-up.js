// When to catch up with live, and how. Pure: the sample comes from outside.

const FASTER = 1.05;
const CLOSE = 0.1; // seconds from the target that are not worth a faster picture
const FAR = 8; // target durations behind the end from which on the picture jumps to live
const SLOWEST = 0.4; // how slowly the picture plays while nothing new comes
const ENOUGH = 1.5; // segments of buffer with which it is not slowed down
const LATE = 0.3; // seconds by which a segment may come later than the longest one lasts
const LOSS = 0.1; // seconds of buffer lost per second that catching up does not explain: it takes half of it

/** Within the latency that is aimed at; half a target duration is how far segments come in bursts. */
export function isAtLive({ latency, target, targetDuration }) {
  return latency !== null && target !== null && latency <= target + Math.max(1, targetDuration / 2);
}

/**
 * Whether the buffer ends where the playlist does, and the next segment is missing or late: sample = {now, live, lost,
 * exhausted, advancedAt, longest}. `longest` is the duration of the longest segment that is listed, in seconds.
 */
export const isStarved = ({ now, live, lost, exhausted, advancedAt, longest }) =>
  live === true && exhausted === true && advancedAt !== null && (lost || now - advancedAt > 1000 * (longest + LATE));

/** Makes the buffer last longer: the less there is of it, the slower, in steps of a twentieth. */
const stretched = ({ buffer, longest }) =>
  Math.min(1, Math.max(SLOWEST, Math.round((20 * (buffer ?? 0)) / (ENOUGH * longest)) / 20));

/** Whether what was paused can no longer be played on from: its buffer ends before the window begins. */
export const isGone = ({ position, buffer, start }) => position + (buffer ?? 0) < start;

/**
 * Returns `look(sample)` → {rate, jump}; sample = {now, following, paused, playing, fresh, slow, latency, target,
 * targetDuration, buffer, room}, and what isStarved takes, in ms and seconds. `following` is false for a viewer who
 * paused or chose a place; `fresh` says that playlists grow. While nothing new comes the picture plays slower, so that it
 * stands for a shorter time. A short or shrinking buffer is not played faster: it would run dry. On a `slow`
 * link a jump is a stall: it falls behind until what it has yet to load leaves the window, which has `room` behind live.
 */
export function createCatchUp() {
  let samples = []; // of the buffer, oldest first
  let since = null; // when it last played on after standing still

  /** Its peaks are looked at: between two segments every buffer shrinks. A stall begins it all anew. */
  function holds({ now, playing, buffer, targetDuration }) {
    const span = 1000 * Math.max(4 * targetDuration, 6);
    const leapt = samples.length > 0 && Math.abs(buffer - samples.at(-1).buffer) > 3 * targetDuration;
    if (!playing || buffer === null || leapt) {
      samples = [];
      since = now;
      return false;
    }
    since ??= now;
    samples = [...samples.filter((sample) => now - sample.now <= span), { now, buffer }];
    const peak = (milliseconds) =>
      Math.max(...samples.filter((sample) => now - sample.now <= milliseconds).map((sample) => sample.buffer));
    return now - since >= span && peak(1000 * targetDuration) >= peak(span) - (LOSS * span) / 1000;
  }

  return function look(sample) {
    const { following, paused, fresh, slow, latency, target, targetDuration, buffer, room } = sample;
    const steady = holds(sample);
    if (!following || paused || latency === null || target === null) return { rate: 1, jump: false };
    const far = Math.max(FAR * targetDuration, target + targetDuration);
    const jump = fresh && latency > (slow ? Math.max(far, room + (buffer ?? 0)) : far);
    if (!jump && isStarved(sample)) return { rate: stretched(sample), jump };
    const enough = steady && !slow && buffer >= targetDuration;
    return { rate: !jump && enough && latency - target > CLOSE ? FASTER : 1, jump };
  };
}
