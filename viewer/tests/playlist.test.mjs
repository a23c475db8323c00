import assert from "node:assert/strict";
import { test } from "node:test";
import { durationIn, firstVariant, judgePlaylist, variantIn } from "../public/js/playlist.js";

const head = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:1\n";
const cases = [
  ["a growing playlist", `${head}#EXTINF:2,\na.ts\n`, "live"],
  ["the same with CRLF and a byte order mark", `\uFEFF${head}#EXTINF:2,\na.ts\n`.replaceAll("\n", "\r\n"), "live"],
  ["a finished one", `${head}#EXTINF:2,\na.ts\n#EXT-X-ENDLIST\n`, "ended"],
  ["one without segments", head, "empty"],
  ["nothing but gaps", `${head}#EXT-X-GAP\n#EXTINF:2,\na.ts\n#EXT-X-GAP\n#EXTINF:2,\nb.ts\n`, "empty"],
  ["a gap and then media", `${head}#EXT-X-GAP\n#EXTINF:2,\na.ts\n#EXTINF:2,\nb.ts\n`, "live"],
  ["a multivariant playlist", "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n0/a.m3u8\n", "multivariant"],
  ["an error page", "<!doctype html><p>502", "invalid"],
  ["nothing", "", "invalid"],
  ["a bare header", "#EXTM3U\n", "invalid"],
];
for (const [name, text, verdict] of cases) {
  test(`${name} is ${verdict}`, () => assert.equal(judgePlaylist(text), verdict));
}

test("the first variant is found, relative to the playlist", () => {
  const text = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n# a comment\n\n0/list.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=2\n1/list.m3u8\n";
  assert.equal(firstVariant(text, "https://live.example/live/playlist.m3u8"), "https://live.example/live/0/list.m3u8");
  assert.equal(firstVariant("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n", "https://live.example/"), null);
  assert.equal(firstVariant("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nhttp://[\n", "https://live.example/"), null);
});

test("where the bandwidth is known the best variant that it carries is found, else the smallest", () => {
  const of = (rate) => `#EXT-X-STREAM-INF:AVERAGE-BANDWIDTH=1,BANDWIDTH=${rate}\n${rate}\n`;
  const three = `#EXTM3U\n${of(2000)}${of(3000)}${of(1000)}`;
  const best = (bandwidth) => firstVariant(three, "https://live.example/", bandwidth);
  const rates = [null, 2500, 9000, 500].map((bandwidth) => best(bandwidth).split("/").at(-1));
  assert.deepEqual(rates, ["2000", "2000", "3000", "1000"]);
});

test("a segment is as long as the longest of the last, without what is missing", () => {
  const of = (...durations) => head + durations.map((duration) => `#EXTINF:${duration},\na.ts\n`).join("");
  assert.equal(durationIn(of(9, 2, 2.02, 2, 2, 2, 1.5)), 2.02);
  assert.equal(durationIn(`${of(2)}#EXT-X-GAP\n#EXTINF:4,\nb.ts\n`), 2);
  for (const none of [head, "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n0/a.m3u8\n", "", of("?")]) assert.equal(durationIn(none), null);
});

test("a variant's name is in the address of its playlist", () => {
  assert.equal(variantIn("https://live.example/live/720p/playlist.m3u8?_HLS_msn=7"), "720p");
  for (const none of ["https://live.example/playlist.m3u8", "https://live.example/a/b.ts", "", undefined]) assert.equal(variantIn(none), null);
});
