// The phase that the page shows: the true one, and each for a second at least, but for those on the way to the first.
import { phaseOf } from "./player-phase.js";

const LEAST = 1000; // ms for which a phase is shown
const TRANSIENT = new Set(["connecting", "starting", "loading"]); // on the way to another one, which is not held up

/** Keeps `phase` of the store. What lasts less than a second is not shown, or as long as what comes next is held back. */
export function showPhase({ store, now = () => performance.now(), later = setTimeout, soon = queueMicrotask }) {
  let since = now();
  let due = false; // a look is on its way

  function look() {
    due = false;
    const { phase: shown } = store.get();
    const phase = phaseOf(store.get());
    if (phase === shown) return;
    const left = since + LEAST - now();
    if (left > 0 && !TRANSIENT.has(shown)) return again(left);
    since = now();
    store.set({ phase });
  }
  function again(left) {
    if (due) return;
    due = true;
    later(look, left);
  }
  let queued = false;
  store.subscribe(() => {
    if (queued || due) return;
    queued = true;
    // Not from inside a change: other listeners have yet to hear of that.
    soon(() => {
      queued = false;
      if (!due) look();
    });
  });
}
