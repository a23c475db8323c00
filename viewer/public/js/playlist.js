// Just enough reading of a playlist to decide whether there is something to play; hls.js does the rest.

const LATEST = 6; // segments; the last of a run is shorter

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

/** The duration of the longest of a playlist's last segments, in seconds; null where it has none. */
export function durationIn(text) {
  const durations = [];
  let duration = null;
  let gap = false;
  for (const line of lines(text)) {
    if (line.startsWith("#EXTINF:")) duration = Number.parseFloat(line.slice("#EXTINF:".length));
    else if (line === "#EXT-X-GAP") gap = true;
    else if (line !== "" && !line.startsWith("#")) {
      if (duration > 0 && !gap) durations.push(duration);
      gap = false;
    }
  }
  return durations.length ? Math.max(...durations.slice(-LATEST)) : null;
}

/** The CODECS attribute of each variant of a multivariant playlist, "" without one. */
export const codecsIn = (text) =>
  lines(text)
    .filter((line) => line.startsWith("#EXT-X-STREAM-INF:"))
    .map((line) => /[:,]CODECS="([^"]*)"/.exec(line)?.[1] ?? "");

/** The address of the last EXT-X-MAP of a media playlist at `base`; null without one. */
export function mapIn(text, base) {
  const map = lines(text).findLast((line) => line.startsWith("#EXT-X-MAP:"));
  const uri = /[:,]URI="([^"]+)"/.exec(map ?? "")?.[1];
  return uri === undefined ? null : new URL(uri, base).href;
}

/** The service's name for the variant with this playlist, null where the address has none. */
export const variantIn = (url) => /[^/:]\/([^/?#]+)\/[^/?#]+\.m3u8(?:[?#]|$)/.exec(url)?.[1] ?? null;

/**
 * The address of the variant of a multivariant playlist that hls.js begins with, or null: the first, or where the
 * viewer's bandwidth is known (bits per second) the best that it carries.
 */
export function firstVariant(text, base, bandwidth = null) {
  const all = lines(text);
  const rate = (line) => Number(/[:,]BANDWIDTH=(\d+)/.exec(line)?.[1]) || 0;
  const variants = [...all.keys()].filter((at) => all[at].startsWith("#EXT-X-STREAM-INF:"));
  if (bandwidth !== null) {
    const over = (at) => Math.max(0, rate(all[at]) - bandwidth); // what is missing to carry it
    variants.sort((a, b) => over(a) - over(b) || rate(all[b]) - rate(all[a]));
  }
  const [first] = variants;
  const uri = first === undefined ? undefined : all.slice(first + 1).find((line) => line !== "" && !line.startsWith("#"));
  try {
    return uri === undefined ? null : new URL(uri, base).href;
  } catch {
    return null;
  }
}

/** The address of the variant with the bit rate that hls.js names: AVERAGE-BANDWIDTH, else BANDWIDTH; of the best without it. */
export function variantWith(text, base, bitrate) {
  const all = lines(text);
  const rate = (line) => /[:,]AVERAGE-BANDWIDTH=(\d+)/.exec(line)?.[1] ?? /[:,]BANDWIDTH=(\d+)/.exec(line)?.[1];
  const at = all.findIndex((line) => line.startsWith("#EXT-X-STREAM-INF:") && Number(rate(line)) === bitrate);
  return firstVariant(all.slice(Math.max(0, at)).join("\n"), base, at < 0 ? Infinity : null);
}
