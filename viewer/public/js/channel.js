// What the server tells beside the playlists, put into the state: by held events, or by server-sent events.
import { listen } from "./events.js";
import { hold } from "./held-events.js";

const PATIENCE = 1000; // ms for the server's first word, before the first player starts without it
const TROUBLES = new Set(["encoder", "delivery"]); // a word that this page does not know is none
const CROWD = 500; // ms over which viewers who hear of a start at the same moment ask for it
const EVENT = 10000; // ms in which there is hardly more than one
const SEGMENT = 500; // ms; of several variants, which may come one after the other
const SELDOM = 600; // seconds between two reports; one is of 900 at most

/**
 * Listens from now on. `note(segment, isNews)` hears of segments: with server-sent events of all, with held ones while
 * `wants(true)` holds. `sharing` hears whether their hashes come.
 */
export function createChannel({ config: { eventsUrl, events }, store, clock, catalog, forecast, sharing, alarm, playback, note, open = listen, ask = hold }) {
  const held = events === "held";
  let told = false;
  let heardAt = -Infinity;
  let asking = null; // for events
  let feed = null; // of segments
  let fed = !held; // whether the server tells of segments, as far as it tells anything
  let heard = () => {};
  const firstWord = eventsUrl === null ? Promise.resolve() : new Promise((resolve) => {
    heard = resolve;
    setTimeout(resolve, PATIENCE);
  });

  const wakeSoon = () => setTimeout(alarm.wake, CROWD * Math.random());
  const react = {
    state({ state, segments, trouble, viewers }) {
      store.set({ channel: state, trouble: problemOf(trouble), viewers: countOf(viewers) });
      if (!held) react.reports({}); // comes next, where not all report
      for (const segment of segments ?? []) note(segment, false);
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
    trouble: ({ trouble }) => store.set({ trouble: problemOf(trouble) }),
    viewers: ({ viewers }) => store.set({ viewers: countOf(viewers) }),
    reports: (asked) => store.set({ reports: reportsOf(asked, store.get().reports) }),
    lost: () => store.set({ channel: null, trouble: null, viewers: null }),
    ended({ goingOn }) {
      store.set({ channel: goingOn === true ? "starting" : "ended", trouble: null });
      if (goingOn === true) playback.replaced();
    },
  };

  function hear(name, data) {
    told = name !== "lost";
    if (told) heardAt = performance.now();
    clock.note(data?.now);
    forecast.hears(name, data);
    react[name]?.(data);
    if (!held) sharing.hears(told);
    heard();
  }

  /** An answer to a request for events. */
  function take({ state, events, share, every, encoderOffset, now }) {
    hear("time", { now });
    react.reports({ share, every });
    catalog.isAhead(encoderOffset);
    if (isObject(state)) hear("state", state);
    for (const event of Array.isArray(events) ? events : []) if (isObject(event?.[1])) hear(...event);
  }

  /** The first answer has what is listed, later ones what is new. */
  function createFeed() {
    let isFirst = true;
    return ask({
      url: new URL("segments", eventsUrl).href,
      every: SEGMENT,
      take({ segments, now }) {
        clock.note(now);
        for (const segment of Array.isArray(segments) ? segments : []) note(segment, !isFirst);
        isFirst = false;
        fed = true;
        sharing.hears(true);
      },
      lost() {
        isFirst = true;
        fed = false;
        sharing.hears(false);
      },
    });
  }

  if (eventsUrl !== null) {
    if (held) asking = ask({ url: eventsUrl, every: EVENT, take, lost: () => hear("lost", null) });
    else open({ url: eventsUrl, hear });
    store.subscribe(({ status }, before) => before.status === "reconnecting" && status !== "reconnecting" && wake());
  }

  /** Who waits until there may be an answer again need not wait any longer. */
  function wake() {
    asking?.wake();
    feed?.wake();
  }

  return Object.freeze({
    firstWord,
    wake,
    /** Whether the server tells of segments at the moment, by itself or by playlists that it holds back until there is one. */
    told: (blocks) => told && (fed || blocks),
    heardAt: () => heardAt,
    /** Whether the page wants to be told of segments. */
    wants(segments) {
      if (!held || eventsUrl === null || segments === (feed !== null)) return;
      feed?.stop();
      feed = segments ? createFeed() : null;
      if (segments) return;
      fed = false;
      sharing.hears(null);
    },
  });
}

const within = (value, least, most) => typeof value === "number" && value >= least && value <= most;
const isObject = (value) => value !== null && typeof value === "object";
const countOf = (count) => (Number.isInteger(count) && count > 0 ? count : null);
const problemOf = (word) => (TROUBLES.has(word) ? word : null);

/** Which pages report, and how often; the same object as before where nothing is different. */
function reportsOf({ share = 1, every = 25 }, before) {
  const is = { share: within(share, 0, 1) ? share : 1, every: within(every, 25, SELDOM) ? every : 25 };
  return is.share === before.share && is.every === before.every ? before : Object.freeze(is);
}
