// When a guest's access is over, the page gives way to the one that asks, and only then.
import assert from "node:assert/strict";
import { test } from "node:test";
import { noteRefusal } from "../public/js/access.js";
import { metaOfGuest } from "../dashboard/js/guests.js";

function window(status) {
  const asked = [];
  let reloads = 0;
  const page = { href: "https://live.example/", reload: () => (reloads += 1) };
  const get = async (url, { method }) => {
    asked.push([method, url]);
    if (status === null) throw new TypeError("away");
    return { status };
  };
  return { asked, reloads: () => reloads, hear: (answer) => noteRefusal(answer, { page, get }) };
}

test("a page that is refused itself is loaded anew: the answer says why, and how to get back in", async () => {
  const { asked, reloads, hear } = window(401);
  await hear(401);
  assert.deepEqual([asked, reloads()], [[["HEAD", "https://live.example/"]], 1]);
});

test("answers of all kinds that come at once ask for the page once", async () => {
  const { asked, reloads, hear } = window(401);
  await Promise.all([hear(401), hear(401), hear(200), hear(undefined)]);
  assert.deepEqual([asked.length, reloads()], [1, 1]);
});

test("a page that is let in stays, and so does one without an answer, and each may ask again", async () => {
  for (const status of [200, 503, null]) {
    const { asked, reloads, hear } = window(status);
    for (const answer of [401, 401, 404, 500, 200]) await hear(answer);
    assert.deepEqual([asked.length, reloads()], [2, 0]);
  }
});

test("a guest in the operator's list", () => {
  const one = { until: "2026-12-25T00:00:00Z", opened: 1, watching: 2, crew: true };
  const facts = metaOfGuest(one);
  assert.deepEqual([facts.length, ...facts.slice(1)], [3, "opened once", "2 watching"]);
  assert.equal(metaOfGuest({ ...one, opened: 0 })[1], "not opened yet");
});
