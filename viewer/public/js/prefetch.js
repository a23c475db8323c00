// Fetches a segment the moment the server tells of it, before hls.js asks. Each address once, whoever is first.

const PATIENCE = 5000; // ms without a byte after which the fetch is left to hls.js and its retries
const REMEMBERED = 100; // addresses that somebody has asked for

/**
 * A store of at most `most` segments that are on their way or there. What nobody takes is given up when newer
 * ones come. `fetched(url, bytes)` hears of each that is complete.
 */
export function createPrefetch({ get = fetch, now = () => performance.now(), most = 3, fetched = () => {} } = {}) {
  const entries = new Map();
  const asked = new Set();

  function remember(url) {
    asked.add(url);
    if (asked.size > REMEMBERED) asked.delete(asked.values().next().value);
  }

  function start(url) {
    if (asked.has(url)) return;
    remember(url);
    if (entries.size >= most) abandon([...entries.values()].find((entry) => !entry.taken)?.url);
    const entry = { url, start: now(), first: 0, end: 0, loaded: 0, total: 0, taken: false, off: new AbortController() };
    entries.set(url, entry);
    entry.done = download(entry, get, now).then(
      (data) => {
        fetched(url, data.byteLength);
        return data;
      },
      () => {
        forget(url, entry);
        return null;
      },
    );
  }

  function forget(url, entry) {
    if (entries.get(url) === entry) entries.delete(url);
  }

  function abandon(url) {
    const entry = entries.get(url);
    if (!entry) return;
    forget(url, entry);
    asked.delete(url); // may be wanted again
    entry.off.abort();
  }

  return Object.freeze({
    start,
    /**
     * What there is of a segment that hls.js wants: null, or {start, first, end, loaded, total, progress, done}
     * with times by performance.now(); `done` gives an ArrayBuffer, or null when the fetch has failed.
     */
    take(url) {
      remember(url);
      const entry = entries.get(url) ?? null;
      if (entry) entry.taken = true;
      return entry;
    },
    /** It has been handed over, or is no longer wanted. */
    drop(url) {
      const entry = entries.get(url);
      if (entry?.end) entries.delete(url);
      else abandon(url);
    },
    isLoading: () => [...entries.values()].some(({ end }) => end === 0),
    clear() {
      for (const url of [...entries.keys()]) abandon(url);
    },
  });
}

async function download(entry, get, now) {
  let timer = setTimeout(() => entry.off.abort(), PATIENCE);
  try {
    const answer = await get(entry.url, { signal: entry.off.signal });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    entry.first = now();
    entry.total = Number(answer.headers.get("Content-Length")) || 0;
    const chunks = [];
    const reader = answer.body.getReader();
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      clearTimeout(timer);
      timer = setTimeout(() => entry.off.abort(), PATIENCE);
      chunks.push(next.value);
      entry.loaded += next.value.byteLength;
      entry.progress?.();
    }
    entry.end = now();
    return join(chunks, entry.loaded);
  } finally {
    clearTimeout(timer);
  }
}

function join(chunks, size) {
  const whole = new Uint8Array(size);
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.byteLength;
  }
  return whole.buffer;
}

/** Opens a connection to where the segments are, before the first of them is wanted. */
export function createPreconnect(document) {
  const origins = new Set();
  return function preconnect(url) {
    const { origin } = new URL(url, document.baseURI);
    if (origins.has(origin)) return;
    origins.add(origin);
    const link = document.createElement("link");
    link.rel = "preconnect";
    link.href = origin;
    link.crossOrigin = "anonymous"; // the connections of requests with and without credentials are not shared
    document.head.append(link);
  };
}
