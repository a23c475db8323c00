// The segments the server has told of: where each is, whose it is, and the hash that its bytes must have.

const MOST = 240; // of all variants together

export function createCatalog(most = MOST) {
  const byUrl = new Map();
  const waiting = new Map(); // URL → functions that want its segment
  const durations = []; // of the latest
  let newest = null;
  let ahead = null;

  return Object.freeze({
    /** Takes note of a segment of a "segment" or "state" event. */
    note(segment) {
      if (typeof segment?.url !== "string") return;
      byUrl.set(segment.url, Object.freeze({ ...segment }));
      newest = segment;
      if (!segment.gap) durations.push(segment.duration);
      if (durations.length > 6) durations.shift();
      if (byUrl.size > most) byUrl.delete(byUrl.keys().next().value);
      for (const resolve of waiting.get(segment.url) ?? []) resolve(segment);
      waiting.delete(segment.url);
    },
    find: (url) => byUrl.get(url) ?? null,
    /** The segment, or null if it is not told of within `patience` ms. */
    wait(url, patience) {
      const known = byUrl.get(url);
      if (known) return Promise.resolve(known);
      return new Promise((resolve) => {
        const timer = setTimeout(() => {
          waiting.delete(url);
          resolve(null);
        }, patience);
        const told = (segment) => {
          clearTimeout(timer);
          resolve(segment);
        };
        waiting.set(url, [...(waiting.get(url) ?? []), told]);
      });
    },
    /** The encoder run of the newest segment, null before there is any. */
    run: () => newest?.run ?? null,
    /** By how many ms the times of the newest segments are ahead of the server's clock. */
    isAhead(ms) {
      ahead = Number.isFinite(ms) ? ms : null;
    },
    /** The same for this segment, 0 when nothing is told. */
    encoderOffset: (url) => byUrl.get(url)?.encoderOffset ?? ahead ?? 0,
    /** How long segments are at the moment, in seconds, null before there is any. The last of a run is shorter. */
    duration: () => (durations.length ? Math.max(...durations) : null),
  });
}
