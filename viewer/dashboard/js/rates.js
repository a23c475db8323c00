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
  const last = { ...unknown, time: now, viewers, backlog, failing: Number(verdict.severity === "failing") };
  if (frozen === null) return [...rows, last];
  const of = (read) => ({ latency50: read("latency50"), latency95: read("latency95") });
  const all = [...rows, { ...last, ...of((name) => latest(rows, name).value) }];
  const still = ({ time }) => frozen - (now - time) / 1000; // seconds
  return all.map((row) => (still(row) > 0 ? { ...row, ...of((name) => Math.max(still(row), row[name])) } : row));
}

const RECENT = 600; // seconds
const BEFORE = 300; // seconds of what was well

/** All rows; while viewers do not get what is on, the last ten minutes, or from some minutes before that began. */
export function lately(rows) {
  if (!(rows.at(-1).failing > 0)) return rows;
  const from = Math.min(rows.at(-1).time / 1000 - RECENT, outages(rows).at(-1).from - BEFORE);
  return rows.filter(({ time }) => time / 1000 >= from);
}

/** When viewers did not get what was on: spans {from, to} in seconds since the epoch, between rows 5 s apart. */
export function outages(rows) {
  const spans = [];
  let open = null;
  for (const { time, failing } of rows) {
    const seconds = time / 1000;
    if (failing > 0 && open === null) spans.push((open = { from: seconds, to: seconds }));
    else if (open !== null) open.to = seconds;
    if (!(failing > 0)) open = null;
  }
  return spans;
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
