// The page's settings: an optional config.json beside index.html. Nothing is taken from the address bar.

export const defaults = Object.freeze({ playlistUrl: "/live/playlist.m3u8", title: "Live stream" });

function httpUrl(value, base) {
  if (typeof value !== "string" || value.trim() === "") return null;
  try {
    const url = new URL(value, base);
    return url.protocol === "http:" || url.protocol === "https:" ? url.href : null;
  } catch {
    return null;
  }
}

/** Settings that are sound whatever `raw` holds: what is missing or wrong takes its default. */
export function parseConfig(raw, base) {
  const given = raw !== null && typeof raw === "object" ? raw : {};
  const title = typeof given.title === "string" ? given.title.trim().slice(0, 200) : "";
  return Object.freeze({
    playlistUrl: httpUrl(given.playlistUrl, base) ?? httpUrl(defaults.playlistUrl, base),
    title: title || defaults.title,
  });
}

/** Reads config.json beside the page; a page without one works on its defaults. */
export async function loadConfig(base, get = fetch) {
  try {
    const answer = await get(new URL("config.json", base), { cache: "no-cache" });
    return parseConfig(answer.ok ? await answer.json() : null, base);
  } catch {
    return parseConfig(null, base);
  }
}
