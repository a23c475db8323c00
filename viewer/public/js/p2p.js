// Viewers pass video on to each other: p2p-media-loader, set up so that it does so on a live stream.
import { HIGH_DEMAND } from "./modes.js";

const HASH_PATIENCE = 1500; // ms to wait for the server's word about a segment that a peer has already brought
const GENEROSITY = 3; // times what the page has loaded itself: more it does not send to peers, however often they ask
const FLOOD = 64 * 2 ** 20; // bytes of no use, of which each useful one takes one back, after which peers are left
const FLOOD_PAUSE = 60000; // ms until they are met again

/** The library, null where it cannot be had. */
export async function loadLibrary() {
  try {
    return (await import("../vendor/p2p-media-loader-hlsjs.min.mjs")).HlsJsP2PEngine;
  } catch (error) {
    console.error(error);
    return null;
  }
}

/** Whether this browser can share: WebRTC, and hashes, which pages have only over HTTPS or on localhost. */
export const isCapable = (scope = globalThis) =>
  typeof scope.RTCPeerConnection === "function" && scope.crypto?.subtle !== undefined;

/**
 * One player's part in the swarm. `on` hears loaded(url, bytes, "bucket" | "peers"), rejected(), uploaded(bytes),
 * peers(count) and trackerLost(). The answer's `loader()` is hls.js's fragment loader while it shares, else null.
 */
export function createPeers({ Engine, trackerUrl, iceServers, catalog, run, enabled, gives, on }) {
  const connected = new Set();
  const whole = new Set(); // URLs that the bucket alone sends at the moment, from the first byte
  const moved = { loaded: 0, uploaded: 0 }; // bytes
  let giving = gives; // anything at all
  let resting = !gives; // from sending
  let useless = 0; // bytes
  let sharing = enabled;
  let swarm = run;
  const engine = new Engine({
    core: {
      swarmId: swarmOf(run),
      isP2PDisabled: !enabled,
      isP2PUploadDisabled: resting,
      announceTrackers: [trackerUrl],
      rtcConfig: { iceServers },
      // The default of 15 s is longer than a live player is behind: everything would come from the bucket.
      highDemandTimeWindow: HIGH_DEMAND,
      segmentMemoryStorageLimit: 256, // MiB
      validateP2PSegment: (url, _range, data) => judge(url, data, HASH_PATIENCE),
      httpRequestSetup(url, range, _signal, requested) {
        if ((requested?.start ?? 0) === (range?.start ?? 0)) whole.add(url);
      },
      // The library goes on from the bytes of a peer that fell silent, or takes them for all there are. It is in
      // need of them by then: without a hash they are not waited for, and all comes from the bucket.
      validateHTTPSegment: async (url, _range, data) => whole.delete(url) || judge(url, data, 0),
    },
  });
  const loaders = engine.getConfigForHlsJs();

  async function judge(url, data, patience) {
    const genuine = await isGenuine(catalog, url, data, patience);
    if (!genuine) on.rejected();
    return genuine;
  }

  // Each attempt begins with this, also one that goes on from the bytes of another, or only checks them.
  engine.addEventListener("onSegmentStart", ({ segment }) => whole.delete(segment.url));

  // Whole segments, not chunks: what is refused has saved nobody anything.
  engine.addEventListener("onSegmentLoaded", ({ segmentUrl, bytesLength, downloadSource }) => {
    weigh("loaded", bytesLength);
    if (downloadSource === "p2p") receive(-2 * bytesLength);
    on.loaded(segmentUrl, bytesLength, downloadSource === "p2p" ? "peers" : "bucket");
  });
  engine.addEventListener("onChunkDownloaded", (count, source) => {
    if (source === "p2p") receive(count);
  });
  engine.addEventListener("onChunkUploaded", (count) => {
    weigh("uploaded", count);
    on.uploaded(count);
  });
  engine.addEventListener("onPeerConnect", ({ peerId }) => on.peers(connected.add(peerId).size));
  engine.addEventListener("onPeerClose", ({ peerId }) => connected.delete(peerId) && on.peers(connected.size));
  for (const name of ["onTrackerWarning", "onTrackerError"]) {
    engine.addEventListener(name, ({ warning, error }) => {
      // A peer that cannot be reached is reported as a warning of the tracker's, too.
      if (!/^Connection error/.test((warning ?? error)?.message)) on.trackerLost();
    });
  }

  const apply = (core) => engine.applyDynamicConfig({ core });

  function weigh(way, count) {
    moved[way] += count;
    restIfDue();
  }

  function restIfDue() {
    const due = !giving || moved.uploaded > GENEROSITY * moved.loaded;
    if (due !== resting) apply({ isP2PUploadDisabled: (resting = due) });
  }

  /** A peer can send without end: the library takes what it asked for at any length, and sees through the rest. */
  function receive(count) {
    useless = Math.max(0, useless + count);
    if (useless <= FLOOD) return;
    useless = 0;
    apply({ isP2PDisabled: true });
    setTimeout(() => apply({ isP2PDisabled: !sharing }), FLOOD_PAUSE);
  }

  return Object.freeze({
    loader: () => (sharing ? loaders.fLoader : null),
    /** Lets the library listen to an hls.js; it does when the first playlist is loaded. */
    bind: (hls) => engine.bindHls(hls),
    listen: (config) => new loaders.pLoader(config),
    /** `enabled` says whether anything is shared at all, `gives` whether anything is sent. */
    share({ enabled: wanted, gives: generous }) {
      giving = generous;
      restIfDue();
      if (wanted === sharing) return;
      sharing = wanted;
      apply({ isP2PDisabled: !wanted });
    },
    /** Another encoder run: everybody changes to its swarm at this moment, and who comes later finds them there. */
    follow(next) {
      if (next === swarm) return;
      swarm = next;
      apply({ isP2PDisabled: true });
      apply({ swarmId: swarmOf(next), isP2PDisabled: !sharing });
    },
  });
}

const swarmOf = (run) => `broadcaster-${run ?? "unknown"}`;

/** Whether the bytes are those that the server has stored. What it has not told of is not taken from peers. */
export async function isGenuine(catalog, url, data, patience) {
  const segment = await catalog.wait(url, patience);
  if (!segment?.sha256) return false;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("") === segment.sha256;
}
