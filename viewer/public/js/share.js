// Passing the page on: by the system's own dialog, else by the clipboard.

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
