// Where a viewer is in the window, over pauses, jumps and new players.
import assert from "node:assert/strict";
import { test } from "node:test";
import { hasSpeed, speedBy } from "../public/js/pace.js";
import { createPlace } from "../public/js/place.js";
import { createSeeking } from "../public/js/seeking.js";
import { createStore } from "../public/js/state.js";
import { hasLive } from "../public/js/ui/bar.js";

const NOON = Date.UTC(2026, 5, 1, 12);

/** A window of 300 s whose end is `edge`; time passes by `pass(seconds)`, half a second a tick. */
function watching(initial = {}) {
  const store = createStore();
  store.set({ paused: false, ...initial });
  const video = { currentTime: 396, paused: false, readyState: 4, playbackRate: 1, ahead: 4 };
  video.buffered = { length: 1, start: () => 0, end: () => video.currentTime + video.ahead };
  let now = 0;
  let edge = 400;
  let noon = NOON;
  const heard = [];
  const player = {
    seek: (position) => {
      heard.push(position);
      video.currentTime = position;
    },
    goLive: () => player.seek(edge - 4),
    renew: () => heard.push("renew"),
    frame: () => 0.04,
  };
  const place = createPlace({ video, store });
  let live = true;
  const tick = (fresh = true) => {
    const start = edge - 300;
    const anchors = [{ at: 0, date: noon }];
    const facts = { live, gentle: true, start, sync: edge - 4, anchors, latency: edge - video.currentTime, target: 4, targetDuration: 2 };
    store.set(place.tick({ player, facts, playing: !video.paused, fresh, now }));
  };
  const pass = (seconds, { stands = false } = {}) => {
    for (let t = 0; t < seconds; t += 0.5) {
      now += 500;
      edge += live ? 0.5 : 0;
      if (!video.paused && !stands) video.currentTime += 0.5;
      tick();
    }
  };
  const pause = (paused) => {
    video.paused = paused;
    store.set({ paused, ...(paused ? { following: false } : {}) });
  };
  const seeking = createSeeking({ video, store, playback: player, play: () => pause(false), pause: () => pause(true) });
  return { store, video, heard, pass, pause, seeking, anchor: (date) => (noon = date), end: () => (live = false) };
}

test("a pause of four minutes stays, and resumes where it was", () => {
  const { store, video, heard, pass, pause } = watching();
  pass(2);
  const { currentTime } = video;
  pause(true);
  pass(240);
  pause(false);
  pass(2);
  assert.deepEqual([video.currentTime, heard], [currentTime + 2, []]);
  assert.deepEqual([store.get().behind, store.get().following, store.get().gone], [true, false, false]);
});

test("who is behind watches at a speed of their own, and at live there is one for all", () => {
  const { store, video, pass } = watching({ following: false, speed: 2 });
  video.currentTime = 200;
  pass(1);
  assert.deepEqual([video.playbackRate, hasSpeed(store.get())], [2, true]);
  video.currentTime = 397;
  pass(1);
  assert.deepEqual([video.playbackRate, store.get().speed, hasSpeed(store.get())], [1, 1, false]);
  assert.deepEqual([speedBy(1, 1), speedBy(2, 1), speedBy(0.5, -1)], [1.25, 2, 0.5]);
});

test("who comes back to live by a short way follows it again", () => {
  const { store, pass, pause } = watching();
  pass(1);
  pause(true);
  pass(0.5);
  pause(false);
  pass(1);
  assert.deepEqual([store.get().behind, store.get().following], [false, true]);
});

test("who follows is live until much is missing, and then until little is", () => {
  const { store, video, pass } = watching();
  const behind = [];
  for (const latency of [6, 18, 19.5, 18, 15, 13, 18]) {
    video.currentTime = 400.5 + behind.length / 2 - latency;
    pass(0.5, { stands: true });
    behind.push(store.get().behind);
  }
  assert.deepEqual(behind, [false, false, true, true, true, false, false]);
  assert.equal(store.get().following, true);
});

test("when the window has left a paused viewer it says so, and play goes on from where it begins", () => {
  const { store, video, pass, pause, seeking } = watching();
  pass(1);
  pause(true);
  pass(290);
  assert.equal(store.get().gone, false);
  pass(20);
  assert.equal(store.get().gone, true);
  seeking.play();
  assert.deepEqual([store.get().gone, video.paused], [false, false]);
  assert.equal(video.currentTime, store.get().timeline.first);
});

test("where more is kept than the window has, a player of that goes on at the time of the pause", () => {
  const { store, heard, pass, pause, seeking } = watching({ kept: "/kept" });
  pass(1);
  pause(true);
  pass(0.5);
  const { date } = store.get();
  pass(400);
  assert.deepEqual([store.get().gone, store.get().replay, heard], [false, null, []]);
  seeking.play();
  pass(0.5);
  assert.deepEqual([store.get().replay, store.get().date, heard], [["/kept"], date, ["renew"]]);
  const late = watching({ kept: "/kept", replay: ["/kept"] }); // which does not have it either
  late.video.currentTime = 390;
  late.pass(1);
  late.pause(true);
  late.pass(400);
  assert.equal(late.store.get().gone, true);
  late.pause(false);
  late.pass(0.5);
  assert.equal(late.heard[0], late.store.get().timeline.first);
});

test("who has caught up with what is played in the stream's place goes on in the stream, but for one that is over", () => {
  for (const over of [false, true]) {
    const { store, video, heard, pass, end } = watching({ replay: ["/kept"], following: false });
    video.currentTime = 390;
    pass(1);
    assert.deepEqual(heard, []);
    const { date } = store.get();
    if (over) end();
    video.currentTime = store.get().timeline.live + 1;
    pass(0.5);
    assert.deepEqual([store.get().replay, heard], over ? [["/kept"], []] : [null, ["renew"]]);
    if (!over) assert.equal(store.get().date, date, "where the next player begins");
  }
});

test("so it does when the stream has ended meanwhile, and where nothing is kept that is said", () => {
  for (const kept of ["/kept", null]) {
    const { store, heard, pass, pause, seeking, end } = watching({ kept });
    pass(1);
    pause(true);
    pass(400);
    end();
    pass(10);
    const { date, gone, timeline } = store.get();
    assert.equal(gone, kept === null);
    seeking.play();
    pass(0.5);
    assert.deepEqual([store.get().date, heard], [kept ? date : NOON + 1000 * (timeline.first + 0.5), [kept ? "renew" : timeline.first]]);
  }
});

test("the time of a pause is not told by what the window has later", () => {
  const { store, pass, pause, anchor } = watching();
  pass(1);
  pause(true);
  pass(0.5);
  const { date } = store.get();
  anchor(NOON + 3600000);
  pass(5);
  assert.equal(store.get().date, date);
});

test("a viewer who follows is brought back after a stall, and offered what was missed", () => {
  const { store, video, heard, pass, seeking } = watching();
  pass(1);
  const { date } = store.get();
  pass(13, { stands: true });
  const { missed } = store.get();
  assert.ok(missed.seconds > 10 && missed.seconds < 14, `${missed.seconds}`);
  assert.equal(missed.date, date);
  assert.equal(heard.length, 1, "the picture has jumped to live, once");
  seeking.watchMissed();
  assert.deepEqual([video.currentTime, store.get().following, store.get().missed], [(date - NOON) / 1000, false, null]);
});

test("an offer does not stay for ever", () => {
  const { store, pass } = watching();
  pass(1);
  pass(13, { stands: true });
  pass(30);
  assert.ok(store.get().missed);
  pass(40);
  assert.equal(store.get().missed, null);
});

test("a new player takes a viewer back to the place that was chosen, and offers others what they missed", () => {
  const left = { date: NOON + 200000 };
  const chosen = watching({ ...left, following: false });
  chosen.pass(1);
  assert.deepEqual([chosen.heard, chosen.store.get().following], [[200], false]);
  const lost = watching({ date: NOON + 340000, following: true });
  lost.pass(1);
  assert.deepEqual(lost.heard, []);
  assert.equal(Math.round(lost.store.get().missed.seconds), 57);
});

test("keys and the bar move within the window, the end of it is live, and pictures step while paused", () => {
  const { store, video, heard, pass, pause, seeking } = watching();
  pass(1);
  seeking.seekBy(10);
  assert.deepEqual(heard, [], "there is nothing after live");
  seeking.seekBy(-10);
  assert.deepEqual([heard.length, store.get().following], [1, false]);
  pass(0.5);
  seeking.seekPart(0);
  assert.equal(video.currentTime, store.get().timeline.first);
  pass(0.5);
  seeking.seekTo(1e9);
  assert.equal(store.get().following, true);
  pass(0.5);
  const before = video.currentTime;
  seeking.stepFrames(1);
  assert.equal(video.currentTime, before, "while it plays there is nothing to step");
  pause(true);
  seeking.stepFrames(-1);
  assert.equal(video.currentTime, before - 0.04);
});

test("the way to live is offered where there is a live to go to", () => {
  const offered = (phase, behind = false, recording = null) => hasLive({ phase, behind, recording });
  for (const phase of ["live", "behind", "gone"]) assert.equal(offered(phase), true, phase);
  for (const phase of ["buffering", "slow"]) assert.deepEqual([offered(phase), offered(phase, true)], [false, true], phase);
  for (const phase of ["encoder", "delivery", "reconnecting", "waiting", "blocked", "rest", "ended", "recorded", "over"]) {
    assert.equal(offered(phase, true), false, phase);
  }
  assert.equal(offered("gone", true, {}), false, "of a recording");
});
