// Figures as people read them.

const ISO = /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)/g;
const UNITS = ["B", "kB", "MB", "GB", "TB"];

/** As the service's sentences have it. */
export function bytes(count) {
  if (count === null) return "–";
  let value = count;
  let unit = 0;
  while (value >= 1000 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${value >= 100 || unit === 0 ? Math.round(value) : value.toFixed(1)} ${UNITS[unit]}`;
}

export const whole = (value) => (value === null || value === undefined ? "–" : Math.round(value).toLocaleString("en"));
export const percent = (share) => (share === null ? "–" : `${Math.round(100 * share)} %`);
export const megabits = (bits) => (bits === null ? "–" : `${(bits / 1e6).toFixed(1)} Mbit/s`);
export const perSecond = (value) => (value === null ? "–" : `${value < 10 ? value.toFixed(1) : Math.round(value)}/s`);
export const milliseconds = (seconds) => (seconds === null || seconds === undefined ? "–" : `${Math.round(1000 * seconds)} ms`);

/** Seconds, by their two largest units. */
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 100) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  return minutes < 60 ? `${minutes} min ${whole % 60} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export const dollars = (value) => `${value < 0 ? "−" : ""}$${Math.abs(value).toFixed(Math.abs(value) < 1 ? 4 : 2)}`;

export const seconds = (value) => (value === null || value === undefined ? "–" : `${value.toFixed(1)} s`);

/** A 95th percentile, beside its median; "" without one. */
export const most = (write, value) => (value === null || value === undefined ? "" : `95 % ≤ ${write(value)}`);

/** A time that need not be exact, as the service's sentences have it. */
export function span(seconds) {
  if (seconds < 100) return `${Math.round(seconds)} s`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}

/**
 * A sentence of the service, which has the words of its log: begun as a sentence, with times on the operator's own
 * clock, and without the address of the bucket.
 */
export function forOperator(text, now = Date.now()) {
  const plain = text.replace(/[A-Z]+ to https?:\/\/[^\s,]+, bucket '[^']*': /g, "").replace(ISO, (time) => {
    const at = Date.parse(time);
    const isToday = new Date(at).toDateString() === new Date(now).toDateString();
    return isToday ? clock(at) : new Date(at).toLocaleString("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
  });
  return /^https?:/.test(plain) ? plain : plain.charAt(0).toUpperCase() + plain.slice(1);
}

/** Local time in 24 hours, of milliseconds since the epoch. */
export const clock = (time, more = { second: "2-digit" }) =>
  new Date(time).toLocaleTimeString("en", { hour: "2-digit", minute: "2-digit", hourCycle: "h23", ...more });
