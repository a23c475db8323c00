import assert from "node:assert/strict";
import { test } from "node:test";
import { createHistory } from "../public/js/history.js";
import { layOut, roundUp } from "../public/js/segment-stages.js";
import { initialState } from "../public/js/state.js";

const way = { variant: "0", sequence: 5, noticed: 1000, uploaded: 1060, told: 1070, fetched: 1200, played: 5200 };

test("the stages of a segment follow each other on one scale, its wait has another", () => {
  const { rows, most, longest } = layOut([way]);
  assert.deepEqual([most, longest], [200, 4000]);
  assert.deepEqual(rows, [
    {
      label: "5",
      total: 200,
      isCut: false,
      parts: [
        { name: "upload", ms: 60, left: 0, width: 30 },
        { name: "tell", ms: 10, left: 30, width: 5 },
        { name: "fetch", ms: 130, left: 35, width: 65 },
      ],
      wait: { ms: 4000, width: 100, isCut: false },
    },
  ]);
});

test("the newest eight are shown, the newest first", () => {
  const stages = Array.from({ length: 12 }, (_, sequence) => ({ ...way, sequence }));
  assert.deepEqual(layOut(stages).rows.map(({ label }) => label), ["11", "10", "9", "8", "7", "6", "5", "4"]);
});

test("times that are not known leave a gap, clocks that disagree make no negative bar", () => {
  const fromElsewhere = { ...way, noticed: null, uploaded: null, told: null };
  const early = { ...way, told: 1050, played: null };
  const { rows } = layOut([fromElsewhere, early]);
  assert.deepEqual(rows[0].parts.map(({ ms }) => ms), [60, 0, 150]);
  assert.equal(rows[0].wait, null);
  assert.deepEqual([rows[1].parts, rows[1].total, rows[1].wait.ms], [[], null, 4000]);
});

test("one slow segment does not make the others invisible", () => {
  const slow = { ...way, sequence: 6, fetched: way.told + 3000, played: null };
  const { rows, most } = layOut([way, way, slow]);
  assert.equal(most, 600); // three times the usual 200 ms
  assert.equal(rows[0].total, 3070);
  assert.equal(rows[0].parts.at(-1).left + rows[0].parts.at(-1).width, 100);
  assert.deepEqual(rows.map(({ isCut }) => isCut), [true, false, false]);
});

test("no bar begins beyond the scale, and one that is cut off says so", () => {
  const stuck = { ...way, sequence: 6, uploaded: way.noticed + 5000, told: way.noticed + 5010, fetched: way.noticed + 5100, played: way.noticed + 60_000 };
  const { rows } = layOut([way, way, stuck]);
  assert.deepEqual(rows[0].parts.map(({ name, left, width }) => [name, left, width]), [["upload", 0, 100]]);
  assert.deepEqual([rows[0].total, rows[0].isCut, rows[0].wait.isCut, rows[1].wait.isCut], [5100, true, true, false]);
});

test("without a segment there is a scale all the same", () => {
  assert.deepEqual(layOut([]), { rows: [], most: 1, longest: 1000 });
});

test("scales end at a round number that is not below the value", () => {
  const cases = [[1, 1], [1.1, 2], [212, 300], [650, 800], [999, 1000], [1000, 1000], [4321, 5000]];
  for (const [value, end] of cases) assert.equal(roundUp(value), end);
});

test("bytes become a mean rate by source", () => {
  const history = createHistory();
  let bucket = 0;
  for (let second = 0; second <= 40; second += 1) {
    if (second % 2 === 0) bucket += 500_000; // a segment every two seconds: 2 Mbit/s
    history.add(1000 * second, { ...initialState, bytes: { bucket, peers: second * 125_000, uploaded: 0 }, latency: 4.5 });
  }
  const columns = history.columns();
  assert.equal(columns.at.length, 41);
  assert.deepEqual([columns.at[0], columns.at.at(-1)], [-40, 0]);
  assert.ok(columns.bucket.slice(13).every((rate) => rate === 2000), String(columns.bucket));
  assert.ok(columns.peers.slice(1).every((rate) => rate === 1000), String(columns.peers));
  assert.deepEqual([columns.bucket[0], columns.latency[7], columns.buffer[7]], [0, 4.5, null]);
});

test("two minutes are kept, and each sample is told", () => {
  const history = createHistory();
  let told = 0;
  history.onSample(() => (told += 1));
  for (let second = 0; second < 300; second += 1) history.add(1000 * second, initialState);
  assert.equal(told, 300);
  assert.deepEqual([history.columns().at.length, history.columns().at[0]], [121, -120]);
});
