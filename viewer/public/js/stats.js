// Where the bytes come from, and how figures are shown.

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

export function formatBytes(bytes) {
  if (bytes < 1e6) return `${Math.round(bytes / 1e3)} kB`;
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`;
}

export function formatBitrate(bits) {
  return bits < 1e6 ? `${Math.round(bits / 1e3)} kbit/s` : `${(bits / 1e6).toFixed(1)} Mbit/s`;
}

/** "720p · 2.4 Mbit/s", as much of it as is known. */
export function formatLevel(level) {
  if (!level) return "–";
  const parts = [level.height ? `${level.height}p` : "", level.bitrate ? formatBitrate(level.bitrate) : ""];
  return parts.filter(Boolean).join(" · ") || "–";
}

/** From the camera to the screen where the stream tells its time, else from the playlist's end. */
export const behindLive = ({ delay, latency }) => delay ?? latency;

export function formatLatency(seconds) {
  return seconds === null ? "–" : `${seconds.toFixed(1)} s`;
}
