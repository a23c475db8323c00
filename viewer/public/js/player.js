// A player made of hls.js and a video element. It reports; what to make of it is decided in session.js.
import { createAudioTracks } from "./audio-tracks.js";
import { createCaptions } from "./captions.js";
import { Hls, createHls } from "./engine.js";
import { createLink } from "./link.js";
import { tuning } from "./modes.js";
import { describeLevel, describeLevels, matchLevel } from "./quality.js";
import { createRepair } from "./recover.js";
import { createWindow } from "./window.js";

/**
 * `on` takes what happens: levels(list), level(one), captions(list), audioTracks(list), bandwidth(bits per second), error(), stall(),
 * resume(), changed() (the playlist or the buffer), over("ended" | "failed" | "switched" | "undecodable", the codecs of the last). `serverEvents` are the page's (server-events.js). The answer is what session.js drives.
 */
export function createPlayer({ video, url, quality, caption, audioTrack = null, bandwidth = null, start = null, serverEvents, on, make = createHls, now = () => performance.now() }) {
  const segmentSource = serverEvents.connect();
  const hls = make({ ...segmentSource.config, ...(bandwidth && { abrEwmaDefaultEstimate: bandwidth }), ...(start !== null && { startPosition: start }) });
  segmentSource.bind(hls);
  const repair = createRepair({ hls, video, over: on.over, resume: on.resume, now });
  const view = createWindow(hls, video);
  const link = createLink();
  const off = new AbortController();
  const setCaption = createCaptions(video, { chosen: caption, changed: on.captions, signal: off.signal });
  const setAudioTrack = createAudioTracks(hls, { chosen: audioTrack, changed: on.audioTracks });
  const { Events, ErrorDetails } = Hls;
  let live = true;
  let advancedAt = null;
  let answeredAt = now();
  let targetDuration = 2;
  let failing = false;
  let distance = null;
  let playing = null; // the address of the segment on screen
  let mode = serverEvents.mode();

  /** Follows the mode and the length of the segments; `target` in seconds. */
  function tune(segment, target) {
    const wanted = tuning(mode, { segment, target, told: serverEvents.told(), shared: segmentSource.isShared() });
    hls.config.maxBufferLength = hls.config.maxMaxBufferLength = wanted.ahead;
    if (wanted.distance === distance || wanted.distance === null) return;
    distance = wanted.distance;
    hls.targetLatency = distance;
  }

  const setQuality = (wanted) => void (hls.nextLevel = matchLevel(hls.levels, wanted));
  const tellLevel = () => {
    const level = hls.levels[hls.currentLevel];
    if (level) on.level(describeLevel({ height: level.height, bitrate: level.bitrate || level.realBitrate }));
  };

  const hears = (answered) => {
    failing = !answered;
    if (answered) answeredAt = now();
  };

  hls.on(Events.MANIFEST_PARSED, () => {
    on.levels(describeLevels(hls.levels));
    if (quality !== "auto") setQuality(quality);
  });
  hls.on(Events.LEVELS_UPDATED, () => on.levels(describeLevels(hls.levels)));
  hls.on(Events.LEVEL_SWITCHED, tellLevel);
  hls.on(Events.LEVEL_LOADED, () => hears(true));
  hls.on(Events.LEVEL_UPDATED, (_event, { details }) => {
    live = details.live;
    targetDuration = details.targetduration;
    tune(details.averagetargetduration || targetDuration, targetDuration);
    for (const hear of [view.update, serverEvents.listed]) hear(details);
    if (details.advanced) advancedAt = now();
  });
  hls.on(Events.FRAG_LOADED, (_event, { frag }) => {
    tellLevel();
    if (!segmentSource.isShared()) link.note(loadOf(frag, hls.levels));
  });
  hls.on(Events.FRAG_BUFFERED, () => segmentSource.isShared() || on.bandwidth(Math.round(hls.bandwidthEstimate)));
  hls.on(Events.FRAG_CHANGED, (_event, { frag }) => {
    playing = frag.url;
    serverEvents.played(frag.url);
  });
  for (const name of [Events.LEVEL_UPDATED, Events.FRAG_BUFFERED]) hls.on(name, () => on.changed?.());
  hls.on(Events.MEDIA_ENDED, () => {
    if (!live) on.over("ended");
  });
  hls.on(Events.ERROR, (_event, error) => {
    on.error();
    if (error.details === ErrorDetails.BUFFER_STALLED_ERROR) on.stall();
    // A 503 is the service's own word for a blocking reload in vain: nothing is new. Where it is away, others answer.
    if (/^(manifest|level)Load/.test(error.details)) hears(error.response?.code === 503);
    if (error.fatal) repair.fatal(error);
  });

  /** From the camera to the screen, in seconds: the playlist tells the encoder's time, the server by how much it is wrong. */
  function delay() {
    const date = hls.playingDate;
    return date ? (serverEvents.serverTime() - (date.getTime() - serverEvents.encoderOffset(playing))) / 1000 : null;
  }

  const goLive = () => hls.liveSyncPosition !== null && (video.currentTime = hls.liveSyncPosition);

  // Where to begin is decided when the first playlist is there, before it can be asked about its segments.
  if (serverEvents.duration() !== null) tune(serverEvents.duration(), Math.ceil(serverEvents.duration()));
  hls.loadSource(url);
  hls.attachMedia(video);

  return Object.freeze({
    facts: () => ({
      live,
      advancedAt,
      targetDuration,
      failing,
      heardAt: Math.max(answeredAt, serverEvents.heardAt()),
      target: hls.targetLatency,
      delay: delay(),
      gentle: true,
      slow: link.isSlow(),
      ahead: hls.config.maxBufferLength,
      ...view.look(),
    }),
    setQuality,
    setCaption,
    setAudioTrack,
    goLive,
    seek: (position) => void (video.currentTime = position),
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
    renew: () => on.over("switched"),
    /** Its playlists end, and others take their place: what cannot be read of them any more is no failure. */
    replaced: repair.replaced,
    share: segmentSource.share,
    news: segmentSource.news,
    destroy() {
      off.abort();
      repair.stop();
      hls.destroy();
      segmentSource.close();
    },
  });
}

/** What link.js wants to know of a segment that has come. */
function loadOf({ stats: { loading }, duration, level }, levels) {
  const lowest = Math.min(...levels.map(({ bitrate }) => bitrate));
  return { took: (loading.end - loading.start) / 1000, duration, lowest: levels[level]?.bitrate === lowest };
}
