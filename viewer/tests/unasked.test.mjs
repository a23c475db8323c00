// What pauses or unmutes without a viewer's wish is put right; what a viewer does stays.
import assert from "node:assert/strict";
import { test } from "node:test";
import { createControls } from "../public/js/controls.js";
import { createPace } from "../public/js/pace.js";
import { startPlaying } from "../public/js/session.js";
import { createStore } from "../public/js/state.js";

/** A video element that tells at once of what happens to it; `refuses` says when it will not play. */
class FakeVideo extends EventTarget {
  paused = true;
  ended = false;
  volume = 1;
  plays = 0;
  punishes = false;
  refuses = () => false;
  #muted = false;
  #rate = 1;
  get muted() {
    return this.#muted;
  }
  set muted(muted) {
    const changed = this.#muted !== muted;
    this.#muted = muted;
    if (changed) this.dispatchEvent(new Event("volumechange"));
  }
  get playbackRate() {
    return this.#rate;
  }
  set playbackRate(rate) {
    this.#rate = rate;
    if (!this.punishes) return;
    this.muted = false;
    this.pause();
  }
  async play() {
    this.plays += 1;
    if (this.refuses(this)) throw Object.assign(new Error(), { name: "NotAllowedError" });
    this.paused = false;
    this.dispatchEvent(new Event("play"));
  }
  pause() {
    if (this.paused) return;
    this.paused = true;
    this.dispatchEvent(new Event("pause"));
  }
}

async function playing({ muted = false, refuses = () => false } = {}) {
  const store = createStore();
  const video = new FakeVideo();
  const document = Object.assign(new EventTarget(), { hidden: false });
  const delays = [];
  let clock = 0;
  const now = () => clock;
  const pace = createPace(video, { navigator: { vendor: "Google Inc." }, now });
  const later = (again, delay) => {
    delays.push(delay);
    clock += delay;
    queueMicrotask(again);
  };
  const play = () => startPlaying(video, store);
  const devices = new EventTarget();
  const controls = createControls({ document, video, root: null, store, play, pace, later, now, devices });
  store.set({ playlist: "/live", status: "live" });
  await controls.play();
  if (muted) controls.toggleMute();
  Object.assign(video, { refuses, plays: 0 });
  const settle = () => new Promise((resolve) => setTimeout(resolve, 5));
  const pass = (ms) => (clock += ms);
  return { document, store, video, controls, pace, delays, devices, pass, settle };
}

test("a pause that no viewer asked for is put right at once, and the viewer follows as before", async () => {
  const { store, video, settle } = await playing();
  video.pause();
  await settle();
  assert.deepEqual([video.paused, video.muted, video.plays], [false, false, 1]);
  assert.deepEqual([store.get().paused, store.get().following], [false, true]);
});

test("a viewer's pause stays, and one by the browser's own controls is a viewer's", async () => {
  const { store, video, controls, settle } = await playing();
  controls.pause();
  await settle();
  assert.deepEqual([video.paused, store.get().paused, store.get().following, video.plays], [true, true, false, 0]);
  const own = await playing();
  own.video.webkitDisplayingFullscreen = true;
  own.video.pause();
  await own.settle();
  assert.deepEqual([own.video.paused, own.store.get().paused], [true, true]);
});

test("a muted video that is unmuted is muted again; a viewer's wish for sound is kept", async () => {
  const { store, video, controls } = await playing({ muted: true });
  video.muted = false;
  assert.deepEqual([video.muted, store.get().muted], [true, true]);
  controls.unmute();
  assert.deepEqual([video.muted, store.get().muted], [false, false]);
  controls.setVolume(0);
  controls.setVolume(0.5);
  assert.deepEqual([video.muted, store.get().muted], [false, false]);
});

test("an engine that pauses what has sound plays on without, and one that refuses all gets a button", async () => {
  const { store, video, settle } = await playing({ refuses: ({ muted }) => !muted });
  video.pause();
  await settle();
  assert.deepEqual([video.paused, video.muted, store.get().status], [false, true, "live"]);
  const all = await playing({ refuses: () => true });
  all.video.pause();
  await all.settle();
  assert.deepEqual([all.store.get().status, all.store.get().paused], ["blocked", true]);
});

test("one that pauses again and again is tried less and less often", async () => {
  const { video, delays, settle } = await playing();
  let times = 0;
  video.addEventListener("play", () => (times += 1) < 6 && queueMicrotask(() => video.pause()));
  video.pause();
  await settle();
  assert.deepEqual(delays.slice(0, 4), [250, 500, 1000, 2000]);
  assert.equal(video.paused, false);
});

test("where a change of rate is punished there is one at most, and in WebKit none", async () => {
  const { video, pace, settle } = await playing({ muted: true });
  video.punishes = true;
  pace.set(1.05);
  await settle();
  assert.deepEqual([video.paused, video.muted, video.playbackRate], [false, true, 1]);
  pace.set(1.05);
  assert.equal(video.playbackRate, 1);
  const webkit = new FakeVideo();
  const apple = createPace(webkit, { navigator: { vendor: "Apple Computer, Inc." } });
  apple.set(1.05);
  assert.equal(webkit.playbackRate, 1);
  apple.set(1.05, 1.5);
  assert.equal(webkit.playbackRate, 1.5, "the viewer's own speed holds everywhere");
});

test("headphones that are pulled out pause, whether the browser tells of them before or after it has paused", async () => {
  const unplug = (devices) => devices.dispatchEvent(new Event("devicechange"));
  const before = await playing();
  unplug(before.devices);
  before.video.pause();
  await before.settle();
  assert.deepEqual([before.video.paused, before.store.get().paused, before.video.plays], [true, true, 0]);
  const after = await playing();
  after.video.pause();
  await after.settle();
  unplug(after.devices);
  await after.settle();
  assert.deepEqual([after.video.paused, after.store.get().paused, after.store.get().following], [true, true, false]);
  after.controls.play();
  await after.settle();
  assert.equal(after.video.paused, false);
});

test("other devices alone pause nothing, and what is silent or pauses later plays on", async () => {
  for (const { muted, ms } of [{ muted: true, ms: 0 }, { muted: false, ms: 3000 }]) {
    const { store, video, devices, pass, settle } = await playing({ muted });
    devices.dispatchEvent(new Event("devicechange"));
    await settle();
    assert.equal(video.paused, false);
    pass(ms);
    video.pause();
    await settle();
    assert.deepEqual([video.paused, store.get().paused], [false, false]);
  }
});

test("a page that nobody sees takes the sound from no other program, and plays on when it is seen", async () => {
  const { document, store, video, settle } = await playing();
  document.hidden = true;
  video.pause();
  await settle();
  assert.deepEqual([video.paused, video.plays, store.get().paused], [true, 0, false]);
  document.hidden = false;
  document.dispatchEvent(new Event("visibilitychange"));
  await settle();
  assert.deepEqual([video.paused, store.get().paused, store.get().following], [false, false, true]);
});
