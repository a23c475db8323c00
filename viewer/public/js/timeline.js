// The window as the viewer sees it: places in media time, in seconds, and the clock times that belong to them.

import { formatList, formatUnit } from "./intl.js";

const SAME = 0.5; // seconds by which the times of two segments in a row may differ from their lengths

/** Where the clock begins anew: {at: seconds, date: ms since the epoch}, of `segments` {start, date or null}. */
export function anchorsOf(segments) {
  const anchors = [];
  for (const { start, date } of segments) {
    if (!Number.isFinite(date)) continue;
    const known = dateAt(anchors, start);
    if (known === null || Math.abs(known - date) > 1000 * SAME) anchors.push(Object.freeze({ at: start, date }));
  }
  return Object.freeze(anchors);
}

/** The clock time of a place, in ms since the epoch, null where nobody told it. */
export function dateAt(anchors, position) {
  const anchor = anchors.findLast(({ at }) => at <= position) ?? anchors[0];
  return anchor === undefined ? null : anchor.date + 1000 * (position - anchor.at);
}

/** The place of a clock time, null where nobody told it. What was never encoded is where the encoder came back. */
export function positionAt(anchors, date) {
  const index = Math.max(0, anchors.findLastIndex((anchor) => anchor.date <= date));
  if (anchors.length === 0) return null;
  const position = anchors[index].at + (date - anchors[index].date) / 1000;
  return Math.min(position, anchors[index + 1]?.at ?? Infinity);
}

/**
 * What can be played, in media time: from `first`, far enough from the window's `start` to stay there while it loads,
 * to `live`, where live viewers are. `margin` in seconds.
 */
export function timelineOf({ start, live, anchors, margin }) {
  if (start === null || live === null || live <= start) return null;
  return Object.freeze({ start, first: start + Math.min(margin, (live - start) / 2), live, anchors });
}

/** Where chapters begin: the places at which the encoder came back, as shares of the way from `first` to `live`. */
export const chaptersOf = ({ first, live, anchors }) =>
  anchors.map(({ at }) => (at - first) / (live - first)).filter((share) => share > 0 && share < 1);

export const clampTo = ({ first, live }, position) => Math.min(live, Math.max(first, position));

const two = (number) => String(number).padStart(2, "0");

/** "0:55", "4:05", "1:00:09". */
export function formatSpan(seconds) {
  const all = Math.max(0, Math.round(seconds));
  const [hours, minutes, rest] = [Math.floor(all / 3600), Math.floor(all / 60) % 60, two(all % 60)];
  return hours > 0 ? `${hours}:${two(minutes)}:${rest}` : `${minutes}:${rest}`;
}

/** "2 days 1:00:09", the days where there are any. */
export function formatCountdown(milliseconds, locale) {
  const seconds = Math.ceil(milliseconds / 1000);
  const days = Math.floor(seconds / 86400);
  return `${days > 0 ? `${formatUnit(locale, days, "day", { display: "long" })} ` : ""}${formatSpan(seconds % 86400)}`;
}

/** "55 seconds", "4 minutes, 5 seconds", to be read aloud and in a sentence. */
export function saySpan(seconds, locale) {
  const all = Math.max(0, Math.round(seconds));
  const parts = [[Math.floor(all / 3600), "hour"], [Math.floor(all / 60) % 60, "minute"], [all % 60, "second"]];
  const said = parts.filter(([count, unit]) => count > 0 || (all === 0 && unit === "second"));
  return formatList(locale, said.map(([count, unit]) => formatUnit(locale, count, unit, { display: "long" })));
}
