// Just enough reading of a playlist to decide whether there is something to play; hls.js does the rest.

const lines = (text) => text.split(/\r?\n/).map((line) => line.trim());

/**
 * "multivariant", or for a media playlist "live" (still growing, something in it), "ended" (ENDLIST),
 * "empty" (nothing playable yet); "invalid" for anything else.
 */
export function judgePlaylist(text) {
  const all = lines(text.replace(/^\uFEFF/, ""));
  if (all[0] !== "#EXTM3U") return "invalid";
  if (all.some((line) => line.startsWith("#EXT-X-STREAM-INF:"))) return "multivariant";
  if (!all.some((line) => line.startsWith("#EXT-X-TARGETDURATION:"))) return "invalid";
  if (all.includes("#EXT-X-ENDLIST")) return "ended";
  return hasMedia(all) ? "live" : "empty";
}

/** A segment counts unless EXT-X-GAP says that its bytes are missing. */
function hasMedia(all) {
  let gap = false;
  for (const line of all) {
    if (line === "#EXT-X-GAP") gap = true;
    else if (line !== "" && !line.startsWith("#")) {
      if (!gap) return true;
      gap = false;
    }
  }
  return false;
}

/** The address of the first variant of a multivariant playlist, or null. */
export function firstVariant(text, base) {
  const all = lines(text);
  const at = all.findIndex((line) => line.startsWith("#EXT-X-STREAM-INF:"));
  const uri = at < 0 ? undefined : all.slice(at + 1).find((line) => line !== "" && !line.startsWith("#"));
  try {
    return uri === undefined ? null : new URL(uri, base).href;
  } catch {
    return null;
  }
}
