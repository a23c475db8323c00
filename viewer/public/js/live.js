// The page's life: wait for a stream, play it, and begin again. It has no end.
import { backoff } from "./backoff.js";
import { waitForStream } from "./offline.js";
import { runSession } from "./session.js";

const STEADY = 30000; // ms of session after which earlier failures are forgotten

/** Follows `url` for ever. `alarm` ends a pause early; `again` is for tests. */
export async function follow({ url, store, alarm, play, wait = waitForStream, again = () => true, random }) {
  let failures = 0;
  let autoplay = true;
  do {
    await wait({
      url,
      alarm,
      hidden: () => document.hidden,
      tell: (found) => store.set({ status: found === "offline" ? "offline" : "reconnecting" }),
    });
    store.set({ status: "connecting" });
    const since = performance.now();
    const { reason, held } = await play({ autoplay, patience: patienceAfter(failures) }).catch(broken);
    if (reason === "ended") {
      failures = 0;
      autoplay = true;
      store.set({ status: "offline", levels: Object.freeze([]) });
      // Everybody's stream ends in the same second; they need not all ask in it.
      await alarm.sleep(Math.round(backoff(0, { first: 1000, most: 1000, spread: 0.9 }, random)));
    } else if (reason === "switched") {
      autoplay = !held; // on to what is better now
    } else {
      failures = performance.now() - since > STEADY ? 1 : failures + 1;
      autoplay = !held;
      store.set({ status: "reconnecting", rebuilds: store.get().rebuilds + 1 });
      await alarm.sleep(backoff(failures - 1, { first: 1000, most: 20000 }, random));
    }
  } while (again());
}

/** A player that could not even be made is one more failure to come back from. */
function broken(error) {
  console.error(error);
  return { reason: "failed", held: false };
}

/** How long a player may stand still before the next one is made: longer each time. */
export function patienceAfter(failures) {
  return Math.min(12000 * 1.5 ** failures, 60000);
}

export const playWith = (parts) => (terms) => runSession({ ...parts, ...terms });
