// A connection that carries less than the lowest quality: when to wait, what not to risk, and what is said.
import assert from "node:assert/strict";
import { test } from "node:test";
import { createCatchUp } from "../public/js/catch-up.js";
import { createLink } from "../public/js/link.js";
import { createRebufferPolicy } from "../public/js/rebuffer-policy.js";
import { createWatch } from "../public/js/watch.js";

/** Segments of two seconds that come at `rate` times the pace of the stream; how often and how long it stood still. */
function watching({ rate, seconds, policy = null, room = 60 }) {
  let [buffer, stalls, still, next] = [4, 0, 0, 0];
  let playing = true;
  for (let t = 0; t < seconds; t += 0.5) {
    if (t >= next) {
      if (t > 0) buffer += 2;
      next = t + 2 / rate;
    }
    const holds = policy?.holds({ paused: false, fresh: true, buffer, targetDuration: 2, ahead: 30, room }) ?? false;
    if (!holds && buffer > 0) {
      buffer -= 0.5;
      playing = true;
      continue;
    }
    still += 0.5;
    if (playing) {
      stalls += 1;
      policy?.stall(1000 * t);
    }
    playing = false;
  }
  return { stalls, still };
}

test("with a rebuffer policy the picture stands still at most half as often, and hardly longer", () => {
  const without = watching({ rate: 0.8, seconds: 180 });
  const kept = watching({ rate: 0.8, seconds: 180, policy: createRebufferPolicy() });
  assert.ok(kept.stalls <= without.stalls / 2, `${kept.stalls} stalls and ${without.stalls}`);
  assert.ok(kept.still <= without.still + 10, `${kept.still} s and ${without.still} s`);
});

test("one stall alone costs a segment of waiting; what grows is forgotten after a minute", () => {
  const policy = createRebufferPolicy();
  const sample = { paused: false, fresh: true, targetDuration: 2, ahead: 30, room: 60 };
  const enough = (now) => {
    policy.stall(now);
    return [1, 2, 4, 8, 12].find((buffer) => !policy.holds({ ...sample, buffer }));
  };
  assert.deepEqual([0, 10000, 20000, 30000].map(enough), [2, 4, 8, 8]);
  assert.equal(policy.isUneven(30000), true);
  assert.equal(policy.isUneven(120000), false);
  assert.equal(enough(120000), 2);
});

test("nobody waits for more than there can be, nor for what does not come", () => {
  const held = (patch) => {
    const policy = createRebufferPolicy();
    for (const now of [0, 1000, 2000, 3000]) policy.stall(now);
    return policy.holds({ paused: false, fresh: true, buffer: 5, targetDuration: 2, ahead: 30, room: 60, ...patch });
  };
  assert.equal(held({}), true);
  assert.equal(held({ ahead: 4 }), false, "the player fetches no more");
  assert.equal(held({ room: 16 }), false, "the window leaves no time");
  assert.equal(held({ fresh: false }), false, "the encoder is silent");
  assert.equal(held({ paused: true }), false, "the viewer paused");
});

test("nobody waits where what follows is missing from the stream, and that was no stall of the connection", () => {
  const policy = createRebufferPolicy();
  const sample = { paused: false, fresh: true, targetDuration: 2, ahead: 30, room: 60, buffer: 0 };
  policy.stall(0);
  assert.equal(policy.holds(sample), true);
  assert.equal(policy.holds({ ...sample, lost: true }), false);
  assert.equal(policy.holds(sample), false, "it has been skipped");
  policy.stall(1000);
  assert.equal(policy.isUneven(1000), false);
});

test("a slow link is one that takes longer for segments of the lowest quality than they play, twice in a row", () => {
  const link = createLink();
  const after = (took, lowest = true) => {
    link.note({ took, duration: 2, lowest });
    return link.isSlow();
  };
  assert.deepEqual([after(2.4), after(1.9), after(2.4), after(2.4, false), after(2.4)], [false, false, false, false, false]);
  assert.deepEqual([after(2.4), after(1.9), after(2.4), after(1.9), after(1.9)], [true, true, true, true, false]);
});

test("on a slow link nothing is played faster, and only what leaves the window is left out", () => {
  const sample = { following: true, paused: false, playing: true, fresh: true, target: 4, targetDuration: 2, room: 40 };
  const after = (more) => {
    const look = createCatchUp();
    let last = null;
    for (let now = 0; now <= 20000; now += 500) last = look({ ...sample, now, buffer: 6, ...more });
    return last;
  };
  assert.deepEqual(after({ slow: false, latency: 8 }), { rate: 1.05, jump: false });
  assert.deepEqual(after({ slow: true, latency: 8 }), { rate: 1, jump: false });
  assert.equal(after({ slow: false, latency: 18 }).jump, true);
  assert.equal(after({ slow: true, latency: 45 }).jump, false);
  assert.equal(after({ slow: true, latency: 47 }).jump, true);
});

test("a player that waits while video comes is of use, however slowly it comes", () => {
  const look = createWatch(12000);
  const sample = { currentTime: 5, paused: false, hidden: false, failing: false, live: true, targetDuration: 2 };
  const verdicts = [];
  for (let t = 0; t <= 60; t += 0.5) {
    const filled = 5 + Math.floor(Math.min(t, 40) / 8);
    verdicts.push(look({ ...sample, filled, now: 1000 * t, advancedAt: 1000 * t, heardAt: 1000 * t }));
  }
  assert.equal(verdicts.indexOf("stuck") / 2, 50.5, "twelve seconds after the last of it, the hiccup included");
});
