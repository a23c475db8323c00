// One frozen state: requests change it in one place, everybody else subscribes.

/** What the page knows before it has looked at anything. */
export const initialState = Object.freeze({
  // connecting | offline | live | buffering | waiting (the encoder pauses) | reconnecting | blocked | unsupported
  status: "connecting",
  title: "Live stream",
  engine: null, // "hls.js" or "native"
  paused: true,
  muted: true,
  latency: null, // seconds behind the end of the playlist
  behind: false, // far enough back for "go live" to make sense
  levels: Object.freeze([]), // {height, bitrate}, best first
  level: null, // the one on screen
  quality: "auto", // "auto" or the key of a level
  bytesByHost: Object.freeze({}),
  stalls: 0, // times the buffer ran dry
  rebuilds: 0, // times the player was thrown away and made anew after a failure
  sessions: 0, // players made so far
});

export function createStore(initial = initialState) {
  let state = Object.freeze({ ...initial });
  const listeners = new Set();
  return Object.freeze({
    get: () => state,
    /** Merges `patch`; listeners hear of it only when something is different. */
    set(patch) {
      const before = state;
      if (Object.keys(patch).every((key) => Object.is(before[key], patch[key]))) return state;
      state = Object.freeze({ ...before, ...patch });
      for (const listener of [...listeners]) listener(state, before);
      return state;
    },
    /** Calls `listener(state, before)` now and after each change; returns the way out. */
    subscribe(listener) {
      listeners.add(listener);
      listener(state, state);
      return () => listeners.delete(listener);
    },
  });
}
