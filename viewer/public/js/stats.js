// Where the bytes come from, and how figures are shown.

/** Adds up bytes by source: the host of a segment's address, later also "p2p". */
export function createLedger(store) {
  return Object.freeze({
    add(source, bytes) {
      if (!source || !(bytes > 0)) return;
      const { bytesByHost } = store.get();
      const sum = (bytesByHost[source] ?? 0) + bytes;
      store.set({ bytesByHost: Object.freeze({ ...bytesByHost, [source]: sum }) });
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

/** Behind by more than the wanted distance and a bit: worth a "go live" button. */
export function isBehind(latency, target, targetDuration) {
  return latency !== null && target !== null && latency > target + Math.max(2 * targetDuration, 4);
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

export function formatLatency(seconds) {
  return seconds === null ? "–" : `${seconds.toFixed(1)} s`;
}
