import assert from "node:assert/strict";
import { test } from "node:test";
import { download } from "../public/js/downloads.js";
import { choicesOf, formatOf } from "../public/js/ui/download.js";
import { openFile } from "../public/js/file-writer.js";
import { bytesOf, inOrder, segmentsOf } from "../public/js/segments.js";

const AT = "https://video.example/live/r/playlist.m3u8";
const HEAD = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n";
const read = (text) => segmentsOf(AT, async () => text);
const bytes = (...values) => new Uint8Array(values);
const answer = (body, status = 200) => ({ ok: status < 300, status, arrayBuffer: async () => body.buffer });
const sleep = async () => {};

test("maps, ranges, gaps and discontinuities of a playlist", async () => {
  const [one, two, three] = await read(
    `${HEAD}#EXT-X-MAP:URI="all.mp4",BYTERANGE="100@0"\n#EXTINF:4,\n#EXT-X-BYTERANGE:50@100\nall.mp4\n` +
      "#EXTINF:3,\n#EXT-X-BYTERANGE:60\nall.mp4\n#EXT-X-DISCONTINUITY\n#EXT-X-GAP\n#EXTINF:2,\ngone.m4s\n",
  );
  const url = "https://video.example/live/r/all.mp4";
  const map = { url, begin: 0, end: 99 };
  assert.deepEqual(one, { url, begin: 100, end: 149, map, seconds: 4, discontinuity: false, gap: false });
  assert.deepEqual([two.begin, two.end, two.seconds], [150, 209, 3]);
  assert.deepEqual([three.gap, three.discontinuity, three.seconds], [true, true, 2]);
});

test("the best variant is taken, or the chosen one; what cannot be one file is told", async () => {
  const variants = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlow.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=2\nhigh.m3u8\n";
  const asked = [];
  const get = async (url) => {
    asked.push(url);
    return asked.length === 1 ? variants : `${HEAD}#EXTINF:4,\na.ts\n`;
  };
  assert.equal((await segmentsOf(AT, get)).length, 1);
  assert.equal(asked[1], "https://video.example/live/r/high.m3u8");
  for (const [bitrate, name] of [[1, "low"], [3, "high"], [7, "high"]]) {
    asked.length = 0;
    await segmentsOf(AT, async (url) => (await get(url)).replace("BANDWIDTH=2", "AVERAGE-BANDWIDTH=3,BANDWIDTH=2"), bitrate);
    assert.equal(asked[1], `https://video.example/live/r/${name}.m3u8`);
  }
  await assert.rejects(read("<html>"), /no playlist/);
  await assert.rejects(read(`${HEAD}#EXT-X-KEY:METHOD=AES-128,URI="k"\n#EXTINF:4,\na.ts\n`), /encrypted/);
  await assert.rejects(read(`#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",URI="a.m3u8"\n${variants}`), /sound/);
});

test("passing faults are tried again, others are final, and ranges are cut from what has none", async () => {
  const answers = [answer(bytes(), 503), answer(bytes(1, 2, 3, 4))];
  const { signal } = new AbortController();
  const found = await bytesOf({ url: AT, begin: 1, end: 2 }, { signal, sleep, get: async () => answers.shift() });
  assert.deepEqual([...found], [2, 3]);
  let asked = 0;
  const gone = async () => answer(bytes(), 404, (asked += 1));
  await assert.rejects(bytesOf({ url: AT }, { signal, sleep, get: gone }), /404/);
  assert.equal(asked, 1);
});

test("bytes come in order, with so many on their way", async () => {
  const waiting = [];
  const get = (item) => new Promise((resolve) => waiting.push(() => resolve(item)));
  const found = inOrder([1, 2, 3], get, 2);
  const first = found.next();
  assert.equal(waiting.length, 2);
  waiting[1]();
  waiting[0]();
  assert.equal((await first).value, 1);
  assert.equal((await found.next()).value, 2);
});

/** A picker's file, which `size` bytes were in before. */
function picker(size) {
  const done = [];
  const writable = { write: async ({ data }) => done.push(...data), close: async () => done.push("closed"), abort: async () => done.push("aborted") };
  const handle = { getFile: async () => ({ size }), createWritable: async () => writable, remove: async () => done.push("removed") };
  return { done, window: { showSaveFilePicker: async () => handle } };
}

test("a failure leaves nothing, and a file that was there before stays", async () => {
  const get = async (url) => (url === AT ? answer(new TextEncoder().encode(`${HEAD}#EXTINF:4,\na.ts\n`)) : answer(bytes(), 404));
  const { signal } = new AbortController();
  for (const [size, expected] of [[0, ["aborted", "removed"]], [5, ["aborted"]]]) {
    const { done, window } = picker(size);
    await assert.rejects(download({ url: AT, title: "a/b", kind: "ts", signal, onProgress() {}, window, get }), /404/);
    assert.deepEqual(done, expected);
  }
});

test("who picks no file has none", async () => {
  const window = { showSaveFilePicker: async () => Promise.reject(new DOMException("", "AbortError")) };
  assert.equal(await openFile({ name: "a", type: "video/mp4", extension: ".mp4", window }), null);
});

test("the menu of downloads has format, quality and size as far as these are known", () => {
  const levels = [{ height: 360, bitrate: 8e5 }, { height: 1080, bitrate: 6e6 }];
  const choices = (more, recording = {}) => choicesOf({ levels, ...more }, { parts: ["a"], duration: 600, ...recording }, "en");
  const texts = (...given) => choices(...given).map(({ text }) => text);
  assert.deepEqual(texts({}), ["MP4 · 1080p · ≈ 450.0 MB", "MP4 · 360p · ≈ 60.0 MB", "TS · 1080p · ≈ 450.0 MB"]);
  assert.deepEqual(choices({}).map(({ kind, bitrate }) => [kind, bitrate]), [["mp4", 6e6], ["mp4", 8e5], ["ts", 6e6]]);
  assert.deepEqual(texts({ levels: levels.slice(1) }, { parts: ["a", "b"] }), ["MP4 1 · 1080p", "TS 1 · 1080p", "MP4 2 · 1080p", "TS 2 · 1080p"]);
  assert.deepEqual(texts({ levels: [{ height: 0, bitrate: 0 }] }), ["MP4", "TS"]);
  assert.deepEqual(choices({ levels: [] }).map(({ text, bitrate }) => [text, bitrate]), [["MP4", Infinity], ["TS", Infinity]]);
  assert.deepEqual(["https://a.example/x/evening.mp4?a=.ts", "https://a.example/x/evening"].map(formatOf), ["MP4", ""]);
});
