// A player made of hls.js and a video element. It reports; what to make of it is decided in session.js.
import { Hls, createHls } from "./engine.js";
import { describeLevel, describeLevels, matchLevel } from "./quality.js";
import { createRecovery } from "./recover.js";
import { hostOf } from "./stats.js";

/**
 * `tell` takes what happens: levels(list), level(one), stall(), bytes(source, count), over("ended" | "failed").
 * The answer is what session.js drives: facts(), setQuality(), goLive(), destroy().
 */
export function createPlayer({ video, url, quality, tell, make = createHls, now = () => performance.now() }) {
  const hls = make();
  const recovery = createRecovery();
  const { Events, ErrorDetails } = Hls;
  let live = true;
  let advancedAt = null;
  let targetDuration = 2;
  let failing = false;
  let retry = 0;

  const setQuality = (wanted) => {
    hls.nextLevel = matchLevel(hls.levels, wanted);
  };
  const tellLevel = () => {
    const level = hls.levels[hls.currentLevel];
    if (level) tell.level(describeLevel({ height: level.height, bitrate: level.bitrate || level.realBitrate }));
  };

  hls.on(Events.MANIFEST_PARSED, () => {
    tell.levels(describeLevels(hls.levels));
    if (quality !== "auto") setQuality(quality);
  });
  hls.on(Events.LEVELS_UPDATED, () => tell.levels(describeLevels(hls.levels)));
  hls.on(Events.LEVEL_SWITCHED, tellLevel);
  hls.on(Events.LEVEL_LOADED, () => {
    failing = false;
  });
  hls.on(Events.LEVEL_UPDATED, (_event, { details }) => {
    live = details.live;
    targetDuration = details.targetduration;
    if (details.advanced) advancedAt = now();
  });
  hls.on(Events.FRAG_LOADED, (_event, { frag, part, networkDetails }) => {
    const address = networkDetails?.responseURL || networkDetails?.url || frag.url;
    tell.bytes(hostOf(address), (part ?? frag).stats.loaded);
    tellLevel();
  });
  hls.on(Events.MEDIA_ENDED, () => {
    if (!live) tell.over("ended");
  });
  hls.on(Events.ERROR, (_event, error) => {
    if (error.details === ErrorDetails.BUFFER_STALLED_ERROR) tell.stall();
    if (/^(manifest|level)Load/.test(error.details)) failing = true;
    if (error.fatal) repair(error);
  });

  function repair({ type, details, response }) {
    const { step, delay } = recovery({ type, details, status: response?.code }, now());
    if (step === "rebuild") {
      tell.over("failed");
      return;
    }
    clearTimeout(retry);
    retry = setTimeout(() => (step === "media" ? hls.recoverMediaError() : hls.startLoad()), delay);
  }

  hls.loadSource(url);
  hls.attachMedia(video);

  return Object.freeze({
    facts: () => ({
      live,
      advancedAt,
      targetDuration,
      failing,
      latency: advancedAt === null ? null : hls.latency,
      target: hls.targetLatency,
    }),
    setQuality,
    goLive() {
      const position = hls.liveSyncPosition;
      if (position !== null) video.currentTime = position;
    },
    destroy() {
      clearTimeout(retry);
      hls.destroy();
    },
  });
}
