import assert from "node:assert/strict";
import { test } from "node:test";
import { createChoices } from "../public/js/choices.js";

function storage(text = null) {
  let kept = text;
  return { getItem: () => kept, setItem: (_, value) => (kept = value) };
}

test("choices add up and are there at the next visit", () => {
  const device = storage();
  createChoices(() => device).keep({ volume: 0.5 });
  createChoices(() => device).keep({ shortcuts: false, mode: "sharing", bandwidth: 3e6 });
  createChoices(() => device).keep({ quality: "360-900000", caption: "1", audioTrack: "de Deutsch", speed: 1.5 });
  const chosen = { volume: 0.5, mode: "sharing", bandwidth: 3e6, quality: "360-900000", caption: "1", audioTrack: "de Deutsch", shortcuts: false, speed: 1.5 };
  assert.deepEqual(createChoices(() => device).load(), chosen);
});

test("who did not want to share by an earlier page's switch does not, until they choose again", () => {
  const device = storage(JSON.stringify({ mode: "sharing", p2p: false }));
  assert.deepEqual(createChoices(() => device).load(), { mode: "low-delay" });
  createChoices(() => device).keep({ mode: "sharing" });
  assert.deepEqual(createChoices(() => device).load(), { mode: "sharing" });
});

test("what makes no sense is not taken", () => {
  const device = storage(JSON.stringify({ volume: 7, mode: "fast", bandwidth: -1, p2p: "yes", quality: "best", caption: {}, audioTrack: 1, speed: 3, shortcuts: true, other: 1 }));
  assert.deepEqual(createChoices(() => device).load(), { shortcuts: true });
  for (const text of ["{", "7", "null", "[]"]) assert.deepEqual(createChoices(() => storage(text)).load(), {});
});

test("a browser that keeps nothing is no failure", () => {
  const choices = createChoices(() => {
    throw new Error("SecurityError");
  });
  choices.keep({ volume: 1 });
  assert.deepEqual(choices.load(), {});
});
