// What the rows mean. Pure.

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
  rows.map((row, index) => (index === 0 ? null : rate(rows.slice(index - 1, index + 1), name)));

/** The share of the video that viewers say they got from each other, 0 to 1; null before any report. */
export function peerShare({ bucketBytes, peerBytes }) {
  const all = bucketBytes + peerBytes;
  return all > 0 ? peerBytes / all : null;
}

/** Pages that poll: each asks for a media playlist once per target duration. Blocked requests are not polls. */
export function pollers(rows, targetDuration) {
  const polls = rate(rows, "mediaPolls");
  const mains = rate(rows, "mainPolls");
  const wakeUps = rate(rows, "wakeUps");
  return polls === null || !targetDuration ? null : Math.round(Math.max(0, polls + mains - wakeUps) * targetDuration);
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
