import assert from "node:assert/strict";
import { test } from "node:test";
import { createFallback } from "../public/js/fallback.js";
import { follow } from "../public/js/live.js";
import { waitForStream } from "../public/js/offline.js";
import { createStore } from "../public/js/state.js";

const url = "https://live.example/live/playlist.m3u8";
const own = "https://owncast.example/hls/stream.m3u8";

/**
 * A page whose clock advances only while it sleeps. `broadcaster` and `owncast` say what a look finds at a time in
 * ms; each session lasts `lasts` ms, or until it is stopped, and then ends as the playlist it plays would.
 */
async function watch({ broadcaster, owncast = () => "live", fallbackUrl = own, until, lasts = 600_000 }) {
  const store = createStore();
  const played = [];
  let clock = 0;
  const sleep = async (ms) => {
    clock += ms;
    await new Promise(setImmediate);
  };
  const look = async (address) => (address === url ? broadcaster : owncast)(clock);
  const alarm = { sleep, wake() {} };
  const fallback = createFallback({ fallbackUrl, afterSeconds: 20, store, alarm, look, sleep, now: () => clock });

  const play = async ({ url: address = url, stop }) => {
    played.push([address, clock, store.get().fallback]);
    store.set({ status: "live" });
    const end = clock + lasts;
    while (clock < end && !stop?.aborted && (address !== url || broadcaster(clock) === "live")) {
      if (stop) await new Promise(setImmediate); // the look for the broadcaster moves the clock
      else await sleep(1000);
    }
    const reason = stop?.aborted ? "switched" : clock < end ? "failed" : "ended";
    return { reason };
  };
  globalThis.document ??= { hidden: false };
  await follow({
    url,
    store,
    alarm,
    wait: (terms) => waitForStream({ ...terms, look: fallback.look, random: () => 0.5 }),
    play: fallback.wrap(play, url),
    again: () => clock < until,
    random: () => 0.5,
  });
  return { played, store };
}

test("a playlist that cannot be had for 20 s gives way to the streamer's own, and comes back", async () => {
  const broadcaster = (at) => (at < 30_000 || at > 90_000 ? "live" : "unreachable");
  const { played, store } = await watch({ broadcaster, until: 110_000 });
  assert.deepEqual(played.map(([address, , fallback]) => [address, fallback]), [[url, false], [own, true], [url, false]]);
  const [, [, away], [, back]] = played;
  assert.ok(away >= 50_000 && away <= 70_000, `after ${away} ms`);
  assert.ok(back >= 90_000 && back <= 112_000, `back after ${back} ms`);
  assert.equal(store.get().fallback, false);
});

test("a shorter interruption stays a reconnect", async () => {
  const broadcaster = (at) => (at < 30_000 || at > 42_000 ? "live" : "unreachable");
  const { played } = await watch({ broadcaster, until: 60_000 });
  assert.deepEqual(played.map(([address]) => address), [url, url]);
});

test("a broadcaster that says there is no stream is believed", async () => {
  const broadcaster = (at) => (at < 120_000 ? "offline" : "live");
  const { played } = await watch({ broadcaster, until: 1 });
  assert.deepEqual(played.map(([address]) => address), [url]);
});

test("without a fallback that plays, the page goes on looking", async () => {
  const broadcaster = (at) => (at < 120_000 ? "unreachable" : "live");
  for (const terms of [{ fallbackUrl: null }, { owncast: () => "offline" }]) {
    const { played, store } = await watch({ broadcaster, until: 1, ...terms });
    assert.deepEqual(played.map(([address]) => address), [url]);
    assert.equal(store.get().fallback, false);
  }
});
