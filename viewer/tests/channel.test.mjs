// What the server tells beside the playlists, by held and by server-sent events, and what the page makes of it.
import assert from "node:assert/strict";
import { afterEach, mock, test } from "node:test";
import { createCatalog } from "../public/js/catalog.js";
import { createChannel } from "../public/js/channel.js";
import { createClock } from "../public/js/clock.js";
import { createStreamForecast } from "../public/js/stream-forecast.js";
import { createStore } from "../public/js/state.js";

afterEach(() => mock.timers.reset());

const HELD = { eventsUrl: "https://live.example/live/events", events: "held" };
const state = (more = {}) => ({ state: "live", goingOn: false, trouble: null, viewers: 3, run: "r", targetDuration: 2, ...more });

/** A page that listens; `asks` has what it asks for by held requests, `sources` what by server-sent events. */
function channel(config = HELD) {
  mock.timers.enable({ apis: ["setTimeout"] });
  const on = { asks: [], sources: [], noted: [], hashes: [], wakes: 0, replaced: 0, store: createStore(), catalog: createCatalog() };
  on.clock = createClock({ local: () => 1000 });
  on.forecast = createStreamForecast();
  on.channel = createChannel({
    config,
    store: on.store,
    clock: on.clock,
    catalog: on.catalog,
    forecast: on.forecast,
    sharing: { hears: (told) => on.hashes.push(told) },
    alarm: { wake: () => (on.wakes += 1) },
    playback: { replaced: () => (on.replaced += 1) },
    note: (segment, isNews) => on.noted.push([segment.sequence, isNews]),
    open: (source) => on.sources.push(source),
    ask(asked) {
      const one = { ...asked, woken: 0, stopped: false };
      on.asks.push(one);
      return { wake: () => (one.woken += 1), stop: () => (one.stopped = true) };
    },
  });
  return on;
}

const shown = ({ store }) => {
  const { channel, trouble, viewers } = store.get();
  return [channel, trouble, viewers];
};

test("held events tell the state, and what came after it", async () => {
  const on = channel();
  const [{ url, take, lost }] = on.asks;
  assert.deepEqual([on.asks.length, url, on.sources], [1, HELD.eventsUrl, []]);
  assert.equal(on.channel.told(true), false);
  take({ serial: 1, now: 5000, share: 0.25, every: 100, encoderOffset: 1580.2, state: state(), events: [] });
  await on.channel.firstWord;
  assert.deepEqual(shown(on), ["live", null, 3]);
  assert.deepEqual(on.store.get().reports, { share: 0.25, every: 100 });
  assert.deepEqual([on.clock.now(), on.catalog.encoderOffset("any"), on.forecast.goesOn()], [5000, 1580.2, true]);
  mock.timers.tick(500);
  assert.equal(on.wakes, 1);
  const { reports } = on.store.get();
  take({ serial: 3, now: 4000, share: 0.25, every: 100, encoderOffset: null, events: [["trouble", { trouble: "encoder" }], ["viewers", { viewers: 9 }], null, ["ended"], 7] });
  assert.deepEqual(shown(on), ["live", "encoder", 9]);
  assert.equal(on.store.get().reports, reports, "nobody need look at what is the same");
  assert.equal(on.catalog.encoderOffset("any"), 0);
  take({ serial: 4, events: [["ended", { goingOn: true }], ["started", {}]] });
  assert.deepEqual([...shown(on), on.replaced], ["live", null, 9, 1]);
  assert.deepEqual(on.store.get().reports, { share: 1, every: 25 }, "what is missing is asked of all");
  lost();
  assert.deepEqual([...shown(on), on.channel.told(true), on.forecast.goesOn()], [null, null, null, false, null]);
  assert.deepEqual(on.hashes, [], "no word about segments that are not asked for");
});

test("a player need not wait for a server that says nothing, and not at all where there are no events", async () => {
  const on = channel();
  let ready = false;
  on.channel.firstWord.then(() => (ready = true));
  mock.timers.tick(999);
  await null;
  assert.equal(ready, false);
  mock.timers.tick(1);
  await on.channel.firstWord;
  mock.timers.reset();
  const none = channel({ ...HELD, eventsUrl: null });
  await none.channel.firstWord;
  none.channel.wants(true);
  none.channel.wake();
  assert.deepEqual([none.asks, none.sources, none.channel.told(true)], [[], [], false]);
});

test("segments are asked for while somebody wants them", () => {
  const on = channel();
  on.channel.wants(false);
  assert.equal(on.asks.length, 1);
  on.channel.wants(true);
  on.channel.wants(true);
  const [events, feed] = on.asks;
  assert.deepEqual([on.asks.length, feed.url], [2, "https://live.example/live/segments"]);
  events.take({ serial: 1, state: state(), events: [] });
  assert.deepEqual([on.channel.told(false), on.channel.told(true)], [false, true]);
  feed.take({ serial: 1, now: 6000, segments: [{ sequence: 1 }, { sequence: 2 }] });
  feed.take({ serial: 2, now: 6000, segments: [{ sequence: 3 }] });
  feed.take({ serial: 3, segments: null });
  assert.deepEqual([on.noted, on.hashes, on.clock.now()], [[[1, false], [2, false], [3, true]], [true, true, true], 6000]);
  assert.equal(on.channel.told(false), true);
  feed.lost();
  assert.deepEqual([on.channel.told(false), on.hashes.at(-1)], [false, false]);
  feed.take({ serial: 9, segments: [{ sequence: 7 }] });
  assert.deepEqual(on.noted.at(-1), [7, false], "what was listed meanwhile is not just coming");
  on.channel.wake();
  on.store.set({ status: "reconnecting" });
  on.store.set({ status: "live" });
  assert.deepEqual([events.woken, feed.woken], [2, 2], "playlists are had again");
  on.channel.wants(false);
  assert.deepEqual([feed.stopped, on.hashes.at(-1), on.channel.told(false)], [true, null, false]);
  on.channel.wants(true);
  assert.equal(on.asks.length, 3);
});

test("server-sent events tell of everything", () => {
  const on = channel({ ...HELD, events: "server-sent" });
  const [{ url, hear }] = on.sources;
  on.channel.wants(true);
  assert.deepEqual([url, on.sources.length, on.asks], [HELD.eventsUrl, 1, []]);
  hear("state", state({ segments: [{ sequence: 1 }] }));
  hear("reports", { share: 0.5, every: 30 });
  hear("segment", { sequence: 2, published: 7000 });
  assert.deepEqual([on.noted, on.clock.now(), on.channel.told(false)], [[[1, false], [2, true]], 7000, true]);
  assert.deepEqual(on.store.get().reports, { share: 0.5, every: 30 });
  hear("state", state());
  assert.deepEqual(on.store.get().reports, { share: 1, every: 25 }, "all report, as nothing else is said");
  hear("lost", null);
  assert.deepEqual([on.hashes.at(-1), on.channel.told(true)], [false, false]);
});

test("a share and a time that make no sense ask for what is usual", () => {
  const on = channel();
  const asked = (share, every) => {
    on.asks[0].take({ serial: 1, events: [], share, every });
    const { reports } = on.store.get();
    return [reports.share, reports.every];
  };
  assert.deepEqual(asked(0, 400), [0, 400]);
  for (const [share, every] of [[2, 1], [-1, 1e9], ["0.5", null], [NaN, NaN]]) assert.deepEqual(asked(share, every), [1, 25]);
});
