// A player made of hls.js and a video element. It reports; what to make of it is decided in session.js.
import { createCaptions } from "./captions.js";
import { Hls, createHls } from "./engine.js";
import { createLink } from "./link.js";
import { tuning } from "./modes.js";
import { describeLevel, describeLevels, matchLevel } from "./quality.js";
import { createRepair } from "./recover.js";
import { createWindow } from "./window.js";

/**
 * `tell` takes what happens: levels(list), level(one), captions(list), bandwidth(bits per second), error(),
 * stall(),
 * over("ended" | "failed" | "switched"). `feed` is the page's (feed.js). The answer is what session.js drives.
 */
export function createPlayer({ video, url, quality, caption, bandwidth = null, feed, tell, make = createHls, now = () => performance.now() }) {
  const line = feed.connect();
  const hls = make({ ...line.config, ...(bandwidth && { abrEwmaDefaultEstimate: bandwidth }) });
  line.bind(hls);
  const repair = createRepair({ hls, over: tell.over, now });
  const view = createWindow(hls, video);
  const link = createLink();
  const off = new AbortController();
  const setCaption = createCaptions(video, { chosen: caption, tell: tell.captions, signal: off.signal });
  const { Events, ErrorDetails } = Hls;
  let live = true;
  let advancedAt = null;
  let answeredAt = now();
  let targetDuration = 2;
  let failing = false;
  let distance = null;
  let playing = null; // the address of the segment on screen
  let mode = feed.mode();

  /** Follows the mode and the length of the segments; `target` in seconds. */
  function tune(segment, target) {
    const wanted = tuning(mode, { segment, target, told: feed.told(), shared: line.isShared() });
    hls.config.maxBufferLength = hls.config.maxMaxBufferLength = wanted.ahead;
    if (wanted.distance === distance || wanted.distance === null) return;
    distance = wanted.distance;
    hls.targetLatency = distance;
  }

  const setQuality = (wanted) => void (hls.nextLevel = matchLevel(hls.levels, wanted));
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
    answeredAt = now();
  });
  hls.on(Events.LEVEL_UPDATED, (_event, { details }) => {
    live = details.live;
    targetDuration = details.targetduration;
    tune(details.averagetargetduration || targetDuration, targetDuration);
    view.update(details);
    if (details.advanced) advancedAt = now();
  });
  hls.on(Events.FRAG_LOADED, (_event, { frag }) => {
    tellLevel();
    if (!line.isShared()) link.note(loadOf(frag, hls.levels));
  });
  hls.on(Events.FRAG_BUFFERED, () => line.isShared() || tell.bandwidth(Math.round(hls.bandwidthEstimate)));
  hls.on(Events.FRAG_CHANGED, (_event, { frag }) => {
    playing = frag.url;
    feed.played(frag.url);
  });
  hls.on(Events.MEDIA_ENDED, () => {
    if (!live) tell.over("ended");
  });
  hls.on(Events.ERROR, (_event, error) => {
    tell.error();
    if (error.details === ErrorDetails.BUFFER_STALLED_ERROR) tell.stall();
    if (/^(manifest|level)Load/.test(error.details)) failing = true;
    if (error.fatal) repair.fatal(error);
  });

  /** From the camera to the screen, in seconds: the playlist tells the encoder's time, the server by how much it is wrong. */
  function delay() {
    const date = hls.playingDate;
    return date ? (feed.serverTime() - (date.getTime() - feed.encoderOffset(playing))) / 1000 : null;
  }

  function goLive() {
    const position = hls.liveSyncPosition;
    if (position !== null) video.currentTime = position;
  }

  // Where to begin is decided when the first playlist is there, before it can be asked about its segments.
  if (feed.duration() !== null) tune(feed.duration(), Math.ceil(feed.duration()));
  hls.loadSource(url);
  hls.attachMedia(video);

  return Object.freeze({
    facts: () => ({
      live,
      advancedAt,
      targetDuration,
      failing,
      heardAt: Math.max(answeredAt, feed.heardAt()),
      target: hls.targetLatency,
      delay: delay(),
      gentle: true,
      slow: link.isSlow(),
      ahead: hls.config.maxBufferLength,
      ...view.look(),
    }),
    setQuality,
    setCaption,
    goLive,
    seek(position) {
      video.currentTime = position;
    },
    frame: view.frame,
    /** `moves` is false for a viewer who is to stay where he is. */
    setMode(wanted, moves) {
      mode = wanted;
      const details = hls.latestLevelDetails;
      if (!details) return;
      tune(details.averagetargetduration || targetDuration, targetDuration);
      if (moves) goLive();
    },
    /** Another player is to take over: there is now what this one was made without. */
    renew: () => tell.over("switched"),
    /** Its playlists end, and others take their place: what cannot be read of them any more is no failure. */
    replaced: repair.replaced,
    share: line.share,
    news: line.news,
    destroy() {
      off.abort();
      repair.stop();
      hls.destroy();
      line.close();
    },
  });
}

/** What link.js wants to know of a segment that has come. */
function loadOf({ stats: { loading }, duration, level }, levels) {
  const lowest = Math.min(...levels.map(({ bitrate }) => bitrate));
  return { took: (loading.end - loading.start) / 1000, duration, lowest: levels[level]?.bitrate === lowest };
}
