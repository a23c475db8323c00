// The playlists that a look at the stream has fetched, for the player that begins with it: nobody asks for them twice.
import { fetchAhead } from "./head-start.js";
import { durationIn } from "./playlist.js";

const FRESH = 3000; // ms

/**
 * `take(url)` gives, once, what `get` fetched a moment ago, else null: {url, answer: as fetch gave it, text, age in
 * seconds, start, first, end}.
 */
export function createPlaylistPrefetch({ get = fetchAhead, now = () => performance.now() } = {}) {
  const found = new Map();
  let duration = null;
  return Object.freeze({
    /** As fetch does. */
    async get(url, options) {
      const since = now();
      const answer = await get(url, options);
      const { start = since, first = now() } = answer;
      if (!answer.ok) return answer;
      const text = await answer.text();
      duration = durationIn(text) ?? duration;
      const age = Number(answer.headers.get("Age")) || 0;
      found.set(url, Object.freeze({ url: answer.url || url, answer, text, age, start, first, end: now() }));
      return { ok: true, status: answer.status, url: answer.url, text: async () => text };
    },
    /** How long segments are, in seconds, by the last look that found some; else null. */
    duration: () => duration,
    take(url) {
      const answer = found.get(url) ?? null;
      found.delete(url);
      return answer !== null && now() - answer.first <= FRESH ? answer : null;
    },
  });
}
