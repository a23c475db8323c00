// All that comes to the page beside the playlists: the server's word of each segment, and what is made of it.
import { createCatalog } from "./catalog.js";
import { createClock } from "./clock.js";
import { listen } from "./events.js";
import { createJourney } from "./journey.js";
import { createLine } from "./line.js";
import { LOW_DELAY, SHARING } from "./modes.js";
import { createOutlook } from "./outlook.js";
import { isCapable, loadLibrary } from "./p2p.js";
import { createPreconnect, createPrefetch } from "./prefetch.js";
import { createSharing } from "./sharing.js";
import { hostOf } from "./stats.js";

const PATIENCE = 1000; // ms for the server's first word, before the first player starts without it
const TROUBLES = new Set(["encoder", "delivery"]); // a word that this page does not know is none
const CROWD = 500; // ms over which viewers who hear of a start at the same moment ask for it

/**
 * With a `native` player the page cannot share. `deck.player` hears of segments and of what is decided.
 */
export function createFeed({ config, store, ledger, alarm, deck, looked, native, document }) {
  const { eventsUrl, trackerUrl, iceServers } = config;
  const clock = createClock();
  const catalog = createCatalog();
  const journey = createJourney({ store, clock });
  const outlook = createOutlook();
  const prefetch = createPrefetch({
    fetched(url, count) {
      journey.fetched(url);
      ledger.add("bucket", count, hostOf(url));
    },
  });
  const sharing = createSharing({
    store,
    offered: trackerUrl !== null,
    capable: !native && isCapable(),
    apply: (sharing) => deck.player?.share?.(sharing),
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
  const { told, heardAt, firstWord } = follow({ eventsUrl, store, clock, catalog, journey, outlook, sharing, alarm, deck, document });

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
    played: journey.played,
    mode,
    async setMode(chosen) {
      sharing.setMode(chosen);
      if (await equip()) deck.player?.renew?.();
      else deck.player?.setMode?.(mode(), store.get().following);
    },
    /** A line for a new player. What plays the streamer's own server shares nothing: its numbers mean other things. */
    connect() {
      const { fallback, p2p } = store.get();
      return createLine({
        Engine: fallback ? null : library,
        swarm: { trackerUrl, iceServers, enabled: p2p.enabled, gives: p2p.gives },
        catalog,
        prefetch,
        looked,
        journey,
        ledger,
        sharing,
        counts: !fallback,
      });
    },
  });
}

/** Listens to the server from now on. `firstWord` resolves at its first, or when that does not come. */
function follow({ eventsUrl, store, clock, catalog, journey, outlook, sharing, alarm, deck, document }) {
  const preconnect = createPreconnect(document);
  let told = false;
  let heardAt = -Infinity;

  function note(segment, isNews) {
    catalog.note(segment);
    journey.told(segment, isNews);
    preconnect(segment.url);
    deck.player?.news?.(segment);
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
      if (goingOn === true) deck.player?.replaced?.();
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
