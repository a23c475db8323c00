// The playlists end, and new ones follow under the same address: the page goes on by itself.
import assert from "node:assert/strict";
import { afterEach, mock, test } from "node:test";
import { createStreamForecast } from "../public/js/stream-forecast.js";
import { follow } from "../public/js/live.js";
import { createStore } from "../public/js/state.js";
import { fakePlayer } from "./support/fake-player.mjs";

afterEach(() => mock.timers.reset());

test("whether more is to come is what the server said last", () => {
  let now = 0;
  const forecast = createStreamForecast({ now: () => now });
  const after = (name, data = {}) => {
    forecast.hears(name, data);
    return forecast.goesOn();
  };
  assert.equal(forecast.goesOn(), null, "nothing was said");
  assert.equal(after("state", { state: "live" }), true);
  assert.equal(after("segment"), true);
  assert.equal(after("ended", { now: 1 }), false);
  assert.equal(after("time"), false);
  assert.equal(after("started"), true);
  assert.equal(after("ended", { goingOn: true }), true);
  assert.equal(after("lost", null), null);
  assert.equal(after("state", { state: "ended" }), false);
  assert.equal(after("state", { state: "offline", goingOn: false }), false);
  assert.equal(after("state", { state: "ended", goingOn: true }), true);
  assert.equal(after("state", { state: "starting" }), true);
  assert.equal(after("ended", { now: 2 }), false);
  assert.equal(after("starting", { now: 3 }), true);
  now = 61000;
  assert.equal(forecast.goesOn(), null, "what was announced and does not come is not waited for without end");
});

/** What a viewer is shown while one player ends and `found` is what each look at the playlist finds. */
async function ending({ goesOn, found, reason = "ended" }) {
  const store = createStore();
  const shown = [];
  const pauses = [];
  let sessions = 0;
  let time = 0;
  store.subscribe(({ status }, before) => {
    if (shown.at(-1) !== status || before.status !== status) shown.push(status);
  });
  await follow({
    url: "https://live.example/p.m3u8",
    store,
    alarm: { sleep: async (ms) => pauses.push(ms) },
    random: () => 0.5,
    goesOn: () => goesOn,
    now: () => time,
    wait: async ({ onFound }) => {
      while (sessions > 0 && found.length > 0) {
        onFound(found.shift());
        time += 3000;
      }
    },
    play: async () => {
      sessions += 1;
      store.set({ status: "live" });
      return { reason };
    },
    again: () => sessions < 2,
  });
  return { shown, pauses, store };
}

test("where new playlists follow, nobody is told that the stream is over", async () => {
  const { shown, pauses, store } = await ending({ goesOn: true, found: ["offline", "offline"] });
  assert.ok(!shown.includes("offline"), shown.join());
  assert.deepEqual(shown.slice(0, 4), ["connecting", "live", "connecting", "live"]);
  assert.ok(pauses[0] <= 500, `${pauses[0]} ms until it looks`);
  assert.equal(store.get().rebuilds, 0);
});

test("where the server says that it is over, so does the page, at once", async () => {
  const { shown } = await ending({ goesOn: false, found: [] });
  assert.deepEqual(shown.slice(0, 4), ["connecting", "live", "offline", "connecting"]);
});

test("where nobody says anything, the page looks for a while before it says that the stream is over", async () => {
  const next = await ending({ goesOn: null, found: ["offline", "offline", "offline"] });
  assert.deepEqual(next.shown.slice(0, 4), ["connecting", "live", "connecting", "live"]);
  const none = await ending({ goesOn: null, found: Array.from({ length: 5 }, () => "offline") });
  assert.deepEqual(none.shown.slice(0, 5), ["connecting", "live", "connecting", "offline", "connecting"]);
});

test("a player whose playlists were replaced before it saw their end does not try to get them back", () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  const error = { type: "networkError", details: "levelParsingError", fatal: true };
  const usual = fakePlayer();
  usual.hls.tell("ERROR", error);
  mock.timers.tick(2000);
  assert.deepEqual([usual.heard, usual.hls.loads], [["error"], 1]);
  const replaced = fakePlayer();
  replaced.player.replaced();
  replaced.hls.tell("ERROR", { type: "networkError", details: "fragLoadError", fatal: true });
  assert.deepEqual(replaced.heard, ["error"]);
  replaced.hls.tell("ERROR", error);
  assert.deepEqual(replaced.heard, ["error", "error", "ended"]);
  const paused = fakePlayer();
  paused.video.paused = true;
  paused.player.replaced();
  paused.hls.tell("ERROR", error);
  assert.deepEqual(paused.heard, ["error", "switched"], "who has paused keeps place and pause");
});
