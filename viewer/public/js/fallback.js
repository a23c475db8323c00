// When the broadcaster's playlist cannot be had for a while, the page plays the streamer's own server instead.
import { backoff } from "./backoff.js";
import { findStream } from "./offline.js";

const pace = { first: 5000, factor: 1.3, most: 15000 }; // of looks whether the broadcaster is back
const WELL = new Set(["live", "waiting", "offline"]); // what the page's status is while the playlist can be had

/**
 * Wraps the two steps of live.js: `look` also finds a stream when `fallbackUrl` is to be played, and the play made by
 * `wrap(play)` then plays that until the broadcaster is back (which ends it with "switched"). Without a
 * fallbackUrl both do as they always did.
 */
export function createFallback({ fallbackUrl, afterSeconds, store, alarm, look = findStream, sleep = pause, now }) {
  const clock = now ?? (() => performance.now());
  let since = null; // when the playlist was first missed
  let timer = 0;

  function miss() {
    if (since !== null || fallbackUrl === null) return;
    since = clock();
    timer = setTimeout(() => alarm.wake(), 1000 * afterSeconds + 50); // to look then, and not some time later
  }
  function find() {
    since = null;
    clearTimeout(timer);
  }
  store.subscribe(({ status, fallback }) => {
    if (status === "reconnecting") miss();
    else if (WELL.has(status) && !fallback) find();
  });

  async function lookAround(url) {
    const found = await look(url);
    if (found !== "unreachable") {
      find();
      store.set({ fallback: false });
      return found;
    }
    miss();
    const due = since !== null && clock() - since >= 1000 * afterSeconds;
    const fallback = due && (await look(fallbackUrl)) === "live";
    store.set({ fallback });
    return fallback ? "live" : found;
  }

  async function untilBack(url, over) {
    for (let looks = 0; !over.aborted; looks += 1) {
      await sleep(backoff(looks, pace));
      if (!over.aborted && (await look(url)) === "live") return;
    }
  }

  return Object.freeze({
    look: lookAround,
    wrap: (play, url) => async (terms) => {
      if (!store.get().fallback) return play(terms);
      const over = new AbortController();
      const back = new AbortController();
      untilBack(url, over.signal).then(() => back.abort());
      try {
        return await play({ ...terms, url: fallbackUrl, stop: back.signal });
      } finally {
        over.abort();
      }
    },
  });
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
