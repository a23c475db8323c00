// Held events: a request for what comes after a serial waits until there is something. All pages wait for the same one, so
// that a cache makes one request of all. Whatever comes back, the page asks in no loop.
import { noteRefusal } from "./access.js";
import { NOW, eventsAfter } from "./addresses.js";
import { backoff } from "./backoff.js";
import { parse } from "./events.js";
import { fetchAhead } from "./head-start.js";

const PATIENCE = 27000; // ms for an answer: the server holds a request for 20 s
const BURST = 3; // answers that may come at once: the state, and what has come meanwhile
const SURE = 2; // answers in a row after which failures are forgotten
const MOST = 3; // requests in a minute after which a failure waits for the next; one more for who is woken
const MINUTE = 60000;
const SOON = 2000; // ms over which pages that are woken together ask again
const pace = { first: 2000, factor: 3, most: 60000, spread: 0.2 };

/**
 * Asks until `stop()`, at most about each `every` ms. `take(answer)` gets each answer, `lost()` hears of each failure,
 * after which everything is asked for anew. `wake()`: things may be better now, or the machine has slept.
 */
export function hold({ url, every, take, lost, get = fetchAhead, random = Math.random, now = () => performance.now(), time = Date.now }) {
  let serial = NOW;
  let failures = 0;
  let streak = 0; // answers in a row
  let left = BURST; // answers that may be quicker than usual
  let counted = now(); // when that was so
  let asked = null; // by the clock, which goes on while the machine sleeps; null: a pause
  let off = null; // aborts the request that is out
  let stopped = false;
  let timer = 0;
  let due = 0; // when the pause ends
  let end = () => {};
  const vain = []; // when those were asked that failed, or that had to show that all is well, the latest first

  async function ask() {
    off = new AbortController();
    const patience = setTimeout(() => off.abort(), PATIENCE);
    asked = time();
    try {
      const answer = await get(eventsAfter(serial, url), { cache: "no-store", signal: off.signal });
      noteRefusal(answer.status);
      const told = answer.status === 200 ? parse(await answer.text(), url) : null;
      if (told?.now && answer.first) told.now += now() - answer.first; // it has lain here
      return Number.isSafeInteger(told?.serial) && (serial === NOW || told.serial > serial) ? told : null;
    } catch {
      return null;
    } finally {
      off.abort(); // what is left of a refusal
      clearTimeout(patience);
      asked = null;
    }
  }

  /** Milliseconds until there were fewer than `most` of them in a minute. */
  const room = (most) => (vain.length < most ? 0 : vain[most - 1] + MINUTE - now());

  function pauseAfter(answer, since) {
    streak = answer === null ? 0 : streak + 1;
    if (streak >= SURE) failures = 0;
    if (answer === null) failures += 1;
    if (failures > 0) {
      vain.unshift(since);
      vain.length = Math.min(vain.length, MOST + 1);
    }
    if (answer === null) return Math.max(backoff(failures - 1, pace, random), room(MOST));
    left = Math.min(BURST, left + (now() - counted) / every) - 1;
    counted = now();
    return left >= 0 ? 0 : backoff(0, { ...pace, first: -left * every }, random);
  }

  function sleep(ms) {
    clearTimeout(timer);
    due = now() + ms;
    timer = setTimeout(() => end(), ms);
  }

  /** What the page makes of an answer must not end this. */
  function hand(answer) {
    try {
      take(answer);
    } catch (error) {
      console.error(error);
    }
  }

  async function run() {
    while (!stopped) {
      const since = now();
      const answer = await ask();
      if (stopped) return;
      const pause = pauseAfter(answer, since);
      serial = answer?.serial ?? NOW;
      if (answer === null) lost();
      else hand(answer);
      if (pause > 0 && !stopped) {
        await new Promise((resolve) => {
          end = resolve;
          sleep(pause);
        });
      }
    }
  }
  run();

  return Object.freeze({
    wake() {
      if (asked !== null) return void (time() - asked > PATIENCE && off.abort());
      if (failures === 0) return;
      const ms = Math.max(SOON * random(), room(MOST + 1));
      if (now() + ms < due) sleep(ms);
    },
    stop() {
      stopped = true;
      off.abort();
      clearTimeout(timer);
      end();
    },
  });
}
