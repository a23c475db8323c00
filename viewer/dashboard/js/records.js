// What is said of a recording or a clip, and what a wish of the operator asks for. Pure.
import { bytes, duration } from "./format.js";

const DAY = 24 * 3600 * 1000; // ms
const MOST_DAYS = 36_525; // as the service has it

/** The day and minute on the operator's own clock. */
export const when = (time) => new Date(time).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });

/** Its time is over: it goes as soon as the service gets to it. */
export const isGoing = ({ keepUntil }, now) => keepUntil != null && Date.parse(keepUntil) <= now;

export function metaOf(entry, now) {
  if (entry.goes !== undefined) return [`${entry.kind}${dateOf(entry)}`, `goes for good on ${when(entry.goes)}`];
  if (entry.begin !== undefined) {
    const length = duration((Date.parse(entry.end) - Date.parse(entry.begin)) / 1000);
    return [when(entry.begin), length, ...(entry.viewer ? ["made by a viewer"] : [])];
  }
  const state = isGoing(entry, now) ? ["is being deleted"] : entry.ended === null ? ["on now"] : [];
  return [when(entry.started), duration(entry.duration), bytes(entry.size), ...state];
}

/** "2026-11-22", on the operator's own calendar, as a date field has it; "" for ever. */
export const dayOf = (time) => (time === null ? "" : localTime(Date.parse(time)).slice(0, 10));

/** For how many days from now it is kept if it is kept until a day; null for ever. */
export function daysUntil(day, now) {
  if (day === "") return null;
  const noon = Date.parse(`${day}T12:00:00`);
  const today = Date.parse(`${localTime(now).slice(0, 10)}T12:00:00`);
  return Math.max(0, Math.round((noon - today) / DAY));
}

/**
 * What the field "Keep until" asks for when the operator is done with it: {keepDays}, {complaint}, or null for nothing.
 * `shown` is the day that the service has said.
 */
export function keepWish({ value, badInput = false }, shown, now) {
  if (!badInput && value === shown) return null;
  const keepDays = badInput ? 0 : daysUntil(value, now);
  const isFar = keepDays !== null && keepDays > MOST_DAYS;
  if (keepDays !== null && (keepDays < 1 || isFar)) return { complaint: "Choose a day from tomorrow on. To delete it there is a button." };
  return { keepDays };
}

/** What takes a change back: the patch that makes it as it was. */
export function reversal(entry, patch, now) {
  const keepDays = entry.keepUntil ? Math.max(1, daysUntil(dayOf(entry.keepUntil), now)) : null;
  const before = { title: entry.title, visibility: entry.visibility, open: entry.open, keepDays };
  return Object.fromEntries(Object.keys(patch).map((field) => [field, before[field]]));
}

const VISIBLE = {
  listed: "is listed now, at a new address",
  unlisted: "is unlisted now: who has its new link finds it",
  hidden: "is hidden now: its link leads nowhere",
};

/** What a change has done, in words. */
export function changeText(entry, { title, visibility, open, keepDays }, now = Date.now()) {
  const name = entry.title ? `“${entry.title}”` : nameOf(entry);
  if (title !== undefined) return title ? `${name} is called “${title}” now.` : `${name} has no title any more.`;
  if (visibility !== undefined) return `${name} ${VISIBLE[visibility]}.`;
  if (open !== undefined) return `${name} is ${open ? "open now: who has its link can watch it" : "for guests alone again"}.`;
  return keepDays === null ? `${name} is kept for ever.` : `${name} is kept until ${when(now + keepDays * DAY).split(",")[0]}.`;
}

/** The first day until which something can be kept. */
export const tomorrow = (now) => dayOf(new Date(Date.parse(`${localTime(now).slice(0, 10)}T12:00:00`) + DAY).toISOString());

/** What is in the bin, as its list has it, what was deleted last first. */
export function binOf({ recordings = [], clips = [], files = [] }) {
  const named = (kind, ones) => ones.map((entry) => ({ ...entry, kind, title: entry.title || entry.recording || entry.id }));
  const all = [...named("recording", recordings), ...named("clip", clips), ...named("file", files)];
  return all.sort((a, b) => Date.parse(b.deleted) - Date.parse(a.deleted));
}

/** "of 22 Nov 2026, 09:12", of what has a time. */
const dateOf = ({ started, begin }) => (started ?? begin ? ` of ${when(started ?? begin)}` : "");

/** What it is called at the begin of a sentence. */
export function nameOf(entry) {
  if (entry.title) return `“${entry.title}”${dateOf(entry)}`;
  return dateOf(entry) ? `The ${entry.started ? "recording" : "clip"}${dateOf(entry)}` : `“${entry.id}”`;
}

/** "2026-11-22T09:12:30", as a time field has it. */
export function localTime(time) {
  const shifted = time - 60_000 * new Date(time).getTimezoneOffset();
  return new Date(shifted).toISOString().slice(0, 19);
}

/** Whether an address is of use on this machine alone: nobody told the service where viewers reach it. */
export const isLocal = (address) => /^(localhost|127\.|0\.0\.0\.0|\[::1?\])/.test(new URL(address).host);

/** The clip that the fields of a form ask for; null when they ask for none. */
export function clipBetween(from, to, title) {
  const [begin, end] = [new Date(from), new Date(to)];
  if (!(end > begin)) return null;
  return { begin: begin.toISOString(), end: end.toISOString(), title };
}
