// What the operator asks of the service from the dashboard, and how recordings and clips are told of there.
import assert from "node:assert/strict";
import { test } from "node:test";
import { createApi } from "../dashboard/js/api.js";
import { binOf, changeText, clipBetween, dayOf, daysUntil, metaOf, isGoing, isLocal, keepWish, localTime, reversal, tomorrow } from "../dashboard/js/records.js";

const storageOf = (kept = new Map()) => ({
  getItem: (name) => kept.get(name) ?? null,
  setItem: (name, value) => kept.set(name, value),
  removeItem: (name) => kept.delete(name),
  kept,
});
const answer = (status, body) => ({ ok: status < 400, status, json: async () => (body === undefined ? Promise.reject(new Error()) : body) });

function apiWith(...answers) {
  const storage = storageOf();
  const asked = [];
  const get = async (url, options) => {
    asked.push({ url, ...options });
    const next = answers.shift();
    if (next instanceof Error) throw next;
    return next;
  };
  const api = createApi({ get, storage });
  return { api, asked, storage };
}

test("a link that is of use on this machine alone is not offered", () => {
  const local = ["http://127.0.0.1:8080/watch/a", "http://localhost/watch/a", "http://[::1]:80/a", "http://0.0.0.0:1/a"];
  assert.deepEqual(local.map(isLocal), [true, true, true, true]);
  assert.deepEqual(["https://live.example/watch/a", "http://192.168.1.2/a"].map(isLocal), [false, false]);
});

test("the token goes into a header, stays in this tab, and never into an address", async () => {
  const { api, asked, storage } = apiWith(answer(200, { clips: [] }), answer(202));
  assert.equal(api.knows(), false);
  api.remember(" secret\n");
  assert.deepEqual(await api.ask("GET", "clips"), { clips: [] });
  assert.equal(await api.ask("DELETE", "clips/a"), null);
  assert.deepEqual(asked.map(({ method, url }) => [method, url]), [["GET", "../api/clips"], ["DELETE", "../api/clips/a"]]);
  for (const { headers, url } of asked) assert.deepEqual([headers.Authorization, url.includes("secret")], ["Bearer secret", false]);
  assert.equal(createApi({ storage }).knows(), true);
  api.forget();
  assert.deepEqual([api.knows(), storage.kept.size], [false, 0]);
});

test("a wrong token is forgotten, and the operator told where there is another", async () => {
  const { api, storage } = apiWith(answer(401, { error: "the operator's token is needed" }), new TypeError("not a header"));
  for (const token of ["wrong", "\u00fcber all\u2026"]) {
    api.remember(token);
    await assert.rejects(api.ask("GET", "recordings"), /not the service's token/);
    assert.deepEqual([api.knows(), storage.kept.size], [false, 0]);
  }
});

test("a service that is away may answer later, and a refusal stays one", async () => {
  const { api } = apiWith(answer(409, {}), answer(503, {}), new TypeError("away"));
  api.remember("secret");
  for (const again of [false, true, true]) await assert.rejects(api.ask("GET", "recordings"), { again });
});

test("each complaint is a sentence that says what is the matter", async () => {
  const { api } = apiWith(answer(409, { error: "its stream is still on" }), answer(404), answer(500), new TypeError("away"));
  api.remember("secret");
  for (const said of ["Its stream is still on.", "It is not there any more.", /answers 500; its log/, /is it running/]) {
    await assert.rejects(api.ask("PATCH", "recordings/a", { title: "x" }), { message: said });
  }
  assert.equal(api.knows(), true);
});

const NOW = Date.parse("2026-11-22T12:00:00Z");
const recording = { id: "a", started: "2026-11-22T09:12:00Z", ended: "2026-11-22T10:12:00Z", duration: 3600, size: 2.3e9, keepUntil: null };

test("what is said of a recording and of a clip", () => {
  assert.deepEqual(metaOf(recording, NOW).slice(1), ["1 h 0 min", "2.3 GB"]);
  assert.deepEqual(metaOf({ ...recording, ended: null }, NOW).at(-1), "on now");
  const over = { ...recording, keepUntil: "1970-01-01T00:00:00+00:00" };
  assert.deepEqual([isGoing(over, NOW), isGoing(recording, NOW), metaOf(over, NOW).at(-1)], [true, false, "is being deleted"]);
  const clip = { begin: "2026-11-22T09:12:00Z", end: "2026-11-22T09:12:30Z", viewer: true };
  assert.deepEqual(metaOf(clip, NOW).slice(1), ["30 s", "made by a viewer"]);
});

test("a day of the calendar is so many days from now, and comes back as that day", () => {
  const now = new Date(2026, 10, 22, 23, 30).getTime();
  assert.equal(daysUntil("", now), null);
  assert.deepEqual(["2026-11-22", "2026-11-23", "2027-03-31", "2020-01-01"].map((day) => daysUntil(day, now)), [0, 1, 129, 0]);
  assert.equal(dayOf(null), "");
  assert.equal(dayOf(new Date(now + 129 * 24 * 3600 * 1000).toISOString()).slice(0, 7), "2027-03");
});

test("the form deletes nothing: a day before tomorrow, or half a date, is a complaint", () => {
  const now = new Date(2026, 10, 22, 23, 30).getTime();
  assert.equal(tomorrow(now), "2026-11-23");
  for (const value of ["0002-11-30", "0020-11-30", "0202-11-30", "2020-01-01", "2026-11-22", "9999-12-31"]) {
    const wish = keepWish({ value }, "2026-12-01", now);
    assert.deepEqual([Object.keys(wish), /button/.test(wish.complaint)], [["complaint"], true], value);
  }
  assert.ok(keepWish({ value: "", badInput: true }, "2026-12-01", now).complaint);
  assert.deepEqual(keepWish({ value: "2026-11-23" }, "2026-12-01", now), { keepDays: 1 });
  assert.deepEqual(keepWish({ value: "" }, "2026-12-01", now), { keepDays: null });
  assert.equal(keepWish({ value: "2026-12-01" }, "2026-12-01", now), null);
});

test("each change can be taken back, and says what it has done", () => {
  const night = { ...recording, title: "Night", visibility: "listed", keepUntil: "2026-12-02T12:00:00Z" };
  const changes = [{ title: "Eve" }, { visibility: "hidden" }, { keepDays: null }, { keepDays: 3 }];
  const backs = [{ title: "Night" }, { visibility: "listed" }, { keepDays: 10 }, { keepDays: 10 }];
  assert.deepEqual(changes.map((patch) => reversal(night, patch, NOW)), backs);
  assert.deepEqual(reversal(recording, { keepDays: 3 }, NOW), { keepDays: null });
  const said = changes.map((patch) => changeText(night, patch, NOW));
  assert.deepEqual(said.slice(0, 3), ["“Night” is called “Eve” now.", "“Night” is hidden now: its link leads nowhere.", "“Night” is kept for ever."]);
  assert.match(said[3], /^“Night” is kept until 25 Nov 2026\.$/);
  assert.equal(changeText(night, { title: "" }), "“Night” has no title any more.");
  const untitled = { id: "x", title: "", started: "2026-11-22T09:12:00Z" };
  assert.match(changeText(untitled, { title: "Eve" }), /^The recording of 22 Nov 2026, \d\d:12 is called “Eve” now\.$/);
  assert.equal(changeText({ id: "x", title: "" }, { keepDays: null }), "“x” is kept for ever.");
  assert.equal(changeText(night, { open: true }), "“Night” is open now: who has its link can watch it.");
  assert.equal(changeText(night, { open: false }), "“Night” is for guests alone again.");
  assert.deepEqual(reversal({ ...night, open: false }, { open: true }, NOW), { open: false });
});

test("the bin has what was deleted last first, with when it goes", () => {
  const [deleted, goes] = ["2026-11-22T11:00:00Z", "2026-11-23T11:00:00Z"];
  const found = binOf({
    recordings: [{ ...recording, title: "Night", deleted, goes }],
    files: [{ id: "a-1.mp4", recording: "a", deleted: "2026-11-22T11:30:00Z", goes }],
  });
  assert.deepEqual(found.map(({ title }) => title), ["a", "Night"]);
  assert.match(metaOf(found[1], NOW).join(), /^recording of 22 Nov 2026.*goes for good on 23 Nov 2026/);
});

test("a clip between two times of the operator's own clock", () => {
  const [from, to] = [NOW, NOW + 90_000].map(localTime);
  const { begin, end, title } = clipBetween(from, to, "Goal");
  assert.deepEqual([Date.parse(begin), Date.parse(end), title], [NOW, NOW + 90_000, "Goal"]);
  assert.equal(clipBetween(to, from, ""), null);
  assert.equal(clipBetween("", to, ""), null);
});
