// The page's life: wait for a stream, play it, and begin again. It has no end.
import { backoff } from "./backoff.js";
import { waitForStream } from "./offline.js";
import { runSession } from "./session.js";

const FORGET_AFTER = 30000; // ms of session after which earlier failures are forgotten
// Everybody's stream ends in the same second; they need not all ask in it. In ms.
const afterEnd = { first: 1000, most: 1000, spread: 0.9 };
const beforeNext = { first: 250, most: 250, spread: 0.9 };
const DOUBT = 10000; // ms after an end in which new playlists may follow, where the server does not tell

const ANOTHER = 300000; // ms after which the same stream may come in other codecs

const AT_LIVE = Object.freeze({ following: true, date: null, missed: null }); // where the next stream begins

/**
 * Follows `url` for ever. `alarm` ends a pause early; `goesOn` says whether new playlists follow those that end
 * (stream-forecast.js); `again` is for tests.
 */
export async function follow({
  url, store, alarm, play, goesOn = unknown, wait = waitForStream, again = forEver, random, now = performanceNow,
}) {
  let failures = 0;
  let endedAt = -Infinity;
  const mayGoOn = () => goesOn() ?? now() - endedAt < DOUBT;
  const statusWithout = () => (mayGoOn() ? "connecting" : "offline");
  let begins = true; // what nobody has paused yet
  do {
    await wait({
      url,
      alarm,
      hidden: () => document.hidden,
      onFound: (found) => store.set({ status: found === "unreachable" ? "reconnecting" : statusWithout() }),
    });
    const autoplay = begins || !store.get().paused;
    store.set({ status: "connecting", ended: false, paused: !autoplay });
    const since = now();
    const { reason } = await play({ autoplay, patience: patienceAfter(failures) });
    begins = reason === "ended";
    if (reason === "ended") {
      failures = 0;
      endedAt = now();
      store.set({ status: statusWithout(), levels: Object.freeze([]), ended: true, paused: true, ...AT_LIVE });
      await alarm.sleep(backoff(0, goesOn() ? beforeNext : afterEnd, random));
    } else if (reason === "switched") {
      if (store.get().following) store.set({ date: null }); // on to what is better now: nothing was missed
    } else if (reason === "undecodable") {
      store.set({ status: "undecodable", paused: !autoplay });
      await anotherStream({ store, alarm, now });
    } else {
      failures = now() - since > FORGET_AFTER ? 1 : failures + 1;
      // What has failed is the player; that there is no answer says who has asked for one in vain.
      const status = store.get().status === "reconnecting" ? "reconnecting" : "connecting";
      store.set({ status, rebuilds: store.get().rebuilds + 1 });
      await alarm.sleep(backoff(failures - 1, { first: 1000, most: 20000 }, random));
    }
  } while (again());
}

const unknown = () => null;
const forEver = () => true;
const performanceNow = () => performance.now();

/** Resolves when the server tells of another stream, or after ANOTHER ms: to try the same one again is in vain. */
async function anotherStream({ store, alarm, now }) {
  const isOver = ({ channel }) => channel === "ended" || channel === "offline";
  const end = now() + ANOTHER;
  let begun = false;
  const off = store.subscribe((state, before) => (begun ||= isOver(before) && !isOver(state)));
  while (!begun && now() < end) await alarm.sleep(end - now());
  off();
}

/** A player that could not even be made is one more failure to come back from. */
function broken(error) {
  console.error(error);
  return { reason: "failed", started: false };
}

/** How long a player may stand still before the next one is made: longer each time. */
export function patienceAfter(failures) {
  return Math.min(12000 * 1.5 ** failures, 60000);
}

/** Plays what the terms say; never rejects. */
export const playWith = (parts) => (terms) => runSession({ ...parts, ...terms }).catch(broken);
