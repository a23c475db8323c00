// What time the server has: its times and ours are shown side by side.

const KEEP = 60; // samples: a few minutes

/**
 * The offset is the largest difference of late: that message travelled least. So the server's time comes out
 * late by the quickest way of a message, a few milliseconds.
 */
export function createClock({ local = precise, keep = KEEP } = {}) {
  const differences = [];
  let offset = 0;
  return Object.freeze({
    /** A time of the server's clock that cannot have been in the future when it was sent. */
    note(serverTime) {
      if (!Number.isFinite(serverTime)) return;
      differences.push(serverTime - local());
      if (differences.length > keep) differences.shift();
      offset = Math.max(...differences);
    },
    /** Milliseconds since the epoch by the server's clock; by ours as long as the server has not told. */
    now: () => local() + offset,
  });
}

/** Date.now() has whole milliseconds only. */
const precise = () => performance.timeOrigin + performance.now();
