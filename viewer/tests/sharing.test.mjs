import assert from "node:assert/strict";
import { afterEach, mock, test } from "node:test";
import { judgeSharing, tuning } from "../public/js/modes.js";
import { createSharing, isMobile, isSaving } from "../public/js/sharing.js";
import { createStore } from "../public/js/state.js";
import { bufferAhead, playerHealth } from "../public/js/player-health.js";

afterEach(() => mock.timers.reset());

test("low delay keeps the next segment's time and a bit; without events the server's HOLD-BACK holds", () => {
  const distance = (segment, target, told = true) => tuning("low-delay", { segment, target, told }).distance;
  assert.equal(distance(1, 1), 3);
  assert.equal(distance(2, 2), 4.5);
  assert.equal(distance(2.02, 3), 4.5);
  assert.equal(distance(6, 6), 10.5);
  assert.equal(distance(2, 2, false), null);
});

test("sharing keeps five segments, of long ones a few seconds more than HOLD-BACK", () => {
  const distance = (segment, target) => tuning("sharing", { segment, target, told: false }).distance;
  assert.equal(distance(1, 1), 6.5);
  assert.equal(distance(2, 2), 10);
  assert.equal(distance(4, 4), 18);
  assert.equal(distance(6, 6), 24);
  assert.equal(tuning("sharing", { segment: 2, target: 2, told: true, shared: true }).ahead, 4);
  assert.equal(tuning("sharing", { segment: 2, target: 2, told: true, shared: false }).ahead, 30);
});

test("each reason not to share is told, the first that holds", () => {
  const well = { offered: true, capable: true, saving: false, mobile: false, gone: false, told: true, mode: "sharing" };
  const judge = (patch) => {
    const { available, enabled, reason } = judgeSharing({ ...well, ...patch });
    return [available, enabled, reason];
  };
  assert.deepEqual(judge({}), [true, true, null]);
  assert.deepEqual(judge({ offered: false, capable: false }), [false, false, null]);
  assert.deepEqual(judge({ capable: false }), [false, false, "unsupported"]);
  assert.deepEqual(judge({ saving: true }), [true, false, "saving"]);
  assert.deepEqual(judge({ mobile: true }), [true, true, "mobile"]);
  assert.deepEqual(judge({ mobile: true, gone: true }), [true, false, "tracker"]);
  assert.deepEqual(judge({ gone: true }), [true, false, "tracker"]);
  assert.deepEqual(judge({ told: false }), [true, false, "tracker"]);
  assert.deepEqual(judge({ told: null }), [true, false, null]);
  assert.deepEqual(judge({ mode: "low-delay" }), [true, false, null]);
});

function sharing(connection) {
  mock.timers.enable({ apis: ["setTimeout"] });
  const store = createStore();
  store.set({ mode: "sharing" });
  const applied = [];
  const made = createSharing({ store, offered: true, capable: true, connection, apply: ({ enabled }) => applied.push(enabled) });
  return { store, made, applied, p2p: () => store.get().p2p };
}

test("a page shares when it hears of hashes, and stops when it has not heard for a while", () => {
  const { made, applied, p2p } = sharing();
  assert.deepEqual(p2p(), { available: true, enabled: false, gives: true, peers: 0, reason: null });
  made.hears(true);
  assert.equal(p2p().enabled, true);
  made.hears(false);
  mock.timers.tick(9999);
  made.hears(true);
  mock.timers.tick(60000);
  assert.equal(p2p().enabled, true);
  made.hears(false);
  mock.timers.tick(10000);
  assert.deepEqual([p2p().enabled, p2p().reason], [false, "tracker"]);
  assert.deepEqual(applied, [true, false]);
});

test("a lost tracker ends sharing only for who has no peers, and is tried again", () => {
  const { made, p2p } = sharing();
  made.hears(true);
  made.setPeers(2);
  made.trackerLost();
  assert.deepEqual([p2p().enabled, p2p().peers], [true, 2]);
  made.setPeers(0);
  made.trackerLost();
  assert.deepEqual([p2p().enabled, p2p().reason], [false, "tracker"]);
  mock.timers.tick(60000);
  assert.deepEqual([p2p().enabled, p2p().reason], [true, null]);
});

test("the mode and the connection switch it as they change", () => {
  const connection = Object.assign(new EventTarget(), { saveData: false });
  const { made, applied, p2p } = sharing(connection);
  made.hears(true);
  made.setPeers(3);
  made.setMode("low-delay");
  assert.deepEqual(p2p(), { available: true, enabled: false, gives: true, peers: 0, reason: null });
  made.setMode("sharing");
  connection.saveData = true;
  connection.dispatchEvent(new Event("change"));
  assert.equal(p2p().reason, "saving");
  connection.saveData = false;
  connection.dispatchEvent(new Event("change"));
  made.setMode("low-delay");
  assert.deepEqual([p2p().enabled, p2p().reason], [false, null]);
  made.setCapable(false);
  assert.deepEqual([p2p().available, p2p().reason], [false, "unsupported"]);
  assert.deepEqual(applied, [true, false, true, false, true, false]);
  made.rejected();
});

test("a mobile connection takes from peers and gives nothing, as long as it is one", () => {
  const connection = Object.assign(new EventTarget(), { type: "cellular" });
  const { made, p2p } = sharing(connection);
  made.hears(true);
  assert.deepEqual([p2p().enabled, p2p().gives, p2p().reason], [true, false, "mobile"]);
  connection.type = "wifi";
  connection.dispatchEvent(new Event("change"));
  assert.deepEqual([p2p().enabled, p2p().gives, p2p().reason], [true, true, null]);
});

test("what the browser does not tell is neither mobile nor saved", () => {
  assert.deepEqual([{ saveData: true }, { type: "wifi" }, undefined].map(isSaving), [true, false, false]);
  assert.deepEqual([{ type: "cellular" }, { type: "wifi" }, undefined].map(isMobile), [true, false, false]);
});

test("the buffer ahead is that of the range around the picture", () => {
  const ranges = [[0, 4], [10, 16.04]];
  const buffered = { length: 2, start: (index) => ranges[index][0], end: (index) => ranges[index][1] };
  assert.equal(bufferAhead({ buffered, currentTime: 12 }), 4);
  assert.equal(bufferAhead({ buffered, currentTime: 5 }), null);
  const frames = Object.freeze({ dropped: 1, total: 2 });
  const video = { buffered, currentTime: 3, getVideoPlaybackQuality: () => ({ droppedVideoFrames: 1, totalVideoFrames: 2 }) };
  assert.equal(playerHealth(video, frames).frames, frames);
  assert.deepEqual(playerHealth({ buffered, currentTime: 3 }, frames), { buffer: 1, frames: { dropped: 0, total: 0 } });
});
