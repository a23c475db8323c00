// The two ways to watch: as close to live as it goes, or further behind and with video from other viewers.

export const LOW_DELAY = "low-delay";
export const SHARING = "sharing";

/** Seconds of video that decide at the last moment: what peers have not brought by then comes from the bucket. */
export const HIGH_DEMAND = 2.5;

const AHEAD = 30; // seconds that hls.js keeps by itself

/**
 * How far behind the end of the playlist to play, in seconds, null to leave it to the server's HOLD-BACK; and
 * how much hls.js itself keeps ahead. `segment` and `target` are a segment's usual and longest duration,
 * `told` says whether the server tells of segments as they come, `shared` whether peers bring them.
 */
export function tuning(mode, { segment, target, told, shared }) {
  // With peers the way ahead is the library's: it fetches from them while there is time.
  const ahead = shared ? Math.max(2 * target, HIGH_DEMAND) : AHEAD;
  if (mode === SHARING) {
    // Five segments are what peers need to pass them on; of long ones that would be half a minute.
    const distance = Math.max(3 * target, Math.min(5 * segment, 3 * target + 6), 4 + HIGH_DEMAND);
    return { distance: halves(distance), ahead };
  }
  // HOLD-BACK leaves room for players that learn late of a segment. One that is told needs the segment that is
  // on its way, half of one for its jitter, and what a fetch can take.
  return { distance: told ? halves(Math.min(1.5 * segment + 1.5, 3 * target)) : null, ahead };
}

/** Segments differ a little in length; the distance must not change with each. */
const halves = (seconds) => Math.round(2 * seconds) / 2;

/**
 * Whether viewers share, and if not, or only by half, why. `facts`: offered (the operator has a tracker), capable
 * (the browser), saving (data, by the viewer's wish), mobile (the connection), gone (the tracker), told (of hashes;
 * null: not yet), mode. On a mobile connection, where sending is dear, nothing is given.
 */
export function judgeSharing({ offered, capable, saving, mobile, gone, told, mode }) {
  const available = offered && capable;
  const reason = !offered ? null
    : !capable ? "unsupported"
    : saving ? "saving"
    : gone || told === false ? "tracker"
    : null;
  const enabled = available && reason === null && told === true && mode === SHARING;
  return { available, enabled, gives: !mobile, reason: reason ?? (available && mobile ? "mobile" : null) };
}
