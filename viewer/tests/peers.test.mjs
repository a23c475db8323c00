import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mock, test } from "node:test";
import { createPeers, isCapable, isGenuine } from "../public/js/p2p.js";

test("a browser can share with WebRTC and hashes", () => {
  assert.equal(isCapable({ RTCPeerConnection: class {}, crypto: { subtle: {} } }), true);
  assert.equal(isCapable({ RTCPeerConnection: class {}, crypto: {} }), false); // a page over plain HTTP
  assert.equal(isCapable({ crypto: { subtle: {} } }), false);
});

const data = new TextEncoder().encode("segment");
const sha256 = createHash("sha256").update(data).digest("hex");
const catalogOf = (segment) => ({ wait: async () => segment });

test("bytes of a peer are taken only if the server's hash is theirs", async () => {
  assert.equal(await isGenuine(catalogOf({ sha256 }), "u", data), true);
  assert.equal(await isGenuine(catalogOf({ sha256 }), "u", data.slice(1)), false);
  assert.equal(await isGenuine(catalogOf({ sha256: null }), "u", data), false);
  assert.equal(await isGenuine(catalogOf(null), "u", data), false);
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

function peers(enabled, catalog = catalogOf(null), gives = true) {
  const heard = [];
  const on = new Proxy({}, { get: (_, name) => (...values) => heard.push([name, ...values]) });
  const made = createPeers({
    Engine: FakeEngine, trackerUrl: "wss://t.example", iceServers: [], run: "r1", enabled, gives, on, catalog,
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

test("what a peer may have begun is taken only with the server's hash, what the bucket sent from the start without", async () => {
  const { engine, heard } = peers(true);
  const { listeners, core } = engine;
  const begin = () => listeners.onSegmentStart({ segment: { url: "u" } });
  const ask = (range, requested) => core.httpRequestSetup("u", range, undefined, requested);
  const isTaken = () => core.validateHTTPSegment("u", undefined, data);

  begin();
  ask(undefined, undefined);
  assert.equal(await isTaken(), true);
  begin();
  ask({ start: 100, end: 199 }, { start: 100, end: 199 });
  assert.equal(await isTaken(), true);
  assert.deepEqual(heard, []);

  begin();
  ask(undefined, { start: 1 });
  assert.equal(await isTaken(), false);
  begin();
  ask({ start: 100, end: 199 }, { start: 150, end: 199 });
  assert.equal(await isTaken(), false);
  begin();
  ask(undefined, undefined); // which failed, and peers sent the rest: there is nothing left to ask for
  begin();
  begin();
  assert.equal(await isTaken(), false);
  assert.deepEqual(heard, [["rejected"], ["rejected"], ["rejected"]]);

  const told = peers(true, catalogOf({ sha256 })).engine;
  assert.equal(await told.core.validateHTTPSegment("u", undefined, data), true);
  assert.equal(await told.core.validateHTTPSegment("u", undefined, data.slice(1)), false);
});

test("a page that has sent three times what it has loaded sends nothing until it has loaded more", () => {
  const { engine } = peers(true);
  const { onSegmentLoaded, onChunkUploaded } = engine.listeners;
  const load = (bytesLength) => onSegmentLoaded({ segmentUrl: "u", bytesLength, downloadSource: "http" });
  load(100);
  onChunkUploaded(300);
  assert.deepEqual(engine.applied, []);
  onChunkUploaded(1);
  onChunkUploaded(64);
  assert.deepEqual(engine.applied, [{ isP2PUploadDisabled: true }]);
  load(10);
  assert.equal(engine.applied.length, 1);
  load(12);
  load(100);
  assert.deepEqual(engine.applied, [{ isP2PUploadDisabled: true }, { isP2PUploadDisabled: false }]);
});

test("who gives nothing takes all the same, and gives again when the connection is another", () => {
  const { made, engine } = peers(true, catalogOf(null), false);
  assert.deepEqual([engine.core.isP2PDisabled, engine.core.isP2PUploadDisabled, made.loader()], [false, true, "fLoader"]);
  engine.listeners.onSegmentLoaded({ segmentUrl: "u", bytesLength: 100, downloadSource: "http" });
  assert.deepEqual(engine.applied, []);
  made.share({ enabled: true, gives: true });
  made.share({ enabled: true, gives: false });
  assert.deepEqual(engine.applied, [{ isP2PUploadDisabled: false }, { isP2PUploadDisabled: true }]);
});

test("peers that send much of no use are left for a minute, those whose video is used are not", () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  const { engine } = peers(true);
  const { onSegmentLoaded, onChunkDownloaded } = engine.listeners;
  const MIB = 2 ** 20;
  for (let round = 0; round < 20; round += 1) {
    onChunkDownloaded(60 * MIB, "p2p", "a"); // half of which was given up, and came from the bucket
    onSegmentLoaded({ segmentUrl: "u", bytesLength: 30 * MIB, downloadSource: "p2p" });
  }
  onChunkDownloaded(1000 * MIB, "http");
  onChunkDownloaded(64 * MIB, "p2p", "a");
  assert.deepEqual(engine.applied, []);
  onChunkDownloaded(1, "p2p", "a");
  assert.deepEqual(engine.applied, [{ isP2PDisabled: true }]);
  mock.timers.tick(60000);
  assert.deepEqual(engine.applied, [{ isP2PDisabled: true }, { isP2PDisabled: false }]);
  mock.timers.reset();
});

test("sharing is switched while the player plays, and another run is another swarm", () => {
  const { made, engine } = peers(false);
  assert.equal(made.loader(), null);
  made.share({ enabled: false, gives: true });
  made.share({ enabled: true, gives: true });
  assert.equal(made.loader(), "fLoader");
  made.follow("r1");
  made.follow("r2");
  made.share({ enabled: false, gives: true });
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
