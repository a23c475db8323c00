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

const stamp = (time) => new Date(time).toISOString().replace(/[-:]|\.\d+/g, "");
const escaped = (text) => text.replace(/[\\;,]/g, "\\$&").replace(/\s+/g, " ");

/** The date of the event for calendars (RFC 5545), which remind of it; `startsAt` in ms since the epoch. It has no end. */
export function calendarOf(title, startsAt, url, now = Date.now()) {
  const lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//broadcaster//viewer//EN", "BEGIN:VEVENT"];
  lines.push(`UID:${stamp(startsAt)}@${new URL(url).host}`, `DTSTAMP:${stamp(now)}`, `DTSTART:${stamp(startsAt)}`);
  lines.push(`SUMMARY:${escaped(title)}`, `URL:${url}`);
  lines.push("BEGIN:VALARM", "ACTION:DISPLAY", `DESCRIPTION:${escaped(title)}`, "TRIGGER:-PT10M", "END:VALARM");
  lines.push("END:VEVENT", "END:VCALENDAR");
  return lines.map((line) => `${folded(line)}\r\n`).join("");
}

/** A line of at most 75 bytes, and the rest of it in lines that begin with a space. */
function folded(line) {
  const rest = [];
  let bytes = 0;
  for (const letter of line) {
    const size = new TextEncoder().encode(letter).length;
    bytes += size;
    if (bytes > 75) {
      rest.push("\r\n ");
      bytes = 1 + size;
    }
    rest.push(letter);
  }
  return rest.join("");
}
