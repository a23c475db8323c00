// When to catch up with live, and how. Pure: the sample comes from outside.

const FASTER = 1.05;
const CLOSE = 0.1; // seconds from the target that are not worth a faster picture
const FAR = 8; // target durations behind the end from which on the picture jumps to live
const LOSS = 0.1; // seconds of buffer lost per second that catching up does not explain: it takes half of it

/** Within the latency that is aimed at; half a target duration is how far segments come in bursts. */
export function isAtLive({ latency, target, targetDuration }) {
  return latency !== null && target !== null && latency <= target + Math.max(1, targetDuration / 2);
}

/** Whether what was paused can no longer be played on from: its buffer ends before the window begins. */
export const isGone = ({ position, buffer, start }) => position + (buffer ?? 0) < start;

/**
 * Returns `look(sample)` → {rate, jump}; sample = {now, following, paused, fresh, latency, target, targetDuration,
 * buffer}, in ms and seconds. `following` is false for a viewer who paused or chose a place; `fresh` says that
 * playlists grow. A short or shrinking buffer is not played faster: it would run dry.
 */
export function createCatchUp() {
  let samples = []; // of the buffer, oldest first

  function isGrowing({ now, buffer, targetDuration }) {
    const half = Math.max(2 * targetDuration, 3) * 1000;
    if (buffer === null || (samples.length > 0 && Math.abs(buffer - samples.at(-1).buffer) > 3 * targetDuration)) samples = [];
    if (buffer === null) return false;
    samples.push({ now, buffer });
    samples = samples.filter((sample) => now - sample.now <= 2 * half);
    const peak = (some) => Math.max(...some.map((sample) => sample.buffer));
    const [older, newer] = [true, false].map((old) => samples.filter((sample) => now - sample.now > half === old));
    return older.length > 0 && peak(newer) >= peak(older) - (LOSS * half) / 1000;
  }

  return function look(sample) {
    const { following, paused, fresh, latency, target, targetDuration, buffer } = sample;
    const grows = isGrowing(sample);
    if (!following || paused || latency === null || target === null) return { rate: 1, jump: false };
    const jump = fresh && latency > Math.max(FAR * targetDuration, target + targetDuration);
    const enough = grows && buffer >= targetDuration;
    return { rate: !jump && enough && latency - target > CLOSE ? FASTER : 1, jump };
  };
}
