// The recording of the stream that is on: from its start, and back to live; after the end, where it can be watched.
import { readPage } from "./recordings.js";

const SPREAD = 3000; // ms over which everybody asks, after what happens to all at once
const AGAIN = 8000; // ms; the service may not have written it yet
const LOOKS = 4;
const TRIES = 3; // players that never began: what they were to play cannot be played

/**
 * Looks for it as the stream begins and ends. `begin()` plays it from its start, in the place of the stream;
 * `wrap(play)` makes a play that does, `lookWith(look)` a look at what that is going to play.
 */
export function createStartOver({ store, playback, read = readPage, sleep = pause, random = Math.random }) {
  let looking = null; // for what
  let vain = 0; // players in a row that never began

  const newest = async (recordings) => (await read(recordings.newest).catch(() => ({ recordings: [] }))).recordings;

  /** `isIt` tells a recording that is the right one, and will not change any more. */
  async function look(what, isIt) {
    const { recordings, recording } = store.get();
    if (recordings === null || recording !== null || looking === what) return;
    looking = what;
    for (let looks = 0; looks < LOOKS && looking === what; looks += 1) {
      await sleep(looks === 0 ? 1000 + SPREAD * random() : AGAIN);
      const [recorded = null] = await newest(recordings);
      if (looking !== what) return;
      store.set({ recorded: recorded ?? store.get().recorded });
      if (recorded !== null && isIt(recorded)) return;
    }
  }

  store.subscribe(({ status, replay }) => {
    if (status === "live" && replay === null) look("on", ({ ended }) => ended === null);
    if (status === "offline") look("over", ({ ended }) => ended !== null);
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
    /** What is played in the place of the stream goes on after its end, and is left when it is not there any more. */
    lookWith: (look) => async (url) => {
      const { replay } = store.get();
      if (replay === null) return look(url);
      const found = await look(replay[0]);
      if (found === "live" || found === "ended") return "live";
      if (found !== "absent") return "unreachable";
      store.set({ replay: null });
      return look(url);
    },
    wrap: (play) => async (terms) => {
      const { replay, kept } = store.get();
      const [url, ...rest] = replay ?? [];
      if (url === undefined) return play(terms);
      // What is kept is live, and the player comes back to its date.
      const result = await play({ ...terms, url, ...(url === kept ? {} : { start: 0, recorded: true }) });
      if (result.reason === "ended" && rest.length > 0) {
        store.set({ replay: rest, date: null });
        return { ...result, reason: "switched" };
      }
      vain = result.reason === "failed" && !result.started && terms.autoplay ? vain + 1 : 0;
      if (result.reason === "ended" || vain === TRIES) {
        vain = 0;
        store.set({ replay: null });
      }
      return result;
    },
  });
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
