import assert from "node:assert/strict";
import { test } from "node:test";
import { createControls } from "../public/js/controls.js";
import { follow, patienceAfter } from "../public/js/live.js";
import { matchLevel } from "../public/js/quality.js";
import { createRecovery } from "../public/js/recover.js";
import { statusAfter } from "../public/js/session.js";
import { createSeeking } from "../public/js/seeking.js";
import { createStore } from "../public/js/state.js";
import { createWatch } from "../public/js/watch.js";

/** Ticks of half a second; `change(t)` says what is different from a healthy player at second t. */
function run(seconds, change, patience) {
  const look = createWatch(patience);
  const verdicts = [];
  for (let t = 0; t <= seconds; t += 0.5) {
    const healthy = { currentTime: t, paused: false, hidden: false, failing: false, live: true, advancedAt: t * 1000, heardAt: t * 1000, targetDuration: 2 };
    verdicts.push(look({ now: t * 1000, ...healthy, ...change(t) }));
  }
  return verdicts;
}

test("a healthy player plays", () => {
  assert.deepEqual(new Set(run(20, () => ({})).slice(1)), new Set(["playing"]));
});

test("a picture that stands still while the stream goes on is buffering, then stuck", () => {
  const verdicts = run(20, () => ({ currentTime: 5 }), 12000);
  assert.equal(verdicts[1], "hiccup");
  assert.equal(verdicts[10], "buffering");
  assert.equal(verdicts[24], "stuck");
});

test("a playlist that stopped growing is a pause, however long, and patience begins anew after it", () => {
  const verdicts = run(320, (t) => ({ currentTime: 5, advancedAt: t < 300 ? 0 : t * 1000 }), 12000);
  assert.equal(verdicts[20], "waiting");
  assert.equal(verdicts[590], "waiting");
  assert.equal(verdicts[604], "buffering");
  assert.equal(verdicts.indexOf("stuck"), 2 * 310);
});

test("when all that is listed has been played, something new is waited for, and no connection is slow", () => {
  const verdicts = run(20, () => ({ currentTime: 5, exhausted: true }), 12000);
  assert.deepEqual(new Set(verdicts.slice(4)), new Set(["waiting"]));
});

test("missing playlists are the viewer's connection, not the stream's pause, and in the end call for a new look", () => {
  const verdicts = run(20, () => ({ currentTime: 5, advancedAt: 0, failing: true }), 12000);
  assert.equal(verdicts[20], "reconnecting");
  assert.equal(verdicts[24], "stuck");
});

test("a service that does not answer at all is no pause of the stream", () => {
  const verdicts = run(40, () => ({ currentTime: 5, advancedAt: 0, heardAt: 0 }), 12000);
  assert.equal(verdicts[48], "waiting", "a request for events is held for 20 s");
  assert.equal(verdicts[52], "reconnecting");
  assert.ok(verdicts.includes("stuck"));
  const slow = run(40, () => ({ currentTime: 5, advancedAt: 0, heardAt: 0, targetDuration: 8 }), 12000);
  assert.equal(slow[52], "waiting", "a request for the next playlist may be held for three target durations");
});

test("a finished stream that stands still has been played out", () => {
  assert.equal(run(10, (t) => ({ live: false, currentTime: Math.min(t, 3) })).includes("finished"), true);
  assert.equal(run(10, () => ({ live: false })).includes("finished"), false);
});

test("a pause by the viewer and a hidden tab are left alone", () => {
  assert.deepEqual(new Set(run(60, () => ({ currentTime: 5, paused: true }))), new Set(["idle"]));
  assert.deepEqual(new Set(run(60, () => ({ currentTime: 5, hidden: true }))), new Set(["idle"]));
});

test("one late tick is not a long stall", () => {
  const look = createWatch(12000);
  const sample = { currentTime: 5, paused: false, hidden: false, failing: false, live: true, advancedAt: 60000, heardAt: 60000, targetDuration: 2 };
  look({ ...sample, now: 0 });
  assert.equal(look({ ...sample, now: 60000 }), "hiccup");
});

test("verdicts become what the viewer is told", () => {
  assert.equal(statusAfter("buffering", "connecting", false), "connecting");
  assert.equal(statusAfter("buffering", "live", true), "buffering");
  assert.equal(statusAfter("hiccup", "live", true), null);
  assert.equal(statusAfter("stuck", "reconnecting", true), null, "what was said before is as true");
  assert.equal(statusAfter("waiting", "blocked", false), null);
  assert.equal(statusAfter("playing", "blocked", false), "live");
});

test("network errors are retried with growing pauses, then the player is made anew", () => {
  const next = createRecovery(() => 0.5);
  const error = { type: "networkError", details: "levelLoadError", status: 0 };
  const steps = [1, 2, 3, 4, 5].map((second) => next(error, second * 1000));
  assert.deepEqual(steps.map(({ step }) => step), ["load", "load", "load", "load", "rebuild"]);
  assert.deepEqual(steps.map(({ delay }) => delay), [1000, 2000, 4000, 8000, 0]);
  assert.equal(next(error, 200000).step, "load");
});

test("a playlist that is gone needs a new look, a lost segment a new player", () => {
  const next = createRecovery(() => 0.5);
  assert.equal(next({ type: "networkError", details: "levelLoadError", status: 404 }, 0).step, "rebuild");
  assert.equal(next({ type: "networkError", details: "manifestLoadError", status: 0 }, 0).step, "rebuild");
  const lost = createRecovery(() => 0.5);
  const steps = [1, 2, 3].map((n) => lost({ type: "networkError", details: "fragLoadError", status: 404 }, n).step);
  assert.deepEqual(steps, ["load", "load", "rebuild"]);
});

test("media errors reset the decoder twice, then the player is made anew", () => {
  const next = createRecovery(() => 0.5);
  const error = { type: "mediaError", details: "bufferAppendError" };
  assert.deepEqual([0, 1, 2].map((n) => next(error, n).step), ["media", "media", "rebuild"]);
  assert.equal(next({ type: "muxError", details: "x" }, 0).step, "rebuild");
});

test("the chosen quality is found again in the next stream", () => {
  const levels = [{ height: 360, bitrate: 8 }, { height: 720, bitrate: 24 }];
  assert.equal(matchLevel(levels, "auto"), -1);
  assert.equal(matchLevel(levels, "720-24"), 1);
  assert.equal(matchLevel(levels, "720-25"), 1);
  assert.equal(matchLevel(levels, "1080-60"), -1);
  assert.equal(matchLevel(levels, "0-60"), -1);
});

test("after an end and after a failure the page waits and plays again, each failure more patient", async () => {
  const store = createStore();
  const outcomes = ["failed", "failed", "ended", "ended"].map((reason) => ({ reason }));
  const seen = [];
  const pauses = [];
  await follow({
    url: "https://live.example/p.m3u8",
    store,
    alarm: { sleep: async (ms) => pauses.push(ms) },
    random: () => 0.5,
    goesOn: () => false,
    wait: async () => seen.push("wait"),
    play: async ({ patience }) => {
      seen.push(patience);
      return outcomes.shift();
    },
    again: () => outcomes.length > 0,
  });
  assert.deepEqual(seen, ["wait", 12000, "wait", 18000, "wait", 27000, "wait", 12000]);
  assert.deepEqual(pauses, [1000, 2000, 1000, 1000]);
  assert.equal(store.get().rebuilds, 2);
  assert.equal(store.get().status, "offline");
  assert.equal(patienceAfter(1000), 60000);
});

test("a stream without a decoder is left alone until there may be another one", async () => {
  const store = createStore();
  const seen = [];
  const channels = ["live", "ended", "starting"]; // one for each time that the alarm wakes; then nothing but time
  let time = 0;
  let rounds = 2;
  await follow({
    url: "https://live.example/p.m3u8",
    store,
    alarm: {
      async sleep(ms) {
        seen.push([store.get().status, ms]);
        time += channels.length > 0 ? 1000 : ms;
        if (channels.length > 0) store.set({ channel: channels.shift() });
      },
    },
    now: () => time,
    wait: async () => seen.push("wait"),
    play: async () => ({ reason: "undecodable", started: false }),
    again: () => (rounds -= 1) > 0,
  });
  const slept = (...pauses) => pauses.map((ms) => ["undecodable", ms]);
  assert.deepEqual(seen, ["wait", ...slept(300000, 299000, 298000), "wait", ...slept(300000)]);
  assert.deepEqual([store.get().rebuilds, store.get().paused], [0, false]);
});

test("a viewer's own pause outlives players, also one that falls between two of them, but not the stream", async () => {
  const store = createStore();
  const video = Object.assign(new EventTarget(), { paused: true, pause() {}, play: async () => (video.paused = false) });
  const document = new EventTarget();
  const play = () => store.set({ paused: false });
  const { pause } = createControls({ document, video, root: null, store, play });
  const { togglePlay } = createSeeking({ video, store, playback: {}, play, pause });
  // What the viewer does after each player, when there is no video to play or pause.
  const rounds = [["failed", () => {}], ["failed", togglePlay], ["switched", () => {}], ["failed", togglePlay], ["failed", pause], ["ended", () => {}], ["ended", () => {}]];
  const autoplays = [];
  await follow({
    url: "https://live.example/p.m3u8",
    store,
    alarm: { sleep: async () => {} },
    wait: async () => autoplays.length > 0 && rounds.shift()[1](),
    play: async ({ autoplay }) => {
      autoplays.push(autoplay);
      return { reason: rounds[0][0] };
    },
    again: () => rounds.length > 1,
  });
  assert.deepEqual(autoplays, [true, true, false, false, true, false, true]);
});
