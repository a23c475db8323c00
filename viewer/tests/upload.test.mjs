// A file in parts: what is missing is sent until it is right, and no more.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { Complaint } from "../dashboard/js/api.js";
import { putPart } from "../dashboard/js/put-part.js";
import { etagOf, isTheSame, sendFile } from "../dashboard/js/multipart-upload.js";

const md5 = { create: () => createHash("md5") };
const digest = (text) => createHash("md5").update(text).digest();
const BODY = "aaaabbbbccccd";
const PIECES = ["aaaa", "bbbb", "cccc", "d"];
const ETAG = etagOf(PIECES.map(digest), md5);

/** A bucket that takes parts; `faults` are what becomes of them, by number. */
function bucket(faults = {}) {
  const got = {};
  const asked = [];
  let [now, most] = [0, 0];
  const put = async ({ url, part, progress }) => {
    most = Math.max(most, (now += 1));
    asked.push(url);
    progress(1);
    await new Promise((resolve) => setTimeout(resolve));
    now -= 1;
    const fault = faults[url]?.shift();
    if (fault instanceof Error) throw fault;
    if (fault !== undefined) return fault;
    got[url] = await part.text();
    return digest(got[url]).toString("hex");
  };
  return { got, asked, put, most: () => most };
}

function send(at, more = {}) {
  const seen = [];
  const terms = {
    file: new Blob([BODY]),
    upload: { partSize: 4, parts: {} },
    address: async (number) => number,
    put: at.put,
    md5,
    progress: (bytes) => seen.push(bytes),
    signal: new AbortController().signal,
    pause: async () => {},
    ...more,
  };
  return { seen, done: sendFile(terms) };
}

test("all parts are sent, three at once, and what is there is not", async () => {
  const at = bucket();
  assert.equal(await send(at).done, ETAG);
  assert.deepEqual(Object.values(at.got), PIECES);
  assert.equal(at.most(), 3);
  const again = bucket();
  const parts = { 1: digest("aaaa").toString("hex"), 2: digest("other").toString("hex") };
  const { seen, done } = send(again, { upload: { partSize: 4, parts } });
  assert.equal(await done, ETAG);
  assert.deepEqual(again.asked.sort(), [2, 3, 4]);
  assert.equal(seen.at(-1), BODY.length);
});

test("a part that fails, or comes back with another ETag, is sent again", async () => {
  const at = bucket({ 1: [new Error("500"), "x"], 3: [new Error("no bytes get through")] });
  const { seen, done } = send(at);
  assert.equal(await done, ETAG);
  assert.deepEqual(at.asked.filter((number) => number === 1).length, 3);
  assert.ok(seen.every((bytes) => bytes <= BODY.length));
});

test("it ends where nothing gets through, where that is said, and where it is cancelled", async () => {
  const away = () => Array.from({ length: 99 }, () => new Error("the bucket cannot be reached"));
  await assert.rejects(send(bucket({ 1: away(), 2: away(), 3: away(), 4: away() })).done, /cannot be reached/);
  await assert.rejects(send(bucket({ 2: [null] })).done, /ETag/);
  const over = async () => {
    throw new Complaint("this upload is over");
  };
  await assert.rejects(send(bucket(), { address: over }).done, Complaint);
  let busy = 2;
  const later = async (number) => (busy-- > 0 ? Promise.reject(new Complaint("the bucket is away", { again: true })) : number);
  assert.equal(await send(bucket(), { address: later }).done, ETAG);
  const cancel = new AbortController();
  cancel.abort(new Error("cancelled"));
  const at = bucket();
  await assert.rejects(send(at, { signal: cancel.signal }).done, /cancelled/);
  assert.deepEqual(at.asked, []);
});

test("once it is cancelled, no part is begun, and none that still arrives is told", async () => {
  for (const late of ["address", "put"]) {
    const at = bucket();
    const stop = new AbortController();
    const told = [];
    const cancelled = (name, work) => async (given) => {
      if (name === late) stop.abort(new Error("cancelled"));
      return work(given);
    };
    const { done } = send(at, {
      address: cancelled("address", async (number) => number),
      put: cancelled("put", at.put),
      progress: (bytes) => told.push(bytes),
      signal: stop.signal,
    });
    await assert.rejects(done, /cancelled/);
    assert.deepEqual(told, []);
    if (late === "address") assert.deepEqual(at.asked, []);
  }
});

test("a file that the bucket has is known again", async () => {
  const known = { size: BODY.length, partSize: 4, etag: ETAG };
  assert.equal(await isTheSame(new Blob([BODY]), known, md5), true);
  assert.equal(await isTheSame(new Blob([BODY.replace("b", "x")]), known, md5), false);
  assert.equal(await isTheSame(new Blob([`${BODY}.`]), known, md5), false);
  assert.equal(await isTheSame(new Blob([BODY]), { ...known, partSize: 0 }, md5), false);
  assert.equal(await isTheSame(new Blob([BODY]), null, md5), false);
});

class FakeRequest extends EventTarget {
  upload = new EventTarget();
  status = 200;
  open(...given) {
    this.opened = given;
  }
  send(part) {
    this.sent = part;
  }
  abort() {
    this.dispatchEvent(new Event("abort"));
  }
  getResponseHeader = () => '"abc"';
}

test("a part is given up when no bytes leave", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const request = new FakeRequest();
  const signal = new AbortController().signal;
  const put = () => putPart({ url: "https://bucket/1", part: new Blob(["ab"]), signal, progress: () => {}, make: () => request });
  let sent = put();
  assert.deepEqual(request.opened, ["PUT", "https://bucket/1"]);
  context.mock.timers.tick(19_999);
  request.upload.dispatchEvent(Object.assign(new Event("progress"), { loaded: 1 }));
  context.mock.timers.tick(19_999);
  request.dispatchEvent(new Event("load"));
  assert.equal(await sent, "abc");
  sent = put();
  context.mock.timers.tick(20_000);
  await assert.rejects(sent, /no bytes get through/);
  sent = put();
  request.status = 503;
  request.dispatchEvent(new Event("load"));
  await assert.rejects(sent, /503/);
});
