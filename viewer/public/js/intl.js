// Numbers, dates and durations as a language writes them, and texts with values in their places.

const made = new Map(); // formatters, which are slow to make

function formatter(kind, locale, options) {
  const key = JSON.stringify([kind, locale, options]);
  if (!made.has(key)) made.set(key, new Intl[kind](locale, options));
  return made.get(key);
}

export const formatNumber = (locale, value, options = {}) => formatter("NumberFormat", locale, options).format(value);

/** With so many decimal places. */
export const formatFixed = (locale, value, digits) =>
  formatNumber(locale, value, { minimumFractionDigits: digits, maximumFractionDigits: digits });

export const formatPercent = (locale, share) => formatNumber(locale, share, { style: "percent" });

/** "1.2 MB" */
export const formatUnit = (locale, value, unit, { digits = 0, display = "short" } = {}) =>
  formatNumber(locale, value, {
    style: "unit", unit, unitDisplay: display, minimumFractionDigits: digits, maximumFractionDigits: digits,
  });

/** "14:03:20", or "2:03:20 PM": dates and times are of the viewer's own clock. */
export const formatClock = (locale, date) => formatter("DateTimeFormat", locale, { timeStyle: "medium" }).format(date);

/** "22 Nov 2026, 09:12", of what was. */
export const formatDate = (locale, date) => formatter("DateTimeFormat", locale, { dateStyle: "medium", timeStyle: "short" }).format(date);

const START = { weekday: "long", day: "numeric", month: "long", hour: "numeric", minute: "2-digit", timeZoneName: "short" };

/** "Thursday, 24 December at 20:00 CET", of what is to come; time and zone stay on one line. access.html has the same. */
export function formatStart(locale, date) {
  const parts = formatter("DateTimeFormat", locale, START).formatToParts(date);
  const time = parts.findIndex(({ type }) => type === "hour" || type === "dayPeriod");
  return parts.map(({ value }, at) => (at > time ? value.replace(/\s/g, "\u00a0") : value)).join("");
}

/** "German", of "de"; null for what is no language that has a name. */
export function nameOfLanguage(locale, tag) {
  try {
    return tag === "und" ? null : (formatter("DisplayNames", locale, { type: "language", fallback: "none" }).of(tag) ?? null);
  } catch {
    return null;
  }
}

/** "14:03:20, 55 seconds behind live" */
export const formatList = (locale, parts) => formatter("ListFormat", locale, { type: "unit", style: "short" }).format(parts);

/**
 * The text of this name in `texts` (texts.js), with its values in the places of {their names}. Of several forms it is
 * the one that the language has for `count`.
 */
export function say(texts, name, values = {}) {
  const { locale, [name]: text } = texts;
  const form = typeof text === "string" ? text : (text[formatter("PluralRules", locale, {}).select(values.count)] ?? text.other);
  return form.replace(/\{(\w+)\}/g, (place, key) => {
    const value = values[key] ?? place;
    return typeof value === "number" ? formatNumber(locale, value) : value;
  });
}
