// While there is nothing to play: look again now and then, until there is.
import { backoff } from "./backoff.js";
import { firstVariant, judgePlaylist } from "./playlist.js";

const pace = { first: 3000, factor: 1.4, most: 12000 };

/** Pause before look number `looks` (from 0); a tab nobody sees looks less often. */
export function pollDelay(looks, hidden = false, random = Math.random) {
  return backoff(looks, pace, random) * (hidden ? 3 : 1);
}

/**
 * One look: "live", "offline" (the server says there is nothing) or "unreachable".
 * A finished playlist is offline: its last seconds are no stream. A multivariant playlist
 * does not say whether it is finished, so the variant is asked that a player with this `bandwidth` begins with.
 */
export async function lookForStream(url, get = fetch, bandwidth = null) {
  try {
    let text = await read(url, get);
    if (text.kind === "multivariant") {
      const variant = firstVariant(text.body, text.url, bandwidth);
      if (variant === null) return "offline";
      text = await read(variant, get);
    }
    if (text.kind === "refused") return "unreachable";
    return text.kind === "live" ? "live" : "offline";
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
  // 404 and 503 are how a service says "no stream yet"; other refusals are trouble on the way.
  return { kind: [404, 410, 503].includes(answer.status) ? "absent" : "refused" };
}

/** Resolves when a stream is on; `looked` hears what each look found. */
export async function waitForStream({ url, looked, alarm, hidden = () => false, look = lookForStream }) {
  for (let looks = 0; ; looks += 1) {
    const found = await look(url);
    if (found === "live") return;
    looked(found);
    await alarm.sleep(pollDelay(looks, hidden()));
  }
}
