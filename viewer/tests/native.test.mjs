import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { createNativePlayer } from "../public/js/native.js";

/** As much of a video element as the native player touches. */
class FakeVideo extends EventTarget {
  currentTime = 0;
  duration = Infinity;
  seeking = false;
  videoHeight = 720;
  end = null;
  error = null;
  textTracks = Object.assign(new EventTarget(), { *[Symbol.iterator]() {} });
  canPlayType = (type) => (/avc1|mp4a/.test(type) ? "probably" : "");
  get seekable() {
    return { length: this.end === null ? 0 : 1, start: () => 0, end: () => this.end };
  }
}

function player({ playlist = null } = {}) {
  const video = new FakeVideo();
  const heard = [];
  const on = {
    captions: () => {},
    level: ({ height }) => heard.push(`level ${height}`),
    stall: () => heard.push("stall"),
    over: (...reason) => heard.push(reason.join(" ")),
  };
  let clock = 0;
  const made = createNativePlayer({ video, url: "https://live.example/p.m3u8", on, get: get(playlist), now: () => clock });
  return { video, heard, made, at: (ms) => { clock = ms; } };
}

/** As fetch does: the playlist and a map beside it; no playlist can be had if there is none. */
const get = (text) => async (url) => {
  if (text === null) throw new TypeError("Failed to fetch");
  return new Response(url === "https://live.example/init.mp4" ? "stsd....hev1....mp4a...." : text);
};

test("the growing end of the seekable range is the playlist's growth", () => {
  const { video, made, at } = player();
  assert.equal(video.src, "https://live.example/p.m3u8");
  assert.deepEqual([made.facts().advancedAt, made.facts().latency], [null, null]);
  video.end = 30;
  video.currentTime = 12;
  at(1000);
  assert.deepEqual([made.facts().advancedAt, made.facts().latency, made.facts().live], [1000, 18, true]);
  at(5000);
  assert.equal(made.facts().advancedAt, 1000);
  video.duration = 31;
  assert.equal(made.facts().live, false);
  assert.deepEqual([made.facts().start, made.facts().sync], [0, 12]);
  made.seek(3);
  assert.equal(video.currentTime, 3);
});

test("stalls count once something has played, and nothing is heard after the end", () => {
  const { video, heard, made } = player();
  const fire = (...names) => names.forEach((name) => video.dispatchEvent(new Event(name)));
  video.error = { code: 2 }; // the network
  fire("waiting", "playing", "waiting", "error", "ended");
  made.destroy();
  fire("waiting", "ended");
  assert.deepEqual(heard, ["level 720", "stall", "failed", "ended"]);
});

const variant = (codecs) => `#EXT-X-STREAM-INF:BANDWIDTH=1,SUPPLEMENTAL-CODECS="dvh1.08.07/db4h"${codecs}\n0/a.m3u8\n`;
const media = (line) => `#EXT-X-TARGETDURATION:1\n${line}\n#EXTINF:1,\na.m4s\n`;
const [hevc, h264, unknown] = [',CODECS="hvc1.1.6.L30.90,mp4a.40.2"', ',CODECS="avc1.42c00b,mp4a.40.2"', ""];
for (const [name, code, playlist, reason] of [
  ["is told what the browser cannot decode", 4, [hevc, ',CODECS="av01.0.04M.08"'], "undecodable HEVC, AV1"],
  ["is told it when a decoder gives up, too", 3, [hevc], "undecodable HEVC"],
  ["has failed where the browser can decode a variant", 4, [hevc, h264], "failed"],
  ["has failed where no CODECS are told", 3, [unknown], "failed"],
  ["is told it of a stream with one variant", 4, media('#EXT-X-MAP:URI="init.mp4"'), "undecodable HEVC"],
  ["has failed in transport streams, which tell no codec", 4, media(""), "failed"],
  ["has failed where its playlist cannot be had", 4, null, "failed"],
]) {
  test(`a viewer whose player ${name}`, async () => {
    const lines = Array.isArray(playlist) ? playlist.map(variant).join("") : playlist;
    const { video, heard } = player({ playlist: lines && `#EXTM3U\n${lines}` });
    video.error = { code };
    video.dispatchEvent(new Event("error"));
    for (let times = 0; heard.length === 0 && times < 100; times += 1) await new Promise(setImmediate);
    assert.deepEqual(heard, [reason]);
  });
}

test("of a player that is gone no verdict is heard", async () => {
  const { video, heard, made } = player({ playlist: `#EXTM3U\n${variant(hevc)}` });
  video.error = { code: 4 };
  video.dispatchEvent(new Event("error"));
  made.destroy();
  for (let times = 0; times < 10; times += 1) await new Promise(setImmediate);
  assert.deepEqual(heard, []);
});

test("the picture is asked for with CORS: Chromium's own HLS refuses segments of another origin otherwise", () => {
  const page = readFileSync(new URL("../public/index.html", import.meta.url), "utf8");
  const videos = page.match(/<video\b[^>]*>/g);
  assert.equal(videos.length, 1);
  assert.match(videos[0], / crossorigin="anonymous"/);
});
