// What is shown of the state: each phase for a second at least.
import assert from "node:assert/strict";
import { test } from "node:test";
import { showPhase } from "../public/js/phase.js";
import { createStore } from "../public/js/state.js";

const LIVE = { status: "live", paused: false, channel: "live" };

/** What was shown, and since when in seconds, of `changes` by ms. */
function shown(changes) {
  const store = createStore();
  const seen = [];
  const due = [];
  let now = 0;
  store.subscribe(({ phase }, before) => (seen.length === 0 || phase !== before.phase) && seen.push([now / 1000, phase]));
  showPhase({ store, now: () => now, later: (look, ms) => due.push([now + ms, look]), soon: (look) => look() });
  for (; now <= 10000; now += 100) {
    if (changes[now]) store.set(changes[now]);
    if (due.length > 0 && due[0][0] <= now) due.shift()[1]();
  }
  return seen;
}

test("a phase is shown at once, and for a second", () => {
  assert.deepEqual(shown({ 2000: LIVE }), [[0, "connecting"], [2, "live"]]);
  assert.deepEqual(
    shown({ 300: LIVE, 5000: { status: "buffering" }, 5300: { status: "live" } }),
    [[0, "connecting"], [0.3, "live"], [5, "buffering"], [6, "live"]],
  );
});

test("what came and went meanwhile is not shown", () => {
  const flapping = { 3000: { behind: true }, 3300: { behind: false }, 3600: { behind: true }, 3800: { behind: false } };
  assert.deepEqual(shown({ 2000: LIVE, ...flapping }), [[0, "connecting"], [2, "live"], [3, "behind"], [4, "live"]]);
  assert.deepEqual(shown({ 2000: LIVE, 2300: { status: "waiting" }, 2700: { status: "live" } }), [[0, "connecting"], [2, "live"]]);
});
