// What the stream has cost and saved, as far as this page can tell: from what it watched, and R2's prices.

import { formatNumber } from "./intl.js";

const GB = 1e9; // bytes; R2 and AWS both charge for decimal gigabytes
const MONTH = 30 * 24 * 3600; // seconds, as in R2's gigabyte-month

/**
 * Dollars, for figures = {seconds, writes, bytesPerSecond, reads, bytes}: how long the page has watched, objects
 * written meanwhile, what the bucket stores per second of stream, segments and bytes that came to this viewer.
 * - once: writing and storing the stream, paid once however many watch
 * - reads: what this viewer caused; egress from R2 is free
 * - elsewhere: the same bytes from a server that pays for egress
 * - saved: what one more viewer like this one saves
 */
export function costOf({ seconds, writes, bytesPerSecond, reads, bytes }, costs) {
  // Stored evenly over `seconds`, the average byte has been there for half of them.
  const stored = (bytesPerSecond * seconds * seconds) / 2 / GB / MONTH;
  const once = (writes * costs.classAPerMillion) / 1e6 + stored * costs.storagePerGbMonth;
  const read = (reads * costs.classBPerMillion) / 1e6;
  const elsewhere = (bytes / GB) * costs.compareEgressPerGb;
  return { once, reads: read, elsewhere, saved: elsewhere - read };
}

/** Saved by `viewers` that watch like this one; below zero while writing costs more than they save. */
export const savedBy = (viewers, { once, saved }) => viewers * saved - once;

/** The figures of costOf, from one state of the page after the other; bytes are the state's own. */
export function createMeter() {
  let segments = 0;
  let writes = 0;
  let newest = null;
  let from = null;
  let until = null;
  const known = new Set();

  return Object.freeze({
    note(state, before) {
      if (state.stages !== before.stages) for (const stage of state.stages) count(stage, state.levels.length);
    },
    figures: ({ levels, bytes: { bucket, peers } }) => ({
      seconds: from === null ? 0 : Math.max(0, until - from) / 1000,
      writes,
      bytesPerSecond: levels.reduce((sum, { bitrate }) => sum + bitrate / 8, 0),
      // Which of them came from peers is known by bytes only.
      reads: bucket + peers > 0 ? (segments * bucket) / (bucket + peers) : 0,
      bytes: bucket + peers,
    }),
  });

  function count({ variant, sequence, fetched }, variants) {
    if (newest === null || sequence > newest) {
      writes += (newest === null ? 1 : sequence - newest) * Math.max(1, variants);
      newest = sequence;
    }
    const key = `${variant}/${sequence}`;
    if (fetched === null || known.has(key)) return;
    segments += 1;
    from ??= fetched;
    until = fetched;
    known.add(key);
    if (known.size > 64) known.delete(known.values().next().value); // stages are at most 12
  }
}

/** "$0.0042": two digits that say something, however small. */
export function formatMoney(dollars, locale) {
  const size = Math.abs(dollars);
  const digits = size >= 0.1 || size < 0.000001 ? 2 : Math.min(6, 1 - Math.floor(Math.log10(size)));
  const how = { style: "currency", currency: "USD", currencyDisplay: "narrowSymbol", signDisplay: "negative" };
  return formatNumber(locale, dollars, { ...how, minimumFractionDigits: digits, maximumFractionDigits: digits });
}
