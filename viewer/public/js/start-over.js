// The recording of the stream that is on: from its start, and back to live; after the end, where it can be watched.
import { readPage } from "./recordings.js";

const SPREAD = 3000; // ms over which everybody asks, after what happens to all at once
const AGAIN = 8000; // ms; the service may not have written it yet
const LOOKS = 4;
const PLAYABLE = new Set(["live", "ended"]);
const TRIES = 3; // looks, and players that never began: what they were for cannot be played

/**
 * Looks for it as the stream begins and ends. `begin()` plays it from its start, in the place of the stream;
 * `wrap(play)` makes a play that does, `lookWith` a look at what that is going to play.
 */
export function createStartOver({ store, playback, read = readPage, sleep = pause, random = Math.random }) {
  let looking = null; // for what
  let vain = 0; // tries in a row

  const isVain = () => (vain += 1) >= TRIES;

  function leave() {
    vain = 0;
    store.set({ replay: null });
  }

  const newest = async (recordings) => (await read(recordings.newest).catch(() => ({ recordings: [] }))).recordings;

  /** `isIt` tells a recording that is the right one, and will not change any more. */
  async function look(what, isIt) {
    const { recordings } = store.get();
    if (recordings === null || looking === what) return;
    looking = what;
    for (let looks = 0; looks < LOOKS && looking === what; looks += 1) {
      await sleep(looks === 0 ? 1000 + SPREAD * random() : AGAIN);
      const shelf = await newest(recordings);
      const [recorded = null] = shelf;
      if (looking !== what) return;
      store.set({ shelf });
      if (what === "others") return;
      store.set({ recorded: recorded ?? store.get().recorded });
      if (recorded !== null && isIt(recorded)) return;
    }
  }

  store.subscribe(({ status, replay, recording }) => {
    if (status === "missing" || (recording !== null && status === "live")) return look("others");
    if (recording !== null) return undefined;
    if (status === "live" && replay === null) look("on", ({ ended }) => ended === null);
    if (status === "offline") look("over", ({ ended }) => ended !== null);
    return undefined;
  });

  return Object.freeze({
    async begin() {
      const { recorded: known, recordings } = store.get();
      if (known === null || known.ended !== null) return;
      const [recorded] = [...(await newest(recordings)), known]; // which may have another part by now
      // Without a date the next player begins where it is told to.
      store.set({ recorded, replay: recorded.parts, following: false, gone: false, missed: null, date: null });
      playback.renew();
    },
    /**
     * What is played in the place of the stream goes on after its end, and is left when it is not there any more, or
     * cannot be had while the stream can. `lookAtStream` may find something else instead of that (fallback.js).
     */
    lookWith: (look, lookAtStream = look) => async (url) => {
      const { replay } = store.get();
      if (replay === null) return lookAtStream(url);
      const found = await look(replay[0]);
      if (PLAYABLE.has(found)) {
        store.set({ fallback: false });
        return "live";
      }
      const stream = await lookAtStream(url);
      if (store.get().fallback) return stream;
      const alone = PLAYABLE.has(stream); // then it is no trouble on the way
      if (found !== "absent" && !(alone && isVain())) return "unreachable";
      leave();
      return stream;
    },
    wrap: (play) => async (terms) => {
      const { replay, kept, fallback } = store.get();
      if (replay === null) vain = 0;
      if (replay === null || fallback) return play(terms);
      const [url, ...rest] = replay;
      // What is kept is live, and the player comes back to its date.
      const result = await play({ ...terms, url, ...(url === kept ? {} : { start: 0, recorded: true }) });
      if (result.reason === "ended" && rest.length > 0) {
        store.set({ replay: rest, date: null });
        return { ...result, reason: "switched" };
      }
      if (result.started) vain = 0;
      const failed = result.reason === "failed" && !result.started && terms.autoplay;
      if (result.reason === "ended" || (failed && isVain())) leave();
      return result;
    },
  });
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
