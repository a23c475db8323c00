// Where the bytes come from, and how figures are shown.
import { formatFixed, formatNumber, formatUnit } from "./intl.js";

/** Adds up bytes by where they come from: "bucket" (over HTTP) or "peers", and those given to peers, "uploaded". */
export function createLedger(store) {
  let bytes = { ...store.get().bytes };
  let hosts = { ...store.get().bytesByHost };
  let changed = false;
  return Object.freeze({
    /** `source` is null for what comes from neither, `host` the one it came from, if it was one. */
    add(source, count, host = null) {
      if (!(count > 0)) return;
      if (source) bytes = { ...bytes, [source]: bytes[source] + count };
      if (host) hosts = { ...hosts, [host]: (hosts[host] ?? 0) + count };
      changed = true;
    },
    /** Shows what was added. Peers send many small pieces: nobody needs to redraw for each. */
    flush() {
      if (!changed) return;
      changed = false;
      store.set({ bytes: Object.freeze(bytes), bytesByHost: Object.freeze(hosts) });
    },
  });
}

export function hostOf(url) {
  try {
    return new URL(url).host;
  } catch {
    return "";
  }
}

export function formatBytes(bytes, locale) {
  if (bytes < 1e6) return formatUnit(locale, bytes / 1e3, "kilobyte");
  const [value, unit, digits] = bytes < 1e9 ? [bytes / 1e6, "megabyte", 1] : [bytes / 1e9, "gigabyte", 2];
  return formatUnit(locale, value, unit, { digits });
}

export const formatBitrate = (bits, locale) =>
  bits < 1e6 ? `${formatNumber(locale, Math.round(bits / 1e3))} kbit/s` : `${formatFixed(locale, bits / 1e6, 1)} Mbit/s`;

/** "720p · 2.4 Mbit/s", as much of it as is known. */
export function formatLevel(level, locale) {
  if (!level) return "–";
  const parts = [level.height ? `${level.height}p` : "", level.bitrate ? formatBitrate(level.bitrate, locale) : ""];
  return parts.filter(Boolean).join(" · ") || "–";
}

/** From the camera to the screen where the stream tells its time, else from the playlist's end. */
export const behindLive = ({ delay, latency }) => delay ?? latency;

export const formatLatency = (seconds, locale) => (seconds === null ? "–" : `${formatFixed(locale, seconds, 1)} s`);
