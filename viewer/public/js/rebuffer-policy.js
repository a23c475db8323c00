// How much has to be there before the picture goes on after a stall: more each time. Pure.

const MEMORY = 60000; // ms for which a stall is remembered
const MOST = 8; // seconds
const SHARE = 0.25; // of the window, at most
const UNEVEN = 2; // stalls within that time

/**
 * `stall(now)` is told of each. `holds(sample)` says whether the picture is to wait; sample = {paused, fresh, buffer,
 * targetDuration, ahead, room, lost}, in seconds; `ahead` is the most that the player fetches, `room` how far back the window
 * goes: waiting takes some of it each time. Waiting for what does not come would help nobody: where what follows is
 * `lost` the buffer cannot grow, and the stall was none of the connection's.
 */
export function createRebufferPolicy() {
  let stalls = []; // when, of late
  let short = false;
  const ofLate = (now) => stalls.filter((at) => now - at < MEMORY);
  return Object.freeze({
    stall(now) {
      stalls = [...ofLate(now), now];
      short = true;
    },
    holds({ paused, fresh, buffer, targetDuration, ahead, room, lost = false }) {
      if (short && lost) {
        short = false;
        stalls.pop();
      }
      const enough = Math.min(targetDuration * 2 ** (stalls.length - 1), MOST, ahead, SHARE * room);
      short &&= fresh && !paused && (buffer ?? 0) < enough;
      return short;
    },
    /** Whether the picture stood still so often that nothing may be risked. */
    isUneven: (now) => ofLate(now).length >= UNEVEN,
  });
}
