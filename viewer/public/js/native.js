// A player for browsers that play HLS themselves and have no Media Source Extensions (older iPhones).
// They tell neither levels nor bytes; the growing end of the seekable range stands in for the playlist.
import { createCaptions } from "./captions.js";
import { codecsOfMap, unplayableIn } from "./codecs.js";
import { codecsIn, mapIn } from "./playlist.js";
import { anchorsOf } from "./timeline.js";

// Codes of MediaError: the media cannot be decoded, or no variant can.
const MEDIA_ERR_DECODE = 3;
const MEDIA_ERR_SRC_NOT_SUPPORTED = 4;
const BACK = 18; // seconds from the end, three segments of the usual length

export function createNativePlayer({ video, url, caption = null, start: begin = null, recorded = false, on, get = fetch, now = () => performance.now() }) {
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
  listen("error", async () => {
    const code = video.error?.code;
    if (code !== MEDIA_ERR_DECODE && code !== MEDIA_ERR_SRC_NOT_SUPPORTED) return on.over("failed");
    const lacking = await undecodableAt(url, video, get);
    if (off.signal.aborted) return;
    if (lacking === "") on.over("failed");
    else on.over("undecodable", lacking);
  });
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

/** The codecs for which this browser can play no variant of a playlist; "" if it can, or if that is unknown. */
async function undecodableAt(url, video, get) {
  try {
    const text = await (await get(url)).text();
    const variants = codecsIn(text);
    if (variants.length > 0) return unplayableIn(variants, video);
    const map = mapIn(text, url); // of a stream with one variant, which has no CODECS
    return map === null ? "" : unplayableIn([codecsOfMap(await (await get(map)).arrayBuffer())], video);
  } catch {
    return ""; // one of them cannot be had
  }
}
