// Addresses among the page's settings, and those that a start needs first.

export function parseUrl(value, base) {
  if (typeof value !== "string" || value.trim() === "") return null;
  try {
    return new URL(value, base);
  } catch {
    return null;
  }
}

export function address(value, base) {
  const url = parseUrl(value, base);
  return url !== null && /^https?:$/.test(url.protocol) ? url.href : null;
}

/** Where the playlist is, and what tells of the stream: "events" beside the playlist, null where there is nothing. */
export function streamOf({ playlistUrl: playlist, eventsUrl: events }, base) {
  const playlistUrl = address(playlist, base) ?? address("/live/playlist.m3u8", base);
  return { playlistUrl, eventsUrl: events === null ? null : (address(events, base) ?? address("events", playlistUrl)) };
}

export const NOW = "now"; // in the place of a serial: the whole state

/** Where the server holds a request for what comes after `serial`. */
export function eventsAfter(serial, eventsUrl) {
  const url = new URL(eventsUrl);
  url.pathname = `${url.pathname.replace(/\/$/, "")}/${serial}`;
  return url.href;
}
