// A viewer without a screen, for tests of the tracker: hls.js's parser, p2p-media-loader and its tracker client as
// browsers run them. WebRTC is a fake. Says as lines of JSON what it is told.
//
//   node --experimental-websocket --conditions=p2pml:core-as-bundle swarm-viewer.mjs NAME PAGE TRACKER RUN
import { EventEmitter } from "node:events";
import { fakePeerConnection, SessionDescription } from "./fake-webrtc.mjs";

const [name, page, tracker, run] = process.argv.slice(2);
const say = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);

Object.assign(globalThis, {
  window: globalThis,
  self: globalThis,
  location: new URL(page),
  XMLHttpRequest: class {},
  RTCPeerConnection: fakePeerConnection(name, say),
  RTCSessionDescription: SessionDescription,
  RTCIceCandidate: class {},
});
if (!globalThis.navigator) globalThis.navigator = { userAgent: "node" };
const { M3U8Parser } = await import("hls.js");
const { HlsJsP2PEngine } = await import("p2p-media-loader-hlsjs");

class Loader {
  stats = {};
  destroy() {}
}

async function playlist(url) {
  const response = await fetch(url);
  return { networkDetails: response, url: response.url, text: await response.text() };
}

/** The levels that hls.js tells of: of a multivariant playlist, or of the media playlist in its place. */
function levelsOf({ text, url }) {
  if (!text.includes("#EXT-X-STREAM-INF")) return [{ attrs: {}, bitrate: 0, name: "", url }];
  return M3U8Parser.parseMasterPlaylist(text, url).levels;
}

const hls = Object.assign(new EventEmitter(), { config: {}, userConfig: {} });
const tell = (event, data) => hls.emit(event, event, data);
const engine = new HlsJsP2PEngine({
  core: { swarmId: `broadcaster-${run}`, announceTrackers: [tracker], rtcConfig: { iceServers: [] } },
});
for (const kind of ["onTrackerWarning", "onTrackerError"]) {
  engine.addEventListener(kind, ({ warning, error }) => say({ type: kind, message: (warning ?? error).message }));
}
engine.bindHls(hls);
const { fLoader, pLoader } = engine.getConfigForHlsJs();
new pLoader({ loader: Loader });

const main = await playlist(new URL("/live/playlist.m3u8", page));
const levels = levelsOf(main);
tell("hlsManifestLoaded", { levels, audioTracks: [], networkDetails: main.networkDetails });
const media = levels.length === 1 && levels[0].url === main.url ? main : await playlist(levels[0].url);
const details = M3U8Parser.parseLevelPlaylist(media.text, media.url, 0, "main", 0, null);
tell("hlsLevelUpdated", { details });
const { url } = details.fragments.at(-1);
new fLoader({ loader: Loader }).load({ url, rangeStart: 0, rangeEnd: 0 }, {}, {
  onSuccess: ({ data }) => say({ type: "loaded", bytes: data.byteLength }),
  onError: ({ text }) => say({ type: "failed", message: text }),
});
say({ type: "joined", levels: levels.length });
