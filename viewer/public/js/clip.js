// Keeps the last half minute of what is on screen: the service makes a clip of it, with a link of its own.
import { dateAt } from "./timeline.js";

const [LENGTH, LEAST, MOST] = [30, 5, 90]; // seconds
const WITHIN = 20000; // ms; the service waits some seconds for the bucket
const ERRORS = { 409: "clipGone", 429: "clipOften" };

/** What was seen last, {begin, end} in ms since the epoch; null where that is too short, or nobody told the time. */
export function spanOf({ position, timeline, fallback }) {
  if (position === null || timeline === null || timeline.anchors.length === 0 || fallback) return null;
  const { anchors, start } = timeline;
  const end = Math.floor(dateAt(anchors, position));
  const begin = Math.ceil(dateAt(anchors, Math.max(start, position - LENGTH)));
  // The encoder was away for long meanwhile: what came after it.
  const { date } = anchors.findLast(({ at }) => at <= position) ?? anchors[0];
  const from = end - begin > 1000 * MOST ? Math.ceil(date) : begin;
  return end - from < 1000 * LEAST ? null : { begin: from, end };
}

/** Asks for it; the state's `clip` says how that goes. */
export async function clip({ store, get = fetch }) {
  const { clipsUrl, pageUrl, clip: before } = store.get();
  if (clipsUrl === null || before?.stage === "making") return;
  const say = (stage, more = {}) => store.set({ clip: Object.freeze({ stage, url: null, ...more }) });
  const span = spanOf(store.get());
  if (span === null) {
    say("clipShort");
    return;
  }
  say("making");
  try {
    const answer = await get(clipsUrl, { method: "POST", body: JSON.stringify(span), signal: AbortSignal.timeout(WITHIN) });
    if (!answer.ok) {
      say(ERRORS[answer.status] ?? "clipFailed");
      return;
    }
    const { path } = await answer.json();
    if (typeof path !== "string") throw new Error("an answer without a clip");
    say("made", { url: new URL(path, pageUrl ?? clipsUrl).href });
  } catch (error) {
    console.info(error.message);
    say("clipFailed");
  }
}
