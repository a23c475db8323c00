// One player from its start to its end, beside an element whose time the test moves.
import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import { playWith } from "../public/js/live.js";
import { createStore } from "../public/js/state.js";

const TICK = 500; // ms
const LIVE = 300; // seconds, where a player begins

beforeEach(() => {
  mock.timers.enable({ apis: ["setInterval"] });
  globalThis.document = { hidden: false };
});
afterEach(() => mock.timers.reset());

/** A session whose player goes where it is sent and is shown nothing there unless `arrives`. */
function session(initial = {}) {
  const store = createStore();
  store.set(initial);
  const video = { currentTime: LIVE, paused: true, ended: false, seeking: false, readyState: 4 };
  Object.assign(video, {
    buffered: { length: 1, start: () => 0, end: () => LIVE + 100 },
    play: async () => (video.paused = false),
    load() {},
    removeAttribute() {},
  });
  const facts = { start: 0, sync: LIVE, anchors: [{ at: 0, date: 0 }], live: true, latency: 4, targetDuration: 2, advancedAt: null, heardAt: 0, left: 100 };
  const seek = (position) => Object.assign(video, { currentTime: position, seeking: true });
  const heard = {};
  const makePlayer = ({ on }) => Object.assign(heard, on) && { facts: () => facts, seek, goLive() {}, destroy() {} };
  const play = playWith({ video, url: "/live", store, ledger: { flush() {} }, playback: { use() {} }, makePlayer });
  const done = play({ autoplay: true });
  /** Half a second, in which the picture moves on or not. */
  const tick = (moves) => {
    video.currentTime += moves ? 0.5 : 0;
    mock.timers.tick(TICK);
  };
  return { store, video, facts, done, tick, over: (reason) => heard.over(reason) };
}

test("a player that plays has begun", async () => {
  const { done, tick, over } = session();
  tick(false);
  tick(true);
  over("failed");
  assert.deepEqual(await done, { reason: "failed", started: true });
});

test("to be sent to a place is not to play there", async () => {
  const { video, done, tick, over } = session({ following: false, date: 100_000 });
  tick(false);
  assert.equal(video.currentTime, 100);
  for (let ticks = 0; ticks < 4; ticks += 1) tick(false);
  over("failed");
  assert.deepEqual(await done, { reason: "failed", started: false });
});

test("a connection is slow only for what is still to come", async () => {
  const { store, facts, done, tick, over } = session();
  const after = (found) => (Object.assign(facts, found), tick(true), store.get().slow);
  assert.deepEqual([after({ slow: true, exhausted: false }), after({ exhausted: true }), after({ exhausted: false })], [true, false, true]);
  over("failed");
  await done;
});

test("what was shown on the way to a place is not the place", async () => {
  const { video, done, tick, over } = session({ following: false, date: 100_000 });
  Object.assign(video, { readyState: 0 });
  tick(true);
  tick(true);
  Object.assign(video, { readyState: 4 });
  tick(true);
  tick(false);
  over("failed");
  assert.deepEqual(await done, { reason: "failed", started: false });
});

test("a pause holds that comes before there is anything to pause", async () => {
  const { store, video, done, over } = session();
  video.paused = true;
  over("failed");
  await done;
  assert.equal(store.get().paused, true);
});

test("a player that cannot be made has failed", async () => {
  const play = playWith({ store: createStore(), makePlayer: () => assert.fail("no decoder") });
  const { error } = console;
  console.error = () => {};
  assert.deepEqual(await play({ autoplay: true }), { reason: "failed", started: false });
  console.error = error;
});
