// In a private event: when a guest's access is over, the page gives way to the one that says so, and that asks.

const REFUSED = 401;
let asking = false;

/** Hears the status of each answer. The page itself is asked first: a playlist may be refused for another reason. */
export async function noteRefusal(status, { page = globalThis.location, get = fetch } = {}) {
  if (status !== REFUSED || asking) return;
  asking = true;
  try {
    const answer = await get(page.href, { method: "HEAD", cache: "no-store" });
    if (answer.status === REFUSED) page.reload();
  } catch {
    // No answer: whoever asks next finds out.
  } finally {
    asking = false;
  }
}
