// A player for browsers that play HLS themselves and have no Media Source Extensions (older iPhones).
// They tell neither levels nor bytes; the growing end of the seekable range stands in for the playlist.
import { createCaptions } from "./captions.js";
import { anchorsOf } from "./timeline.js";

const BACK = 18; // seconds from the end, three segments of the usual length

export function createNativePlayer({ video, url, caption = null, start: begin = null, recorded = false, on, now = () => performance.now() }) {
  const off = new AbortController();
  const setCaption = createCaptions(video, { chosen: caption, changed: on.captions, signal: off.signal });
  const listen = (name, listener) => video.addEventListener(name, listener, { signal: off.signal });
  let advancedAt = null;
  let end = null;
  let played = false;

  const edge = () => (video.seekable.length ? video.seekable.end(video.seekable.length - 1) : null);
  const height = () => on.level(Object.freeze({ height: video.videoHeight, bitrate: 0 }));

  listen("resize", height);
  listen("playing", () => {
    played = true;
    height();
  });
  listen("waiting", () => {
    if (played && !video.seeking) on.stall();
  });
  listen("ended", () => on.over("ended"));
  listen("error", () => on.over("failed"));
  listen("loadedmetadata", () => begin !== null && (video.currentTime = begin));
  video.src = url;

  return Object.freeze({
    facts() {
      const latest = edge();
      if (latest !== null && latest !== end) {
        end = latest;
        advancedAt = now();
      }
      const start = latest === null ? null : video.seekable.start(0);
      const latency = latest === null ? null : Math.max(0, latest - video.currentTime);
      // A live stream lasts for ever; a finished one gets a duration.
      const live = !Number.isFinite(video.duration);
      return {
        live,
        whole: recorded,
        left: latency,
        advancedAt,
        targetDuration: 6, // not told; the usual one
        failing: false,
        heardAt: now(),
        latency,
        target: latency === null ? null : BACK,
        delay: null,
        gentle: false,
        start,
        sync: latest === null ? null : recorded && !live ? latest : latest - BACK,
        anchors: anchorsOf(start === null ? [] : [{ start: 0, date: video.getStartDate?.().getTime() }]),
      };
    },
    setQuality() {},
    setCaption,
    goLive() {
      const latest = edge();
      if (latest !== null) video.currentTime = Math.max(0, latest - BACK);
    },
    seek(position) {
      video.currentTime = position;
    },
    frame: () => 1 / 30,
    renew: () => on.over("switched"),
    destroy() {
      off.abort();
    },
  });
}
