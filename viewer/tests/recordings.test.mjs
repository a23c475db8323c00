import assert from "node:assert/strict";
import { test } from "node:test";
import { parseConfig } from "../public/js/config.js";
import { findRecording, partOf, startOf, watchRecording } from "../public/js/recording.js";
import { dateOf, pageOf, readPage, recordingOf, requestedBy } from "../public/js/recordings.js";
import { createStartOver } from "../public/js/start-over.js";
import { createSeeking } from "../public/js/seeking.js";
import { createStore } from "../public/js/state.js";
import { defaultTexts } from "../public/js/texts.js";
import { timelineOf } from "../public/js/timeline.js";
import { createWatch } from "../public/js/watch.js";
import { phaseOf, titleOf } from "../public/js/player-phase.js";

const FOLDER = "https://video.example/live/recordings/";
const told = {
  id: "2026-11-22-0912-k3f9",
  title: "Evening",
  started: "2026-11-22T09:12:00+00:00",
  ended: "2026-11-22T10:12:00+00:00",
  duration: 3600,
  playlist: "2026-11-22-0912-k3f9/playlist.m3u8",
  parts: ["2026-11-22-0912-k3f9/playlist.m3u8", "2026-11-22-0912-k3f9/part-2/playlist.m3u8"],
  poster: null,
};
const recording = recordingOf(told, FOLDER);
const answer = (body, status = 200) => ({ ok: status === 200, status, json: async () => body });
const soon = () => new Promise((resolve) => setTimeout(resolve, 0));

test("what the index tells of a recording, with whole addresses", () => {
  assert.deepEqual(recording.parts, [`${FOLDER}${told.parts[0]}`, `${FOLDER}${told.parts[1]}`]);
  assert.equal(recording.started, Date.UTC(2026, 10, 22, 9, 12));
  assert.equal(recordingOf({ ...told, ended: null }, FOLDER).ended, null);
  assert.equal(recording.file, null);
  const file = { url: "../files/a.mp4", size: 5, type: "video/mp4" };
  const withFile = recordingOf({ ...told, file }, FOLDER);
  assert.deepEqual([withFile.file, withFile.fileSize, recording.fileSize], ["https://video.example/live/files/a.mp4", 5, null]);
});

test("a clip is told by its times", () => {
  const { id, title, started: begin, ended: end } = told;
  const clip = recordingOf({ id, title, begin, end, playlist: `../clips/${id}/playlist.m3u8` }, FOLDER);
  assert.deepEqual(clip.parts, [`https://video.example/live/clips/${id}/playlist.m3u8`]);
  assert.equal(clip.duration, 3600);
});

test("what is no recording is not shown", () => {
  for (const wrong of [null, {}, { ...told, id: "../x" }, { ...told, parts: ["javascript:alert(1)"] }, { ...told, started: "soon" }]) {
    assert.equal(recordingOf(wrong, FOLDER), null);
  }
  assert.equal(recordingOf({ ...told, poster: "javascript:alert(1)" }, FOLDER).poster, null);
  assert.deepEqual(pageOf("nonsense", FOLDER), { recordings: [], older: null });
});

test("a page of the list, and where the next one is", async () => {
  const page = await readPage(`${FOLDER}index.json`, async () => answer({ recordings: [told, {}], older: "index-3.json" }));
  assert.deepEqual(page.recordings, [recording]);
  assert.equal(page.older, `${FOLDER}index-3.json`);
  assert.deepEqual(await readPage(FOLDER, async () => answer(null, 404)), { recordings: [], older: null });
  await assert.rejects(readPage(FOLDER, async () => answer(null, 500)));
});

test("without a service the query names the recording, and its place in it", async () => {
  assert.equal(requestedBy("?embed=1"), null);
  assert.equal(requestedBy("?watch=../secret"), null);
  const { recordings } = parseConfig({ playlistUrl: "https://video.example/live/playlist.m3u8" }, "https://site.example/");
  const asked = [];
  const get = async (url) => asked.push(url.href) && answer(told);
  const find = (search) => findRecording({ recording: null, recordings, search, base: "https://site.example/", get });
  assert.deepEqual(await find(`?watch=${told.id}`), recording);
  await find(`?c=${told.id}`);
  assert.deepEqual(asked, [`${FOLDER}${told.id}/recording.json`, `https://video.example/live/clips/${told.id}/clip.json`]);
  assert.equal(recordings.watch + told.id, `https://site.example/?watch=${told.id}`);
  const gone = findRecording({ recording: null, recordings, search: `?watch=${told.id}`, get: async () => answer(null, 404) });
  assert.equal(await gone, null);
  assert.deepEqual(["?t=90", "?t=1.5", "?t=-1", "?t=1h", ""].map(startOf), [90, 1.5, null, null, null]);
  assert.deepEqual(["?part=2", "?part=1", "?part=3", "?part=0", "?part=x", ""].map((search) => partOf(search, 2)), [1, 0, 0, 0, 0, 0]);
});

test("a service without recordings says so", () => {
  assert.equal(parseConfig({ recordings: null }, "https://site.example/").recordings, null);
});

/** The page's state, a player that notes what is asked of it, and a start-over whose pauses take no time. */
function onAir(found = [{ ...recording, ended: null }]) {
  const store = createStore();
  const renewed = [];
  const playback = { renew: () => renewed.push(store.get().replay), goLive() {} };
  const read = async () => ({ recordings: found, older: null });
  const startOver = createStartOver({ store, playback, read, sleep: soon });
  store.set({ recordings: { newest: `${FOLDER}index.json` } });
  return { store, playback, renewed, startOver };
}

test("the recording of the stream is found once it is on, and plays in its place from the start", async () => {
  const { store, playback, renewed, startOver } = onAir();
  await startOver.begin();
  assert.deepEqual(renewed, []);
  store.set({ status: "live", date: 5, timeline: timelineOf({ start: 0, live: 60, anchors: [], margin: 0 }) });
  await soon();
  await soon();
  await startOver.begin();
  assert.deepEqual(renewed, [recording.parts]);
  const terms = [];
  const reasons = ["ended", "ended"];
  const play = startOver.wrap(async (given) => terms.push(given) && { reason: reasons.shift() });
  assert.equal((await play({ autoplay: true })).reason, "switched");
  assert.equal((await play({ autoplay: true })).reason, "ended");
  assert.deepEqual(terms.map(({ url, start }) => [url, start]), recording.parts.map((url) => [url, 0]));
  assert.equal(store.get().replay, null);
  reasons.push("failed");
  await play({ autoplay: true });
  assert.deepEqual(terms[2], { autoplay: true }); // the stream again

  await startOver.begin();
  createSeeking({ video: {}, store, playback, play() {} }).goLive();
  assert.equal(store.get().replay, null);
  assert.equal(store.get().following, true);
  assert.equal(renewed.at(-1), null);
});

test("what is kept for those who are behind is live, and its player finds the place itself", async () => {
  const { store, startOver } = onAir();
  store.set({ kept: "/kept", replay: ["/kept"], date: 5 });
  const terms = [];
  const play = startOver.wrap(async (given) => terms.push(given) && { reason: "failed", started: false });
  const given = { url: "/live", start: null, autoplay: true };
  await play(given);
  assert.deepEqual(terms, [{ ...given, url: "/kept" }]);
  await play(given);
  await play({ ...given, autoplay: false }); // who has paused asks for nothing that could begin
  assert.deepEqual([store.get().date, store.get().replay], [5, ["/kept"]]);
  await play(given);
  assert.deepEqual([store.get().date, store.get().replay], [5, null]); // it cannot be played: on with the stream
});

test("who is behind waits for what is kept and not for the stream, until it is there no more", async () => {
  const { store, startOver } = onAir();
  store.set({ kept: "/kept", replay: ["/kept"] });
  const looks = [];
  const found = { "/live": "ended" };
  const look = startOver.lookWith(async (url) => looks.push(url) && found[url]);
  const kept = async (answer) => look("/live", (found["/kept"] = answer));
  assert.equal(await kept("unreachable"), "unreachable");
  assert.equal(await kept("offline"), "unreachable", "a full house");
  assert.equal(await kept("live"), "live");
  assert.equal(await kept("ended"), "live", "the stream is over, what is kept of it is not");
  assert.deepEqual([store.get().kept, store.get().replay], ["/kept", ["/kept"]]);
  assert.equal(await kept("absent"), "ended");
  assert.deepEqual([looks.at(-1), store.get().replay], ["/live", null]);
});

test("what cannot be had for long while the stream can is given up", async () => {
  const { store, startOver } = onAir();
  store.set({ kept: "/kept", replay: ["/kept"] });
  const found = { "/live": "unreachable", "/kept": "unreachable" };
  const look = startOver.lookWith(async (url) => found[url]);
  for (let looks = 0; looks < 5; looks += 1) assert.equal(await look("/live"), "unreachable");
  found["/live"] = "live";
  assert.deepEqual([await look("/live"), await look("/live")], ["unreachable", "unreachable"]);
  assert.equal(await look("/live"), "live");
  assert.equal(store.get().replay, null);
});

test("what one thing was tried for in vain does not count for the next", async () => {
  const { store, startOver } = onAir();
  store.set({ kept: "/kept", replay: ["/kept"] });
  const play = startOver.wrap(async () => ({ reason: "failed", started: false }));
  await play({ autoplay: true });
  await play({ autoplay: true });
  store.set({ replay: null });
  await play({ autoplay: true });
  store.set({ replay: ["/kept"] });
  await play({ autoplay: true });
  assert.deepEqual(store.get().replay, ["/kept"]);
});

test("the streamer's own server is played instead of what is kept, too, and does not end it", async () => {
  const { store, startOver } = onAir();
  store.set({ kept: "/kept", replay: ["/kept"], date: 5 });
  // As fallback.js does once the stream cannot be had for long.
  const found = { "/kept": "unreachable" };
  const instead = async () => (store.set({ fallback: true }), "live");
  const look = startOver.lookWith(async (url) => found[url], instead);
  assert.equal(await look("/live"), "live");
  const terms = [];
  const play = startOver.wrap(async (given) => terms.push(given) && { reason: "ended", started: true });
  await play({ autoplay: true });
  assert.deepEqual(terms, [{ autoplay: true }]);
  assert.deepEqual([store.get().replay, store.get().fallback], [["/kept"], true]);
  found["/kept"] = "live";
  assert.equal(await look("/live"), "live");
  assert.equal(store.get().fallback, false, "it is back");
});

test("beneath a recording there are others, which are asked for once it plays", async () => {
  const { store } = onAir([recording]);
  store.set({ recording });
  await soon();
  assert.deepEqual(store.get().shelf, []);
  store.set({ status: "live" });
  await soon();
  await soon();
  assert.deepEqual([store.get().shelf, store.get().recorded], [[recording], null]);
});

test("where there are no recordings nobody asks for them", async () => {
  const store = createStore();
  const asked = [];
  createStartOver({ store, playback: {}, read: async (url) => asked.push(url), sleep: soon });
  store.set({ status: "live" });
  store.set({ status: "offline" });
  await soon();
  assert.deepEqual(asked, []);
});

test("a recording plays part after part, from where it failed, and again when somebody wants it", async () => {
  const store = createStore();
  const video = new EventTarget();
  const outcomes = ["failed", "ended", "ended"];
  const terms = [];
  const play = async (given) => {
    terms.push([given.url, given.start]);
    store.set({ position: 42, playlist: given.url });
    store.set({ position: null, playlist: null }); // the player goes
    return { reason: outcomes.shift() };
  };
  const alarm = { sleep: async () => {} };
  const config = { recording: told, recordings: null };
  const page = { search: "?t=7", href: FOLDER };
  const done = watchRecording({ config, page, store, video, alarm, play, again: () => false });
  while (store.get().status !== "over") await soon();
  assert.deepEqual(terms, [[recording.parts[0], 7], [recording.parts[0], 42], [recording.parts[1], null]]);
  assert.equal(store.get().title, "Evening");
  assert.equal(store.get().playlist, recording.parts[1]); // the bar is there, with its pictures
  video.dispatchEvent(new Event("play"));
  await done;
});

test("a link to a moment begins there, in its part, and the next time at the start", async () => {
  const store = createStore();
  const video = new EventTarget();
  const terms = [];
  const play = async ({ url, start }) => {
    assert.equal(store.get().playlist, null); // until there is a player
    terms.push([url, start, store.get().part]);
    return { reason: "ended" };
  };
  const config = { recording: told, recordings: null };
  let rounds = 2;
  const page = { search: "?t=7&part=2", href: FOLDER };
  const done = watchRecording({ config, page, store, video, alarm: {}, play, again: () => (rounds -= 1) > 0 });
  for (let round = 0; round < 2; round += 1) {
    while (store.get().status !== "over") await soon();
    store.set({ status: "connecting" });
    video.dispatchEvent(new Event("play"));
  }
  await done;
  assert.deepEqual(terms, [[recording.parts[1], 7, 1], [recording.parts[0], null, 0], [recording.parts[1], null, 1]]);
});

test("a recording without a decoder says so, and is not played again", async () => {
  const store = createStore();
  const play = async () => ({ reason: "undecodable" });
  await watchRecording({ config: { recording: told, recordings: null }, page: { search: "", href: FOLDER }, store, play });
  assert.equal(phaseOf(store.get()), "undecodable");
});

test("an address without a recording says so", async () => {
  const store = createStore();
  const config = { recording: null, recordings: null };
  await watchRecording({ config, page: { search: "?watch=gone" }, store });
  assert.equal(phaseOf(store.get()), "missing");
});

test("a recording is never called live, and its words are its own", () => {
  const phases = ["connecting", "live", "over"].map((status) => phaseOf({ ...createStore().get(), status, recording }));
  assert.deepEqual(phases, ["loading", "recorded", "over"]);
  for (const phase of ["loading", "recorded", "over", "missing"]) assert.ok(defaultTexts[`${phase}Badge`], phase);
});

test("a recording without a title is called by its date", () => {
  const state = { ...createStore().get(), texts: { ...defaultTexts, locale: "en" }, title: null };
  assert.equal(titleOf({ ...state, recording: { ...recording, title: "" } }), dateOf(recording, "en"));
  assert.equal(titleOf({ ...state, recording: null }), defaultTexts.liveTitle);
});

test("the end of a recording's bar is its end, and not live", () => {
  const store = createStore();
  const asked = [];
  const playback = { seek: (position) => asked.push(position), goLive: () => asked.push("live") };
  const seeking = createSeeking({ video: { currentTime: 0 }, store, playback, play() {} });
  store.set({ recording, timeline: timelineOf({ start: 0, live: 60, anchors: [], margin: 0 }) });
  seeking.seekTo(60);
  seeking.goLive();
  seeking.seekPart(0.5);
  assert.deepEqual(asked, [60, 60, 30]);
});

test("a recording that has to wait for its video is not over", () => {
  const run = (sample) => {
    const look = createWatch();
    const still = { currentTime: 5, filled: 5, paused: false, hidden: false, failing: false, live: false, advancedAt: null, heardAt: 0, targetDuration: 2 };
    return Array.from({ length: 12 }, (_, tick) => look({ ...still, now: 500 * tick, ...sample })).at(-1);
  };
  assert.equal(run({ whole: true, left: 100 }), "buffering");
  assert.equal(run({ whole: true, left: 1 }), "finished");
  assert.equal(run({}), "finished");
});
