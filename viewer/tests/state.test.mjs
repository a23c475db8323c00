import assert from "node:assert/strict";
import { test } from "node:test";
import { createStore } from "../public/js/state.js";
import { createLedger, formatBytes, formatLevel } from "../public/js/stats.js";

test("each state is frozen and an old one never changes", () => {
  const store = createStore({ status: "offline", stalls: 0 });
  const before = store.get();
  store.set({ stalls: 1 });
  assert.deepEqual(before, { status: "offline", stalls: 0 });
  assert.ok(Object.isFrozen(store.get()));
  assert.throws(() => Object.assign(store.get(), { stalls: 9 }), TypeError);
});

test("a subscriber hears the present state, then changes only, and can leave", () => {
  const store = createStore({ status: "offline" });
  const heard = [];
  const leave = store.subscribe((state, before) => heard.push([state.status, before.status]));
  store.set({ status: "offline" });
  store.set({ status: "live" });
  leave();
  store.set({ status: "waiting" });
  assert.deepEqual(heard, [["offline", "offline"], ["live", "offline"]]);
});

test("bytes add up by source and by the host they came from, and are shown when asked to", () => {
  const store = createStore();
  const ledger = createLedger(store);
  ledger.add("bucket", 1000, "a.example");
  ledger.add("bucket", 5, "b.example");
  ledger.add("bucket", 500, "a.example");
  ledger.add("peers", 70);
  ledger.add("uploaded", 8);
  ledger.add(null, 9, "owncast.example");
  ledger.add("bucket", null, "c.example");
  assert.deepEqual(store.get().bytesByHost, {});
  ledger.flush();
  assert.deepEqual(store.get().bytesByHost, { "a.example": 1500, "b.example": 5, "owncast.example": 9 });
  assert.deepEqual(store.get().bytes, { bucket: 1505, peers: 70, uploaded: 8 });
  assert.ok(Object.isFrozen(store.get().bytesByHost));
  const { bytes } = store.get();
  ledger.flush();
  assert.equal(store.get().bytes, bytes);
});

test("figures are shown as far as they are known", () => {
  assert.equal(formatLevel(null), "–");
  assert.equal(formatLevel({ height: 720, bitrate: 0 }), "720p");
  assert.equal(formatLevel({ height: 0, bitrate: 900000 }, "en"), "900 kbit/s");
  assert.equal(formatLevel({ height: 720, bitrate: 2400000 }, "en"), "720p · 2.4 Mbit/s");
  assert.deepEqual(["en", "fr"].map((locale) => formatBytes(1500000, locale)), ["1.5 MB", "1,5\u202fMo"]);
});
