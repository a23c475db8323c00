import assert from "node:assert/strict";
import { test } from "node:test";
import { costOf, createMeter, formatMoney, savedBy } from "../public/js/costs.js";
import { createLedger } from "../public/js/stats.js";
import { initialState } from "../public/js/state.js";

const costs = { storagePerGbMonth: 0.015, classAPerMillion: 4.5, classBPerMillion: 0.36, compareEgressPerGb: 0.09 };

test("an hour of a 2.4 Mbit/s stream, by R2's price list", () => {
  const figures = { seconds: 3600, writes: 1800, bytesPerSecond: 300_000, reads: 1800, bytes: 1.08e9 };
  const cost = costOf(figures, costs);
  assert.equal(cost.reads.toFixed(6), "0.000648"); // 1800 × 0.36 / 1,000,000
  assert.equal(cost.elsewhere.toFixed(4), "0.0972"); // 1.08 GB × 0.09
  assert.equal(cost.saved.toFixed(6), "0.096552");
  const writes = 0.0081; // 1800 × 4.5 / 1,000,000
  const storage = (1.08 / 2) * 0.015 * (3600 / (30 * 24 * 3600)); // the average byte was there for half an hour
  assert.equal(cost.once.toFixed(9), (writes + storage).toFixed(9));
  assert.equal(savedBy(1000, cost).toFixed(2), (96.552 - cost.once).toFixed(2));
});

test("before anything has come, nothing has been paid or saved", () => {
  const figures = createMeter().figures(initialState);
  assert.deepEqual(costOf(figures, costs), { once: 0, reads: 0, elsewhere: 0, saved: 0 });
});

/** A stage as state.js has it; fetched after `at` seconds, or not yet. */
const stage = (sequence, at) => ({ variant: "0", sequence, fetched: at === null ? null : 1000 * at });

function meterOver(states) {
  const meter = createMeter();
  let before = initialState;
  for (const patch of states) {
    const state = { ...before, ...patch };
    meter.note(state, before);
    before = state;
  }
  return meter.figures(before);
}

test("each segment counts once, as written for every variant and as read from the bucket by its share", () => {
  const levels = [{ bitrate: 1_600_000 }, { bitrate: 800_000 }];
  const figures = meterOver([
    { levels, stages: [stage(7, 10)], bytes: { bucket: 600, peers: 0, uploaded: 0 } },
    { stages: [stage(7, 10), stage(8, null)] },
    { stages: [stage(7, 10), stage(8, 12), stage(10, 16)], bytes: { bucket: 600, peers: 1200, uploaded: 0 } },
  ]);
  assert.equal(figures.writes, 2 * 4); // 7, 8, 10, and 9 that was not played here
  assert.equal(figures.reads, 1); // a third of three
  assert.equal(figures.bytes, 1800);
  assert.equal(figures.bytesPerSecond, 300_000);
  assert.equal(figures.seconds, 6);
});

test("the bytes of the bucket are the same in each place, and what comes from the streamer's own server is not among them", () => {
  let state = initialState;
  const ledger = createLedger({ get: () => state, set: (patch) => (state = { ...state, ...patch }) });
  ledger.add("bucket", 820_000, "media.example");
  ledger.add("peers", 5000);
  ledger.flush();
  assert.equal(state.bytes.bucket, state.bytesByHost["media.example"]);
  ledger.add(null, 900_000, "owncast.example");
  ledger.flush();
  assert.equal(state.bytes.bucket, 820_000);
  assert.equal(state.bytesByHost["owncast.example"], 900_000);
  assert.equal(createMeter().figures(state).bytes, state.bytes.bucket + state.bytes.peers); // also where it began late
});

test("money is shown with two digits that say something", () => {
  const cases = [
    [0, "$0.00"], [1e-9, "$0.00"], [0.0000123, "$0.000012"], [0.00648, "$0.0065"], [0.0972, "$0.097"],
    [0.5, "$0.50"], [96.552, "$96.55"], [-0.0123, "-$0.012"],
  ];
  for (const [dollars, text] of cases) assert.equal(formatMoney(dollars, "en"), text);
  assert.equal(formatMoney(0.0972, "de"), "0,097\u00a0$");
});
