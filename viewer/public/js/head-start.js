// What a start needs first is asked for while the page's script is on its way (embed.js): the playlists, and the
// server's first word. Each answer is for the first who asks for it.
import { NOW, eventsAfter, streamOf } from "./addresses.js";
import { createChoices } from "./choices.js";
import { firstVariant } from "./playlist.js";

const FRESH = 3000; // ms
const WITHIN = 15000; // ms for an answer

/** {since, answer} by address; a property of the window, because embed.js and the page's script are two. */
const asked = () => (window.broadcasterHeadStart ??= new Map());

/** As fetch does; the answer has its text already, and tells when it was asked for and came (`start`, `first`, of performance.now()). */
async function ask(url, cache) {
  const start = performance.now();
  const answer = await fetch(url, { cache, signal: AbortSignal.timeout(WITHIN) });
  const first = performance.now();
  const text = await answer.text();
  return Object.assign(answer, { start, first, text: async () => text });
}

function askAhead(url, cache) {
  const answer = ask(url, cache);
  asked().set(url, { since: performance.now(), answer });
  answer.catch(() => {}); // who wants it asks again
  return answer;
}

/** `written` are the settings in a page of a stream. */
export async function beginAhead(written, base = document.baseURI) {
  const { playlistUrl, eventsUrl } = streamOf(written, base);
  if (eventsUrl !== null && written.events !== "server-sent") askAhead(eventsAfter(NOW, eventsUrl), "no-store");
  const answer = await askAhead(playlistUrl, "no-cache");
  const text = answer.ok ? await answer.text() : "";
  const variant = firstVariant(text, answer.url, createChoices().load().bandwidth ?? null);
  if (variant !== null) askAhead(variant, "no-cache");
}

/** As fetch does, with what was asked for ahead. */
export function fetchAhead(url, options) {
  const { since = -Infinity, answer } = asked().get(url) ?? {};
  asked().delete(url);
  return performance.now() - since <= FRESH ? answer.catch(() => fetch(url, options)) : fetch(url, options);
}
