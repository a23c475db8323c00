import assert from "node:assert/strict";
import { test } from "node:test";
import { createCatchUp, isAtLive, isGone, isStarved } from "../public/js/catch-up.js";

const late = { following: true, paused: false, playing: true, fresh: true, latency: 8, target: 4, targetDuration: 2 };

/** What is decided at the end of so many seconds in which the buffer is `buffer(t)`. */
function after(seconds, buffer, more = {}) {
  const look = createCatchUp();
  let last = null;
  for (let t = 0; t <= seconds; t += 0.5) last = look({ ...late, now: 1000 * t, buffer: buffer(t), ...more });
  return last;
}

/** As segments bring it: two seconds more every two seconds. */
const steady = (most) => (t) => most - (t % 2);

test("live is within the latency that is aimed at, and nothing else", () => {
  const at = (latency, targetDuration = 2) => isAtLive({ latency, target: 4, targetDuration });
  assert.deepEqual([at(4.9), at(5.1), at(6.9, 6), at(7.1, 6), at(null)], [true, false, true, false, false]);
});

test("a viewer who is late is brought on gently, or at once where it is much", () => {
  assert.deepEqual(after(20, steady(6)), { rate: 1.05, jump: false });
  assert.deepEqual(after(20, steady(6), { latency: 4.05 }), { rate: 1, jump: false });
  assert.deepEqual(after(20, steady(6), { latency: 17 }), { rate: 1, jump: true });
});

test("whoever paused or chose a place is left there", () => {
  for (const latency of [8, 300]) {
    assert.deepEqual(after(20, steady(6), { latency, following: false }), { rate: 1, jump: false });
    assert.deepEqual(after(20, steady(6), { latency, paused: true }), { rate: 1, jump: false });
  }
});

test("nobody is thrown about while playlists do not come, or before anything is known", () => {
  assert.equal(after(20, steady(6), { latency: 60, fresh: false }).jump, false);
  assert.deepEqual(after(20, steady(6), { latency: null, target: null }), { rate: 1, jump: false });
});

test("a short buffer is not played faster", () => {
  assert.equal(after(20, () => 1.9).rate, 1);
  assert.equal(after(20, () => null).rate, 1);
  assert.equal(after(3, steady(6)).rate, 1, "nor one that nobody has watched for long enough");
});

test("a buffer that shrinks is not played faster; what catching up takes is no shrinking", () => {
  assert.equal(after(20, (t) => steady(20)(t) - 0.3 * t).rate, 1);
  assert.equal(after(20, (t) => steady(20)(t) - 0.05 * t).rate, 1.05);
});

test("what has just stalled is not played faster, though its buffer has grown", () => {
  const look = createCatchUp();
  const rates = [];
  for (let t = 0; t <= 40; t += 0.5) {
    const playing = t < 15 || t >= 18;
    const buffer = t < 15 ? steady(6)(t) : playing ? Math.max(2, 5 - (t - 18)) : t - 13;
    rates.push([t, look({ ...late, playing, buffer, now: 1000 * t }).rate]);
  }
  const fast = rates.filter(([, rate]) => rate > 1).map(([t]) => t);
  assert.ok(fast.some((t) => t < 15), "it was, before the stall");
  assert.deepEqual(fast.filter((t) => t >= 15 && t < 26), []);
});

test("what is paused is gone when its buffer ends before the window begins", () => {
  assert.equal(isGone({ position: 10, buffer: 8, start: 17 }), false);
  assert.equal(isGone({ position: 10, buffer: 8, start: 18.5 }), true);
  assert.equal(isGone({ position: 10, buffer: null, start: 10.5 }), true);
});

const starved = { live: true, lost: false, exhausted: true, advancedAt: 0, longest: 2 };

test("a segment is late when the longest one would have come, and missing where the playlist has a gap", () => {
  const at = (now, more = {}) => isStarved({ ...starved, now, ...more });
  assert.deepEqual([at(2200), at(2400), at(500, { lost: true })], [false, true, true]);
  assert.equal(at(60000, { exhausted: false }), false, "what is listed is on its way: that is the connection's");
  assert.equal(at(60000, { live: false }), false, "an end is no want");
  assert.equal(at(60000, { advancedAt: null }), false);
  assert.equal(isStarved({ live: true, now: 60000, advancedAt: 0 }), false, "a native player tells nothing of it");
});

test("while nothing new comes the picture plays slower the less video there is, and never slower than 0.4", () => {
  const rate = (buffer, more = {}) => createCatchUp()({ ...late, ...starved, now: 2400, buffer, ...more }).rate;
  assert.deepEqual([5, 3, 2.1, 1.5, 0.2, null].map((buffer) => rate(buffer)), [1, 1, 0.7, 0.5, 0.4, 0.4]);
  assert.equal(rate(1, { following: false }), 1);
  assert.equal(rate(1, { now: 1000 }), 1);
});
