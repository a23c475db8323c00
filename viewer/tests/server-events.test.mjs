import assert from "node:assert/strict";
import { afterEach, mock, test } from "node:test";
import { createCatalog } from "../public/js/catalog.js";
import { createClock } from "../public/js/clock.js";
import { listen } from "../public/js/events.js";
import { createTimings } from "../public/js/timings.js";
import { createStore } from "../public/js/state.js";

afterEach(() => mock.timers.reset());

/** As much of an EventSource as the page touches; `made` has all that were opened. */
class FakeSource extends EventTarget {
  static made = [];
  readyState = 1;
  constructor(url) {
    super();
    this.url = url;
    FakeSource.made.push(this);
  }
  say(name, data) {
    this.dispatchEvent(Object.assign(new Event(name), { data: typeof data === "string" ? data : JSON.stringify(data) }));
  }
  fail(readyState) {
    this.readyState = readyState;
    this.dispatchEvent(new Event("error"));
  }
  close() {
    this.readyState = 2;
  }
}

function listener() {
  mock.timers.enable({ apis: ["setTimeout"] });
  FakeSource.made = [];
  const heard = [];
  listen({
    url: "https://live.example/live/events",
    hear: (name, data) => heard.push([name, data]),
    open: (url) => new FakeSource(url),
    random: () => 0.5,
  });
  return heard;
}

test("events are told as they come, and what is no JSON object is left out", () => {
  const heard = listener();
  const [source] = FakeSource.made;
  source.say("state", { state: "live" });
  source.say("segment", "{");
  source.say("segment", "null");
  source.say("segment", { sequence: 7 });
  source.say("message", { other: 1 });
  assert.deepEqual(heard, [["state", { state: "live" }], ["segment", { sequence: 7 }]]);
});

test("a segment's path is one on the server that tells of it, a whole address stays as it is", () => {
  const heard = listener();
  const [source] = FakeSource.made;
  source.say("segment", { url: "/segments/ab/1.ts" });
  source.say("state", { segments: [{ url: "https://b.example/a%2Fb.ts?X-Signature=1" }, { url: null }] });
  source.say("segment", { url: "//" });
  assert.deepEqual(heard, [
    ["segment", { url: "https://live.example/segments/ab/1.ts" }],
    ["state", { segments: [{ url: "https://b.example/a%2Fb.ts?X-Signature=1" }, { url: null }] }],
  ]);
});

test("a lost connection is the browser's to mend, a refused one ours, with growing pauses", () => {
  const heard = listener();
  FakeSource.made[0].fail(0);
  mock.timers.tick(10000);
  assert.equal(FakeSource.made.length, 1);
  FakeSource.made[0].fail(2);
  mock.timers.tick(2000);
  assert.equal(FakeSource.made.length, 2);
  FakeSource.made[1].fail(2);
  mock.timers.tick(3999);
  assert.equal(FakeSource.made.length, 2);
  mock.timers.tick(1);
  assert.equal(FakeSource.made.length, 3);
  FakeSource.made[2].say("time", { now: 1 });
  FakeSource.made[2].fail(2);
  mock.timers.tick(2000);
  assert.equal(FakeSource.made.length, 4);
  assert.deepEqual(heard.map(([name]) => name), ["lost", "lost", "lost", "time", "lost"]);
});

test("a silence longer than three heartbeats is a lost connection", () => {
  const heard = listener();
  const [source] = FakeSource.made;
  for (let beat = 0; beat < 10; beat += 1) {
    mock.timers.tick(10000);
    source.say("time", { now: beat });
  }
  assert.equal(FakeSource.made.length, 1);
  mock.timers.tick(35000);
  assert.equal(heard.at(-1)[0], "lost");
  assert.equal(source.readyState, 2);
  mock.timers.tick(2000);
  assert.equal(FakeSource.made.length, 2);
});

test("the server's time is the one of the message that travelled least, of late", () => {
  let local = 0;
  const clock = createClock({ local: () => local, keep: 3 });
  assert.equal(clock.now(), 0);
  for (const [at, server] of [[100, 5050], [200, 5195], [300, 5250]]) {
    local = at;
    clock.note(server);
  }
  assert.equal(clock.now(), 5295);
  for (local of [400, 500, 600]) clock.note(local + 4000);
  assert.equal(clock.now(), 4600);
  clock.note("soon");
  assert.equal(clock.now(), 4600);
});

const segment = (sequence, more = {}) => ({ url: `https://b.example/${sequence}.ts`, variant: "0", sequence, run: "r", duration: 2, ...more });

test("the catalog knows the newest segments, whose they are, and who waits for one", async () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  const catalog = createCatalog(2);
  assert.deepEqual([catalog.run(), catalog.duration()], [null, null]);
  const late = catalog.wait(segment(2).url, 1000);
  const never = catalog.wait(segment(9).url, 1000);
  for (const sequence of [1, 2, 3]) catalog.note(segment(sequence, { run: `r${sequence}`, duration: 3 - sequence }));
  catalog.note({ sequence: 4 });
  assert.equal((await late).sequence, 2);
  assert.equal((await catalog.wait(segment(3).url, 1000)).sequence, 3);
  mock.timers.tick(1000);
  assert.equal(await never, null);
  assert.equal(catalog.find(segment(1).url), null);
  assert.deepEqual([catalog.run(), catalog.duration()], ["r3", 2]);
});

test("a segment that the server does not tell of is told of by its playlist, unless it was there before", () => {
  const store = createStore();
  let time = 0;
  const timings = createTimings({ store, clock: { now: () => time } });
  const lists = (...numbers) => timings.listed("0", numbers.map((sn) => ({ sn, url: segment(sn).url })));
  lists();
  lists(1, 2, 3, 4);
  time = 10;
  lists(2, 3, 4, 5);
  for (const sequence of [1, 4, 5]) {
    time = 20 + sequence;
    timings.fetched(segment(sequence).url, sequence, "0");
  }
  assert.deepEqual(
    store.get().stages.map(({ variant, sequence, told, fetched }) => [variant, sequence, told, fetched]),
    [["0", 1, null, 21], ["0", 4, null, 24], ["0", 5, 10, 25]],
  );
  timings.told(segment(5, { noticed: 1, uploaded: 5 }), true); // by who is asked for them, since the statistics are open
  assert.deepEqual([store.get().stages.at(-1).uploaded, store.get().stages.at(-1).told], [5, 10]);
});

test("a segment's stages are shown once it is fetched, in the order of fetching, the newest twelve", () => {
  const store = createStore();
  let time = 0;
  const timings = createTimings({ store, clock: { now: () => (time += 1) } });
  timings.told(segment(1, { noticed: -5, uploaded: -2 }), false);
  assert.deepEqual(store.get().stages, []);
  timings.fetched(segment(1).url, 1);
  timings.fetched(segment(2).url, 2); // the playlist was quicker than the event
  timings.told(segment(2, { noticed: -4, uploaded: -1 }), true);
  timings.fetched(segment(2).url, 2);
  timings.played(segment(1).url);
  timings.played("https://elsewhere.example/1.ts");
  const [first, second] = store.get().stages;
  assert.deepEqual(first, { variant: "0", sequence: 1, noticed: -5, uploaded: -2, told: null, fetched: 1, played: 5 });
  assert.deepEqual(second, { variant: "0", sequence: 2, noticed: -4, uploaded: -1, told: 3, fetched: 2, played: null });
  for (let sequence = 3; sequence < 90; sequence += 1) timings.fetched(segment(sequence).url, sequence);
  assert.deepEqual(store.get().stages.map(({ sequence }) => sequence), [78, 79, 80, 81, 82, 83, 84, 85, 86, 87, 88, 89]);
  assert.ok(Object.isFrozen(store.get().stages) && Object.isFrozen(store.get().stages[0]));
});
