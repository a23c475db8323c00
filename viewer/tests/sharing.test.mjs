import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { afterEach, mock, test } from "node:test";
import { createBeacon } from "../public/js/beacon.js";
import { judgeSharing, tuning } from "../public/js/modes.js";
import { createPeers, isCapable, isGenuine } from "../public/js/p2p.js";
import { createSharing, isMetered } from "../public/js/sharing.js";
import { createStore } from "../public/js/state.js";
import { bufferAhead, vitals } from "../public/js/vitals.js";

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
  const well = { offered: true, capable: true, wanted: true, metered: false, gone: false, told: true, mode: "sharing" };
  const judge = (patch) => Object.values(judgeSharing({ ...well, ...patch }));
  assert.deepEqual(judge({}), [true, true, null]);
  assert.deepEqual(judge({ offered: false, capable: false }), [false, false, null]);
  assert.deepEqual(judge({ capable: false }), [false, false, "unsupported"]);
  assert.deepEqual(judge({ wanted: false, metered: true }), [true, false, "off"]);
  assert.deepEqual(judge({ metered: true }), [true, false, "metered"]);
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
  const made = createSharing({ store, offered: true, capable: true, wanted: true, connection, apply: (enabled) => applied.push(enabled) });
  return { store, made, applied, p2p: () => store.get().p2p };
}

test("a page shares when it hears of hashes, and stops when it has not heard for a while", () => {
  const { made, applied, p2p } = sharing();
  assert.deepEqual(p2p(), { available: true, enabled: false, peers: 0, reason: null });
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

test("the viewer's wish, the mode and the connection switch it as they change", () => {
  const connection = Object.assign(new EventTarget(), { saveData: false });
  const { made, applied, p2p } = sharing(connection);
  made.hears(true);
  made.setPeers(3);
  made.setWanted(false);
  assert.deepEqual(p2p(), { available: true, enabled: false, peers: 0, reason: "off" });
  made.setWanted(true);
  connection.saveData = true;
  connection.dispatchEvent(new Event("change"));
  assert.equal(p2p().reason, "metered");
  connection.saveData = false;
  connection.dispatchEvent(new Event("change"));
  made.setMode("low-delay");
  assert.deepEqual([p2p().enabled, p2p().reason], [false, null]);
  made.setCapable(false);
  assert.deepEqual([p2p().available, p2p().reason], [false, "unsupported"]);
  assert.deepEqual(applied, [true, false, true, false, true, false]);
  made.rejected();
});

test("saved data and cellular networks are metered, an unknown connection is not", () => {
  assert.equal(isMetered({ saveData: true }), true);
  assert.equal(isMetered({ type: "cellular" }), true);
  assert.equal(isMetered({ type: "wifi" }), false);
  assert.equal(isMetered(undefined), false);
});

test("a browser can share with WebRTC and hashes", () => {
  assert.equal(isCapable({ RTCPeerConnection: class {}, crypto: { subtle: {} } }), true);
  assert.equal(isCapable({ RTCPeerConnection: class {}, crypto: {} }), false); // a page over plain HTTP
  assert.equal(isCapable({ crypto: { subtle: {} } }), false);
});

test("bytes of a peer are taken only if the server's hash is theirs", async () => {
  const data = new TextEncoder().encode("segment");
  const sha256 = createHash("sha256").update(data).digest("hex");
  const catalog = (segment) => ({ wait: async () => segment });
  assert.equal(await isGenuine(catalog({ sha256 }), "u", data), true);
  assert.equal(await isGenuine(catalog({ sha256 }), "u", data.slice(1)), false);
  assert.equal(await isGenuine(catalog({ sha256: null }), "u", data), false);
  assert.equal(await isGenuine(catalog(null), "u", data), false);
});

/** As much of p2p-media-loader's engine as the page touches. */
class FakeEngine {
  applied = [];
  listeners = {};
  constructor({ core }) {
    this.core = core;
    FakeEngine.made = this;
  }
  getConfigForHlsJs = () => ({ fLoader: "fLoader", pLoader: class {} });
  getConfig = () => ({ core: { mainStream: this.core } });
  addEventListener(name, listener) {
    this.listeners[name] = listener;
  }
  applyDynamicConfig({ core }) {
    this.applied.push(core);
    Object.assign(this.core, core);
  }
}

function peers(enabled) {
  const heard = [];
  const tell = new Proxy({}, { get: (_, name) => (...values) => heard.push([name, ...values]) });
  const made = createPeers({
    Engine: FakeEngine, trackerUrl: "wss://t.example", iceServers: [], run: "r1", enabled, tell,
    catalog: { wait: async () => null },
  });
  return { made, heard, engine: FakeEngine.made };
}

test("the library gets our tracker, our ICE servers and the run's swarm, none of its own defaults", () => {
  const { engine } = peers(true);
  assert.deepEqual(engine.core.announceTrackers, ["wss://t.example"]);
  assert.deepEqual(engine.core.rtcConfig, { iceServers: [] });
  assert.equal(engine.core.swarmId, "broadcaster-r1");
  assert.ok(engine.core.highDemandTimeWindow <= 3);
});

test("sharing is switched while the player plays, and another run is another swarm", () => {
  const { made, engine } = peers(false);
  assert.equal(made.loader(), null);
  made.enable(false);
  made.enable(true);
  assert.equal(made.loader(), "fLoader");
  made.follow("r1");
  made.follow("r2");
  made.enable(false);
  made.follow("r3");
  assert.deepEqual(engine.applied, [
    { isP2PDisabled: false },
    { isP2PDisabled: true },
    { swarmId: "broadcaster-r2", isP2PDisabled: false },
    { isP2PDisabled: true },
    { isP2PDisabled: true },
    { swarmId: "broadcaster-r3", isP2PDisabled: true },
  ]);
});

test("peers are counted once each, and only the tracker's own troubles are the tracker's", async () => {
  const { engine, heard } = peers(true);
  const { listeners } = engine;
  listeners.onPeerConnect({ peerId: "a" });
  listeners.onPeerConnect({ peerId: "b" });
  listeners.onPeerClose({ peerId: "a" });
  listeners.onPeerClose({ peerId: "a" });
  listeners.onTrackerWarning({ warning: new Error("Connection error: Ice connection failed.") });
  listeners.onTrackerWarning({ warning: new Error("connection error to wss://t.example") });
  listeners.onSegmentLoaded({ segmentUrl: "u", bytesLength: 5, downloadSource: "p2p" });
  listeners.onSegmentLoaded({ segmentUrl: "v", bytesLength: 6, downloadSource: "http" });
  listeners.onChunkUploaded(7);
  assert.equal(await engine.core.validateP2PSegment("u", undefined, new ArrayBuffer(1)), false);
  assert.deepEqual(heard, [
    ["peers", 1], ["peers", 2], ["peers", 1], ["trackerLost"],
    ["loaded", "u", 5, "peers"], ["loaded", "v", 6, "bucket"], ["uploaded", 7], ["rejected"],
  ]);
});

test("the beacon tells what is new, and again what could not be sent", () => {
  mock.timers.enable({ apis: ["setInterval"] });
  const store = createStore();
  const page = new EventTarget();
  const sent = [];
  let works = true;
  let time = 0;
  const pass = (ms) => {
    for (let left = ms; left > 0; left -= 1000) {
      time += 1000;
      mock.timers.tick(1000);
    }
  };
  createBeacon({ url: "/b", store, page, now: () => time, send: (url, text) => works && sent.push([url, JSON.parse(text)]) });
  pass(60000);
  assert.deepEqual(sent, []); // nothing watched, nothing to tell
  store.set({ status: "live", paused: false, bytes: { bucket: 100, peers: 20, uploaded: 3 } });
  pass(30000);
  works = false;
  store.set({ bytes: { bucket: 150, peers: 20, uploaded: 3 } });
  pass(30000);
  works = true;
  store.set({ bytes: { bucket: 160, peers: 25, uploaded: 3 } });
  page.dispatchEvent(new Event("pagehide"));
  assert.deepEqual(sent, [
    ["/b", { httpBytes: 100, p2pBytes: 20, uploadedBytes: 3, seconds: 30 }],
    ["/b", { httpBytes: 60, p2pBytes: 5, uploadedBytes: 0, seconds: 30 }],
  ]);
});

test("the buffer ahead is that of the range around the picture", () => {
  const ranges = [[0, 4], [10, 16.04]];
  const buffered = { length: 2, start: (index) => ranges[index][0], end: (index) => ranges[index][1] };
  assert.equal(bufferAhead({ buffered, currentTime: 12 }), 4);
  assert.equal(bufferAhead({ buffered, currentTime: 5 }), null);
  const frames = Object.freeze({ dropped: 1, total: 2 });
  const video = { buffered, currentTime: 3, getVideoPlaybackQuality: () => ({ droppedVideoFrames: 1, totalVideoFrames: 2 }) };
  assert.equal(vitals(video, frames).frames, frames);
  assert.deepEqual(vitals({ buffered, currentTime: 3 }, frames), { buffer: 1, frames: { dropped: 0, total: 0 } });
});
