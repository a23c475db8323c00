// What is told of recordings and clips: by the service, or on a static host by the index in the bucket.

import { formatDate } from "./intl.js";

const ID = /^[\w-]{1,100}$/;
const text = (value) => (typeof value === "string" ? value.trim().slice(0, 200) : "");
const time = (value) => (Number.isFinite(Date.parse(value)) ? Date.parse(value) : null); // ms since the epoch

function address(value, base) {
  try {
    const url = new URL(value, base);
    return typeof value === "string" && /^https?:$/.test(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

/**
 * {id, title, started, ended (null while it is on), duration in seconds, parts (addresses of playlists), poster, file (the address of all of it), fileSize in bytes or null},
 * null for what is none. Addresses are relative to `base`, the folder of all recordings.
 */
export function recordingOf(raw, base) {
  const { id, title, started, begin, ended, end, duration, parts, playlist, poster, file } = raw ?? {};
  const from = time(started ?? begin);
  const to = time(ended ?? end);
  const found = [parts ?? playlist ?? []].flat().map((part) => address(part, base));
  if (!ID.test(id) || from === null || found.length === 0 || found.includes(null)) return null;
  return Object.freeze({
    id,
    title: text(title),
    started: from,
    ended: to,
    duration: Number.isFinite(duration) ? duration : Math.max(0, (to - from) / 1000),
    parts: Object.freeze(found),
    poster: address(poster, base),
    file: address(file?.url, base),
    fileSize: file?.size > 0 ? file.size : null,
  });
}

/** One page of the list: {recordings, older}, the address of the next one or null. */
export function pageOf(raw, base) {
  const { recordings, older } = raw ?? {};
  const found = (Array.isArray(recordings) ? recordings : []).map((entry) => recordingOf(entry, base));
  return { recordings: found.filter((recording) => recording !== null), older: address(older, base) };
}

/** A page of the list that lies there; raises what fetch raises, and an Error for an answer that is none. */
export async function readPage(url, get = fetch) {
  const answer = await get(url, { cache: "no-cache", signal: AbortSignal.timeout(15000) });
  if (answer.status === 404) return { recordings: [], older: null };
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  return pageOf(await answer.json(), url);
}

/** What somebody wants to watch, by the page's query where no service has written it: {file, id} or null. */
export function requestedBy(search) {
  const query = new URLSearchParams(search);
  for (const [name, file] of [["watch", (id) => `${id}/recording.json`], ["c", (id) => `../clips/${id}/clip.json`]]) {
    const id = query.get(name);
    if (id !== null && ID.test(id)) return { id, file: file(id) };
  }
  return null;
}

export const dateOf = ({ started }, locale) => formatDate(locale, started);

/** Its title, or its date where nobody gave it one. */
export const nameOf = (recording, locale) => recording.title || dateOf(recording, locale);
