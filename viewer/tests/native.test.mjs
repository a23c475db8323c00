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
  textTracks = Object.assign(new EventTarget(), { *[Symbol.iterator]() {} });
  get seekable() {
    return { length: this.end === null ? 0 : 1, start: () => 0, end: () => this.end };
  }
}

function player() {
  const video = new FakeVideo();
  const heard = [];
  const on = {
    captions: () => {},
    level: ({ height }) => heard.push(`level ${height}`),
    stall: () => heard.push("stall"),
    over: (reason) => heard.push(reason),
  };
  let clock = 0;
  const made = createNativePlayer({ video, url: "https://live.example/p.m3u8", on, now: () => clock });
  return { video, heard, made, at: (ms) => { clock = ms; } };
}

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
  fire("waiting", "playing", "waiting", "error", "ended");
  made.destroy();
  fire("waiting", "ended");
  assert.deepEqual(heard, ["level 720", "stall", "failed", "ended"]);
});

test("the picture is asked for with CORS: Chromium's own HLS refuses segments of another origin otherwise", () => {
  const page = readFileSync(new URL("../public/index.html", import.meta.url), "utf8");
  const videos = page.match(/<video\b[^>]*>/g);
  assert.equal(videos.length, 1);
  assert.match(videos[0], / crossorigin="anonymous"/);
});
