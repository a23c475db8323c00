// All that comes to the page beside the playlists: the server's word of each segment, and what is made of it.
import { createCatalog } from "./catalog.js";
import { createClock } from "./clock.js";
import { listen } from "./events.js";
import { LOW_DELAY, SHARING } from "./modes.js";
import { createOutlook } from "./outlook.js";
import { isCapable, loadLibrary } from "./p2p.js";
import { createPreconnect, createPrefetch } from "./prefetch.js";
import { createSegmentSource } from "./segment-source.js";
import { createSharing } from "./sharing.js";
import { hostOf } from "./stats.js";
import { createTimings } from "./timings.js";

const PATIENCE = 1000; // ms for the server's first word, before the first player starts without it
const TROUBLES = new Set(["encoder", "delivery"]); // a word that this page does not know is none
const CROWD = 500; // ms over which viewers who hear of a start at the same moment ask for it

/**
 * With a `native` player the page cannot share. `playback` hears of segments and of what is decided.
 */
export function createServerEvents({ config, store, ledger, alarm, playback, looked, native, document }) {
  const { eventsUrl, trackerUrl, iceServers } = config;
  const clock = createClock();
  const catalog = createCatalog();
  const timings = createTimings({ store, clock });
  const outlook = createOutlook();
  const prefetch = createPrefetch({
    fetched(url, count) {
      timings.fetched(url);
      ledger.add("bucket", count, hostOf(url));
    },
  });
  const sharing = createSharing({
    store,
    offered: trackerUrl !== null,
    capable: !native && isCapable(),
    apply: (sharing) => playback.share(sharing),
  });
  const mode = () => (store.get().p2p.available ? store.get().mode : LOW_DELAY);

  /** Loads what sharing takes, which is much, only when it is wanted. Whether it has come just now. */
  let library = null;
  async function equip() {
    if (library !== null || mode() !== SHARING) return false;
    library = await loadLibrary();
    if (library === null) sharing.setCapable(false);
    return library !== null;
  }
  async function changeMode(chosen) {
    sharing.setMode(chosen);
    if (await equip()) playback.renew();
    else playback.setMode(mode(), store.get().following);
  }
  store.subscribe((state, before) => state.mode !== before.mode && changeMode(state.mode));
  const { told, heardAt, firstWord } = follow({ eventsUrl, store, clock, catalog, timings, outlook, sharing, alarm, playback, document });

  return Object.freeze({
    /** When the first player can be made. */
    ready: Promise.all([firstWord, equip()]),
    serverTime: clock.now,
    /** Whether the server tells of segments at the moment. */
    told,
    /** When it told something last, of performance.now(). */
    heardAt,
    goesOn: outlook.goesOn,
    /** How long its segments are, in seconds, null when it has not told. */
    duration: catalog.duration,
    encoderOffset: catalog.encoderOffset,
    played: timings.played,
    mode,
    /** Where a new player gets its segments. What plays the streamer's own server shares nothing: its numbers mean other things. */
    connect() {
      const { fallback, p2p } = store.get();
      return createSegmentSource({
        Engine: fallback ? null : library,
        swarm: { trackerUrl, iceServers, enabled: p2p.enabled, gives: p2p.gives },
        catalog,
        prefetch,
        looked,
        timings,
        ledger,
        sharing,
        counts: !fallback,
      });
    },
  });
}

/** Listens to the server from now on. `firstWord` resolves at its first, or when that does not come. */
function follow({ eventsUrl, store, clock, catalog, timings, outlook, sharing, alarm, playback, document }) {
  const preconnect = createPreconnect(document);
  let told = false;
  let heardAt = -Infinity;

  function note(segment, isNews) {
    catalog.note(segment);
    timings.told(segment, isNews);
    preconnect(segment.url);
    playback.news(segment);
  }
  const wakeSoon = () => setTimeout(alarm.wake, CROWD * Math.random());
  const react = {
    state({ state, segments, trouble, viewers }) {
      store.set({ channel: state, trouble: troubleOf(trouble), viewers: countOf(viewers) });
      for (const segment of segments) note(segment, false);
      if (state === "live") wakeSoon();
    },
    segment(segment) {
      clock.note(segment.published);
      note(segment, true);
    },
    starting: () => store.set({ channel: "starting" }),
    started() {
      store.set({ channel: "live" });
      wakeSoon();
    },
    trouble: ({ trouble }) => store.set({ trouble: troubleOf(trouble) }),
    viewers: ({ viewers }) => store.set({ viewers: countOf(viewers) }),
    lost: () => store.set({ channel: null, trouble: null, viewers: null }),
    ended({ goingOn }) {
      store.set({ channel: goingOn === true ? "starting" : "ended", trouble: null });
      if (goingOn === true) playback.replaced();
    },
  };

  const firstWord = new Promise((resolve) => {
    if (eventsUrl === null) {
      resolve();
      return;
    }
    setTimeout(resolve, PATIENCE);
    listen({
      url: eventsUrl,
      hear(name, data) {
        told = name !== "lost";
        if (told) heardAt = performance.now();
        clock.note(data?.now);
        outlook.hears(name, data);
        react[name]?.(data);
        sharing.hears(told);
        resolve();
      },
    });
  });
  return { told: () => told, heardAt: () => heardAt, firstWord };
}

const countOf = (count) => (Number.isInteger(count) && count > 0 ? count : null);
const troubleOf = (word) => (TROUBLES.has(word) ? word : null);
