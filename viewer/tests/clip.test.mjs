// A viewer keeps what was seen last, and passes a moment of a recording on.
import assert from "node:assert/strict";
import { test } from "node:test";
import { clip, spanOf } from "../public/js/clip.js";
import { addressOf, calendarOf } from "../public/js/share.js";
import { createStore } from "../public/js/state.js";
import { timelineOf } from "../public/js/timeline.js";
import { createClip } from "../public/js/ui/clip.js";

const NOON = Date.UTC(2026, 0, 1, 12);
const at = (seconds) => NOON + 1000 * seconds;
const seen = (position, anchors = [{ at: 0, date: NOON }], more = {}) => ({
  position,
  timeline: timelineOf({ start: 0, live: 200, anchors, margin: 0 }),
  fallback: false,
  ...more,
});
const on = (more = {}) => {
  const store = createStore();
  store.set({ ...seen(100), clipsUrl: "https://live.example/live/clips", ...more });
  return store;
};

test("what is kept is the half minute before what is on screen, by the stream's own clock", () => {
  assert.deepEqual(spanOf(seen(100)), { begin: at(70), end: at(100) });
  assert.deepEqual(spanOf(seen(12)), { begin: at(0), end: at(12) });
  assert.equal(spanOf(seen(4)), null);
  for (const unknown of [{ position: null }, { timeline: null }, { fallback: true }]) assert.equal(spanOf({ ...seen(100), ...unknown }), null);
  assert.equal(spanOf(seen(100, [])), null);
});

test("where the encoder was away, it goes over a short break, and begins after a long one", () => {
  const away = (seconds) => [{ at: 0, date: NOON }, { at: 80, date: at(80 + seconds) }];
  assert.deepEqual(spanOf(seen(100, away(40))), { begin: at(70), end: at(140) });
  assert.deepEqual(spanOf(seen(100, away(600))), { begin: at(680), end: at(700) });
  assert.equal(spanOf(seen(83, away(600))), null);
});

test("a clip has a link of the page's own address, once it is made", async () => {
  const store = on();
  const asked = [];
  const stages = [];
  store.subscribe(({ clip: is }) => stages.push(is?.stage ?? null));
  const get = async (url, { method, body }) => asked.push([url, method, JSON.parse(body)]) && { ok: true, json: async () => ({ path: "/c/abc" }) };
  await Promise.all([clip({ store, get }), clip({ store, get })]); // one at a time
  assert.deepEqual(asked, [["https://live.example/live/clips", "POST", { begin: at(70), end: at(100) }]]);
  assert.deepEqual(stages, [null, "making", "made"]);
  assert.equal(store.get().clip.url, "https://live.example/c/abc");
  store.set({ pageUrl: "https://club.example/live/" });
  await clip({ store, get });
  assert.equal(store.get().clip.url, "https://club.example/c/abc");
});

test("what does not work is said, and can be tried again", async () => {
  const store = on();
  const answers = [409, 429, 503, 403].map((status) => async () => ({ ok: false, status }));
  answers.push(async () => Promise.reject(new TypeError("no network")), async () => ({ ok: true, json: async () => ({}) }));
  const said = [];
  for (const get of answers) {
    await clip({ store, get });
    said.push(store.get().clip.stage);
  }
  assert.deepEqual(said, ["clipGone", "clipOften", "clipFailed", "clipFailed", "clipFailed", "clipFailed"]);
  for (const text of said) assert.ok(store.get().texts[text], text);
  store.set({ position: 2 });
  await clip({ store });
  assert.equal(store.get().clip.stage, "clipShort");
  const off = on({ clipsUrl: null });
  await clip({ store: off });
  assert.equal(off.get().clip, null);
});

test("the date of the event is for calendars, in lines of 75 bytes at most", () => {
  const title = `Music; at the harbour, ${"ü".repeat(60)}`;
  const lines = calendarOf(title, Date.UTC(2026, 11, 24, 19), "https://live.example/evening", 0).split("\r\n");
  assert.ok(lines.every((line) => new TextEncoder().encode(line).length <= 75));
  const whole = lines.join("\r\n").replaceAll("\r\n ", "").split("\r\n");
  assert.deepEqual(whole.slice(4), [
    "UID:20261224T190000Z@live.example", "DTSTAMP:19700101T000000Z", "DTSTART:20261224T190000Z",
    `SUMMARY:Music\\; at the harbour\\, ${"ü".repeat(60)}`, "URL:https://live.example/evening",
    "BEGIN:VALARM", "ACTION:DISPLAY", `DESCRIPTION:Music\\; at the harbour\\, ${"ü".repeat(60)}`, "TRIGGER:-PT10M", "END:VALARM", "END:VEVENT", "END:VCALENDAR", "",
  ]);
});

test("of a recording its own page is passed on, or the moment that is on screen", () => {
  const page = new URL("http://127.0.0.1:3000/watch/abc?t=4&part=2");
  const state = { ...seen(65.8), pageUrl: null, recording: {}, part: 0 };
  const moment = (more) => addressOf({ ...state, ...more }, page, { moment: true });
  assert.equal(addressOf(state, page), "http://127.0.0.1:3000/watch/abc");
  assert.equal(moment(), "http://127.0.0.1:3000/watch/abc?t=65");
  assert.equal(moment({ part: 1 }), "http://127.0.0.1:3000/watch/abc?t=65&part=2");
  assert.equal(moment({ pageUrl: "https://live.example/" }), "https://live.example/watch/abc?t=65");
  assert.equal(moment({ position: null }), "http://127.0.0.1:3000/watch/abc");
  const still = new URL("https://site.example/?watch=abc");
  assert.equal(addressOf(state, still, { moment: true }), "https://site.example/?watch=abc&t=65");
  assert.equal(addressOf({ ...state, recording: null }, page), page.href);
  assert.equal(addressOf({ ...state, recording: null, pageUrl: "https://live.example/" }, page), "https://live.example/");
});

test("on a phone it is below the picture, while that says what has become of the stream", () => {
  const elements = {};
  const element = (id) => (elements[id] ??= { id, addEventListener() {}, append: (child) => (child.parentNode = element(id)) });
  const narrow = { matches: true, addEventListener: (_, change) => (narrow.change = change) };
  const draw = createClip({ document: { defaultView: { matchMedia: () => narrow } }, at: element, requests: {} });
  const place = (phase) => {
    draw({ phase, clipsUrl: "/live/clips", fallback: false }, () => false);
    return element("clipped").parentNode.id;
  };
  assert.deepEqual(["live", "ended", "behind", "trouble", "rest"].map(place), ["offers", "clip-below", "offers", "clip-below", "offers"]);
  place("ended");
  narrow.matches = false;
  narrow.change();
  assert.equal(element("clipped").parentNode.id, "offers");
});
