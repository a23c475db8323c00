import assert from "node:assert/strict";
import { test } from "node:test";
import { formatClock } from "../public/js/intl.js";
import { anchorsOf, chaptersOf, clampTo, dateAt, formatSpan, positionAt, saySpan, timelineOf } from "../public/js/timeline.js";

const NOON = Date.UTC(2026, 5, 1, 12);

/** Ten seconds of media at noon; after a pause of 55 s of the encoder, ten more. */
const segments = [0, 2, 4, 6, 8, 10, 12, 14, 16, 18].map((start) => ({ start, date: NOON + 1000 * (start < 10 ? start : start + 55) }));
const anchors = anchorsOf(segments);

test("the clock begins anew where the encoder came back, and nowhere else", () => {
  assert.deepEqual(anchors, [{ at: 0, date: NOON }, { at: 10, date: NOON + 65000 }]);
  const jitter = segments.slice(0, 5).map(({ start, date }, index) => ({ start: start + (index % 2) / 10, date }));
  assert.equal(anchorsOf(jitter).length, 1);
  assert.deepEqual(anchorsOf([{ start: 0, date: null }]), []);
});

test("a place has a clock time, and a clock time its place", () => {
  for (const position of [0, 3.5, 9, 10, 19]) assert.equal(positionAt(anchors, dateAt(anchors, position)), position);
  assert.equal(dateAt(anchors, 12), NOON + 67000);
  assert.equal(positionAt(anchors, NOON + 30000), 10, "what was never encoded is where the encoder came back");
  assert.equal(positionAt(anchors, NOON - 5000), -5, "what has left the window lies before it");
  assert.deepEqual([dateAt([], 3), positionAt([], NOON)], [null, null]);
});

test("the window is played from where it stays while it loads", () => {
  const timeline = timelineOf({ start: 100, live: 400, anchors, margin: 3 });
  assert.deepEqual([timeline.first, timeline.live], [103, 400]);
  assert.deepEqual([0, 200, 999].map((place) => clampTo(timeline, place)), [103, 200, 400]);
  assert.equal(timelineOf({ start: 100, live: 104, anchors, margin: 3 }).first, 102);
  assert.equal(timelineOf({ start: null, live: null, anchors, margin: 3 }), null);
  assert.equal(timelineOf({ start: 5, live: 4, anchors, margin: 3 }), null);
});

test("times are written as people read them", () => {
  assert.match(formatClock("de", NOON + 3000), /^\d\d:00:03$/);
  assert.match(formatClock("en-US", NOON + 3000), /^\d?\d:00:03.[AP]M$/);
  assert.deepEqual([0, 55.2, 245, 3609].map(formatSpan), ["0:00", "0:55", "4:05", "1:00:09"]);
  assert.deepEqual([0, 55.2, 60, 245, 3609].map((seconds) => saySpan(seconds, "en")), [
    "0 seconds", "55 seconds", "1 minute", "4 minutes, 5 seconds", "1 hour, 9 seconds",
  ]);
  assert.equal(saySpan(245, "ja"), "4 分 5 秒");
});

test("chapters begin where the encoder came back, within the bar", () => {
  const anchors = [{ at: 0, date: 0 }, { at: 30, date: 1e6 }, { at: 190, date: 9e6 }];
  assert.deepEqual(chaptersOf({ first: 10, live: 110, anchors }), [0.2]);
  assert.deepEqual(chaptersOf({ first: 0, live: 100, anchors: [] }), []);
});
