// What a player of player.js stands between: hls.js, a video element and the page's server events, as far as it touches them.
import { EventEmitter } from "node:events";
import { createCatalog } from "../../public/js/catalog.js";
import { Hls } from "../../public/js/engine.js";
import { createPlayer } from "../../public/js/player.js";

export class FakeVideo extends EventTarget {
  currentTime = 0;
  paused = false;
  textTracks = Object.assign(new EventTarget(), { *[Symbol.iterator]() {} });
}

export class FakeHls extends EventEmitter {
  config = {};
  levels = [];
  currentLevel = -1;
  audioTracks = [];
  audioTrack = -1;
  latency = 5;
  targetLatency = 4;
  playingDate = null;
  loads = 0;
  loadSource() {}
  attachMedia(video) {
    this.video = video;
  }
  recoverMediaError() {
    this.video.paused = true; // as an element is that gets another source
  }
  startLoad() {
    this.loads += 1;
  }
  destroy() {}
  /** An event as hls.js tells it, by the name it has in Hls.Events. */
  tell(name, data) {
    this.emit(Hls.Events[name], Hls.Events[name], data);
  }
}

/**
 * {hls, video, catalog, player, heard}: `heard` has what the session was told. `serverTime` in ms, `bandwidth` in bits per
 * second; `serverEvents` overrules.
 */
export function fakePlayer({ serverTime = () => 0, bandwidth = null, audioTrack = null, shared = false, ...serverEvents } = {}) {
  const hls = new FakeHls();
  const video = new FakeVideo();
  const catalog = createCatalog();
  const heard = [];
  const segmentSource = { config: {}, bind() {}, isShared: () => shared, share() {}, news() {}, close() {} };
  const player = createPlayer({
    video,
    url: "https://live.example/live/playlist.m3u8",
    quality: "auto",
    caption: null,
    audioTrack,
    bandwidth,
    serverEvents: {
      connect: () => segmentSource,
      mode: () => "low-delay",
      told: () => true,
      listed() {},
      heardAt: () => 0,
      duration: catalog.duration,
      encoderOffset: catalog.encoderOffset,
      played() {},
      serverTime,
      ...serverEvents,
    },
    on: {
      levels() {},
      level() {},
      captions() {},
      audioTracks: (tracks) => heard.push(tracks),
      resume: () => heard.push("resume"),
      bandwidth: (rate) => heard.push(rate),
      stall() {},
      error: () => heard.push("error"),
      over: (...reason) => heard.push(...reason),
    },
    make: (config) => Object.assign(hls, { config: { ...config } }),
    now: () => 0,
  });
  return { hls, video, catalog, player, heard };
}
