// Passing the page on: by the system's own dialog, else by the clipboard.

/** What is passed on: of a recording its own page, with `moment` from where it stands; else the live page. */
export function addressOf({ pageUrl, recording, part, position, timeline }, location, { moment = false } = {}) {
  if (recording === null) return pageUrl ?? location.href;
  const url = new URL(location.pathname + location.search, pageUrl ?? location.href);
  for (const name of ["t", "part"]) url.searchParams.delete(name);
  if (!moment || timeline === null || position === null) return url.href;
  url.searchParams.set("t", String(Math.max(0, Math.floor(position - timeline.start))));
  if (part > 0) url.searchParams.set("part", String(part + 1));
  return url.href;
}

/** Resolves to "shared", "copied" or "failed"; a viewer who thinks better of it has shared nothing, and that is all. */
export async function share({ title, url }, { navigator = globalThis.navigator } = {}) {
  try {
    if (navigator.share) {
      await navigator.share({ title, url });
      return "shared";
    }
    await navigator.clipboard.writeText(url);
    return "copied";
  } catch (error) {
    return error?.name === "AbortError" ? "shared" : "failed";
  }
}
