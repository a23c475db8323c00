// What the rows mean. Pure.
import { latest } from "./headline.js";

const GIGABYTE = 1e9;
const MONTH = 30 * 24 * 3600; // seconds

/** How much a counter rose per second between two rows; null without two of them. */
export function rate(rows, name, most = 12) {
  const recent = rows.slice(-most);
  if (recent.length < 2) return null;
  const seconds = (recent.at(-1).time - recent[0].time) / 1000;
  return Math.max(0, recent.at(-1)[name] - recent[0][name]) / seconds;
}

/** Between each row and the one before it, per second. */
export const rates = (rows, name) =>
  rows.map((row, index) => (index === 0 || row[name] === null ? null : rate(rows.slice(index - 1, index + 1), name)));

/** The share of the video that viewers say they got from each other, 0 to 1; null before any report. */
export function peerShare({ bucketBytes, peerBytes }) {
  const all = bucketBytes + peerBytes;
  return all > 0 ? peerBytes / all : null;
}

/**
 * The rows, and the figures of this moment as a last one, so that no plot is behind its tile; what is counted up has none.
 * Pages report their delay twice a minute; while their picture stands still it is at least as long as that.
 */
export function upToNow({ now, rows, health, verdict }) {
  const { viewers, backlog, frozen } = health;
  const unknown = Object.fromEntries(Object.keys(rows.at(-1)).map((name) => [name, null]));
  const all = [...rows, { ...unknown, time: now, viewers, backlog, frozen: frozen ?? 0, failing: Number(verdict.severity === "failing") }];
  const stills = outages(all).filter(({ isStill }) => isStill);
  return all.map((row, index) => {
    const seconds = row.time / 1000;
    const still = stills.find(({ from, to }) => from < seconds && seconds <= to && (seconds < to || row.frozen > 0));
    const late = (name) => Math.max(seconds - still.from, row[name] ?? latest(all.slice(0, index + 1), name).value);
    return still ? { ...row, latency50: late("latency50"), latency95: late("latency95") } : row;
  });
}

const RECENT = 600; // seconds
const BEFORE = 300; // seconds of what was well

/** All rows; while viewers do not get what is on, the last ten minutes, or from some minutes before that began. */
export function lately(rows) {
  if (!(rows.at(-1).failing > 0)) return rows;
  const from = Math.min(rows.at(-1).time / 1000 - RECENT, outages(rows).at(-1).from - BEFORE);
  return rows.filter(({ time }) => time / 1000 >= from);
}

/**
 * When viewers did not get what was on: spans {from, to, isStill} in seconds since the epoch, between rows 5 s apart. What
 * stood still (`isStill`) began when the service says so, and not with the row that noticed it.
 */
export function outages(rows) {
  const spans = [];
  let open = null;
  for (const { time, failing, frozen } of rows) {
    const seconds = time / 1000;
    if (failing > 0 && open === null) spans.push((open = { from: seconds, to: seconds, isStill: false }));
    else if (open !== null) open.to = seconds;
    if (!(failing > 0)) open = null;
    else if (frozen > 0 && !open.isStill) {
      Object.assign(open, { isStill: true, from: Math.min(open.from, seconds - frozen) });
      const before = spans.at(-2);
      if (before) before.to = Math.min(before.to, open.from);
    }
  }
  return spans;
}

const TOPS = [1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8, 10];

/** The top of an axis that reaches as high: a number that is easily read, and so is its half; of what `isCounted` a whole one. */
export function topOf(most, isCounted) {
  const power = 10 ** Math.floor(Math.log10(most));
  const isWhole = (top) => !isCounted || top === 1 || top % 2 === 0 || top >= 10;
  return TOPS.map((top) => top * power).find((top) => top >= most && isWhole(top)) ?? 10 * power;
}

/** How high a plot has to be for nearly all values, and those of `now`: one of a hundred flattens no hour. */
export function ceiling(values, now = []) {
  const known = values.filter((value) => value !== null).sort((a, b) => a - b);
  const usual = known[Math.floor(0.9 * known.length)] ?? 0;
  return Math.max(1, 1.1 * Math.min(known.at(-1) ?? 0, 3 * usual || Infinity), ...now.map((value) => 1.1 * value));
}

/** Dollars: what R2 cost, what the same bytes would have cost from the server itself, and what is left. */
export function money(rows, prices) {
  const last = rows.at(-1);
  if (!last) return null;
  const stored = last.storedByteSeconds / GIGABYTE / MONTH;
  const spent =
    (last.operationsA * prices.classAPerMillion + last.operationsB * prices.classBPerMillion) / 1e6 +
    stored * prices.storagePerGbMonth;
  const compared = ((last.bucketBytes + last.peerBytes) / GIGABYTE) * prices.compareEgressPerGb;
  return { spent, compared, saved: compared - spent };
}
