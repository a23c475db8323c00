// While there is nothing to play: look again now and then, until there is.
import { noteRefusal } from "./access.js";
import { backoff } from "./backoff.js";
import { firstVariant, judgePlaylist } from "./playlist.js";

const pace = { first: 3000, factor: 1.4, most: 12000 };
const FOUND = new Set(["live", "ended", "absent", "unreachable"]);
// How a service says that it has no such playlist, or none now; other refusals are trouble on the way.
const refusals = Object.freeze({ 404: "absent", 410: "absent", 503: "offline" });

/** Pause before look number `looks` (from 0); a tab nobody sees looks less often. */
export function pollDelay(looks, hidden = false, random = Math.random) {
  return backoff(looks, pace, random) * (hidden ? 3 : 1);
}

/**
 * One look: "live", "ended", "absent", "offline" (there is nothing to play now) or "unreachable".
 * A multivariant playlist does not say whether it is finished, so the variant is asked that a player with this
 * `bandwidth` begins with.
 */
export async function findStream(url, get = fetch, bandwidth = null) {
  try {
    let text = await read(url, get);
    if (text.kind === "multivariant") {
      const variant = firstVariant(text.body, text.url, bandwidth);
      if (variant === null) return "offline";
      text = await read(variant, get);
    }
    return FOUND.has(text.kind) ? text.kind : "offline";
  } catch {
    return "unreachable";
  }
}

async function read(url, get) {
  // "no-cache" asks with the ETag of the last answer: mostly a 304 without a body.
  const answer = await get(url, { cache: "no-cache", signal: AbortSignal.timeout(15000) });
  if (answer.ok) {
    const body = await answer.text();
    return { kind: judgePlaylist(body), body, url: answer.url || url };
  }
  noteRefusal(answer.status);
  return { kind: refusals[answer.status] ?? "unreachable" };
}

/** Resolves when a stream is on; `onFound` hears what each request found. */
export async function waitForStream({ url, onFound, alarm, hidden = () => false, look = findStream, random }) {
  for (let looks = 0; ; looks += 1) {
    const found = await look(url);
    if (found === "live") return;
    onFound(found);
    await alarm.sleep(pollDelay(looks, hidden(), random));
  }
}
