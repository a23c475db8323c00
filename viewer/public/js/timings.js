// The way of each segment, from the server's folder to the screen, in times of the server's clock.

const MOST = 12;
const KNOWN = 60;
const LATEST = 3; // segments of a playlist that may be new

/** Keeps `stages` of the store: those segments that were fetched, newest last. */
export function createTimings({ store, clock }) {
  const rows = new Map(); // by address
  const last = new Map(); // numbers, by variant

  function row(url) {
    if (!rows.has(url)) {
      rows.set(url, { url, variant: null, sequence: null, noticed: null, uploaded: null, told: null, fetched: null, played: null });
      if (rows.size > KNOWN) rows.delete(rows.keys().next().value);
    }
    return rows.get(url);
  }

  function note(url, what) {
    const timing = row(url);
    for (const [name, value] of Object.entries(what)) timing[name] ??= value;
    if (timing.fetched === null) return;
    const fetched = [...rows.values()].filter((each) => each.fetched !== null);
    const newest = fetched.sort((a, b) => a.fetched - b.fetched).slice(-MOST);
    store.set({ stages: Object.freeze(newest.map(({ url: _, ...stages }) => Object.freeze(stages))) });
  }

  /** The server says that there is a segment. One that was there before we came was never told as news. */
  function told({ url, variant, sequence, noticed = null, uploaded = null }, isNews) {
    note(url, { variant, sequence, noticed, uploaded, ...(isNews ? { told: clock.now() } : {}) });
  }

  return Object.freeze({
    told,
    /** A variant's playlist says so. */
    listed(variant, fragments) {
      const before = last.get(variant);
      const news = fragments.slice(-LATEST).filter(({ sn }) => before === undefined || sn > before);
      for (const { url, sn } of news) told({ url, variant, sequence: sn }, before !== undefined);
      if (fragments.length) last.set(variant, fragments.at(-1).sn);
    },
    fetched: (url, sequence, variant = null) => note(url, { sequence, variant, fetched: clock.now() }),
    played(url) {
      if (rows.has(url)) note(url, { played: clock.now() });
    },
  });
}
