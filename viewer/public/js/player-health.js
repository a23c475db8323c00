// What the video element itself tells: how much is ahead, and whether the device keeps up.

/** {buffer, frames} as in state.js; `before` is the frames of the last look, kept while nothing is different. */
export function playerHealth(video, before) {
  const { droppedVideoFrames: dropped = 0, totalVideoFrames: total = 0 } = video.getVideoPlaybackQuality?.() ?? {};
  const same = before.dropped === dropped && before.total === total;
  return { buffer: bufferAhead(video), frames: same ? before : Object.freeze({ dropped, total }) };
}

/** Seconds that can be played from here on without a gap, null when there is nothing at this place. */
export function bufferAhead({ buffered, currentTime }) {
  for (let index = 0; index < (buffered?.length ?? 0); index += 1) {
    if (buffered.start(index) <= currentTime && currentTime < buffered.end(index)) {
      return Math.round(10 * (buffered.end(index) - currentTime)) / 10;
    }
  }
  return null;
}
