// What is said of a recording or a clip, and what a wish of the operator asks for. Pure.
import { bytes, duration } from "./words.js";

const DAY = 24 * 3600 * 1000; // ms

/** The day and minute on the operator's own clock. */
const when = (time) => new Date(time).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });

/** Its time is over: it goes as soon as the service gets to it. */
export const isGoing = ({ keepUntil }, now) => keepUntil != null && Date.parse(keepUntil) <= now;

export function factsOf(one, now) {
  if (one.begin !== undefined) {
    const length = duration((Date.parse(one.end) - Date.parse(one.begin)) / 1000);
    return [when(one.begin), length, ...(one.viewer ? ["made by a viewer"] : [])];
  }
  const state = isGoing(one, now) ? ["is being deleted"] : one.ended === null ? ["on now"] : [];
  return [when(one.started), duration(one.duration), bytes(one.size), ...state];
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
