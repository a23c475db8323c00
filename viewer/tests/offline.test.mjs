import assert from "node:assert/strict";
import { test } from "node:test";
import { backoff, createAlarm } from "../public/js/backoff.js";
import { findStream, pollDelay, waitForStream } from "../public/js/offline.js";

const url = "https://live.example/live/playlist.m3u8";
const media = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\na.ts\n";
const multivariant = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n0/playlist.m3u8\n";

/** A server: address → body, or a number for a status without one. */
const server = (pages) => async (address) => {
  const page = pages[address] ?? 404;
  if (page === "down") throw new TypeError("network");
  const ok = typeof page === "string";
  return { ok, status: ok ? 200 : page, url: address, text: async () => page };
};
const looks = [
  ["no playlist", {}, "absent"],
  ["a service that has no stream", { [url]: 503 }, "offline"],
  ["a live media playlist", { [url]: media }, "live"],
  ["a finished one", { [url]: `${media}#EXT-X-ENDLIST\n` }, "ended"],
  ["a live variant", { [url]: multivariant, "https://live.example/live/0/playlist.m3u8": media }, "live"],
  ["a finished variant", { [url]: multivariant, "https://live.example/live/0/playlist.m3u8": `${media}#EXT-X-ENDLIST` }, "ended"],
  ["a missing variant", { [url]: multivariant }, "absent"],
  ["a server that is down", { [url]: "down" }, "unreachable"],
  ["a gateway's error", { [url]: 502 }, "unreachable"],
  ["a page that is no playlist", { [url]: "<html>" }, "offline"],
];
for (const [name, pages, found] of looks) {
  test(`${name}: ${found}`, async () => assert.equal(await findStream(url, server(pages)), found));
}

test("looks come further and further apart, never closer than two seconds nor beyond the cap", () => {
  for (const random of [() => 0, () => 0.5, () => 0.999]) {
    const delays = Array.from({ length: 40 }, (_, n) => pollDelay(n, false, random));
    assert.deepEqual(delays, [...delays].sort((a, b) => a - b));
    assert.ok(delays[0] >= 2000 && delays.at(-1) <= 15600, String(delays));
  }
  assert.notEqual(pollDelay(9, false, () => 0), pollDelay(9, false, () => 1));
  assert.ok(pollDelay(9, true, () => 0.5) > pollDelay(9, false, () => 0.5));
});

test("a pause stays finite after any number of tries", () => {
  assert.equal(backoff(100000, { first: 1000, most: 8000 }, () => 0.5), 8000);
});

test("waiting ends with the first look that finds a stream", async () => {
  const found = ["offline", "unreachable", "offline", "live"];
  const told = [];
  let slept = 0;
  const alarm = { sleep: async (ms) => { slept += 1; assert.ok(ms >= 2000); } };
  await waitForStream({ url, alarm, look: async () => found.shift(), onFound: (what) => told.push(what) });
  assert.deepEqual(told, ["offline", "unreachable", "offline"]);
  assert.equal(slept, 3);
});

test("a sleep can be cut short, and waking nobody hurts nobody", async () => {
  const alarm = createAlarm();
  alarm.wake();
  const nap = alarm.sleep(3600000);
  alarm.wake();
  await nap;
});
