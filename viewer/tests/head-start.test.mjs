// What a start needs first is asked for ahead, once, and handed over as long as it is fresh.
import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import { beginAhead, fetchAhead } from "../public/js/head-start.js";

const BASE = "https://live.example/";
const MASTER = `#EXTM3U
#EXT-X-STREAM-INF:BANDWIDTH=1000000
0/playlist.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=3000000
1/playlist.m3u8
`;
const on = { asked: [], serve: null, kept: {} };

beforeEach(() => {
  on.asked = [];
  on.kept = {};
  on.clock = 1000;
  on.serve = async (url) => new Response(url.endsWith("live/playlist.m3u8") ? MASTER : "#EXTM3U");
  globalThis.window = { localStorage: { getItem: () => JSON.stringify(on.kept) } };
  mock.method(performance, "now", () => on.clock);
  mock.method(globalThis, "fetch", async (url, { cache } = {}) => {
    on.asked.push(`${cache} ${url.slice(BASE.length)}`);
    const answer = await on.serve(url);
    Object.defineProperty(answer, "url", { value: url });
    return answer;
  });
});
afterEach(() => {
  mock.restoreAll();
  delete globalThis.window;
});

test("the first word, the playlist, and the variant that a player begins with", async () => {
  await beginAhead({}, BASE);
  assert.deepEqual(on.asked, ["no-store live/events/now", "no-cache live/playlist.m3u8", "no-cache live/0/playlist.m3u8"]);
  on.clock += 400;
  const answer = await fetchAhead(`${BASE}live/playlist.m3u8`, { cache: "no-cache" });
  assert.deepEqual([answer.ok, answer.url, answer.first, await answer.text()], [true, `${BASE}live/playlist.m3u8`, 1000, MASTER]);
  for (const path of ["live/0/playlist.m3u8", "live/events/now"]) await fetchAhead(BASE + path);
  assert.equal(on.asked.length, 3, "what was asked for ahead was asked for again");
  await fetchAhead(`${BASE}live/playlist.m3u8`, { cache: "no-cache" });
  assert.equal(on.asked.length, 4, "an answer was handed over twice");
});

test("the variant is the one for the bandwidth of an earlier visit; the addresses are the operator's", async () => {
  on.kept = { bandwidth: 5_000_000 };
  on.serve = async (url) => new Response(url.endsWith("/t/key/live.m3u8") ? MASTER : "#EXTM3U");
  await beginAhead({ playlistUrl: "/t/key/live.m3u8", eventsUrl: null }, BASE);
  assert.deepEqual(on.asked, ["no-cache t/key/live.m3u8", "no-cache t/key/1/playlist.m3u8"]);
  on.asked = [];
  await beginAhead({ events: "server-sent", playlistUrl: "https://media.example/p.m3u8" }, BASE).catch(() => {});
  assert.equal(on.asked.length, 1);
});

test("what is old is asked for again, as is what did not come; a refusal is an answer", async () => {
  await beginAhead({ eventsUrl: null }, BASE);
  on.clock += 3001;
  await fetchAhead(`${BASE}live/playlist.m3u8`, { cache: "no-cache" });
  assert.equal(on.asked.length, 3);
  on.serve = async () => Promise.reject(new TypeError("refused"));
  await assert.rejects(beginAhead({ eventsUrl: null }, BASE));
  on.serve = async () => new Response("", { status: 503 });
  assert.equal((await fetchAhead(`${BASE}live/playlist.m3u8`, { cache: "no-cache" })).status, 503);
  assert.equal(on.asked.length, 5);
  await beginAhead({ eventsUrl: null }, BASE);
  assert.equal((await fetchAhead(`${BASE}live/playlist.m3u8`, { cache: "no-cache" })).status, 503);
  assert.equal(on.asked.length, 6);
});
