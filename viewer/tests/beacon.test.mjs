// What the page reports of how it watches.
import assert from "node:assert/strict";
import { afterEach, mock, test } from "node:test";
import { createBeacon } from "../public/js/beacon.js";
import { createStore } from "../public/js/state.js";

afterEach(() => mock.timers.reset());

/** A page whose clock the test moves; `sent` has its reports, and none is sent while `works` is false. Its draw is 0.5. */
function openPage(more = {}) {
  mock.timers.enable({ apis: ["setInterval"] });
  const store = createStore();
  const page = new EventTarget();
  const video = new EventTarget();
  const on = { store, sent: [], works: true };
  let time = 0;
  const send = (_url, text) => on.works && on.sent.push(JSON.parse(text)) > 0;
  createBeacon({ url: "/b", store, video, page, now: () => time, send, viewer: "8000000000000000", random: () => 0.5, ...more });
  return Object.assign(on, {
    pass(seconds) {
      for (let left = seconds; left > 0; left -= 1) {
        time += 1000;
        mock.timers.tick(1000);
      }
    },
    plays() {
      store.set({ status: "live", paused: false });
      video.dispatchEvent(new Event("playing"));
    },
    waits: () => video.dispatchEvent(new Event("waiting")),
    leave: () => page.dispatchEvent(new Event("pagehide")),
  });
}

test("bytes and seconds are told once each, the last when the page is left", () => {
  const { store, sent, pass, plays, leave } = openPage();
  pass(60);
  assert.deepEqual(sent, []); // nothing watched, nothing to tell
  plays();
  store.set({ bytes: { bucket: 100, peers: 20, uploaded: 3 } });
  pass(25);
  store.set({ bytes: { bucket: 150, peers: 20, uploaded: 3 } });
  pass(20);
  store.set({ bytes: { bucket: 160, peers: 25, uploaded: 3 } });
  leave();
  const sum = (name) => sent.reduce((total, report) => total + report[name], 0);
  assert.deepEqual(["httpBytes", "p2pBytes", "uploadedBytes", "seconds"].map(sum), [160, 25, 3, 45]);
});

test("what could not be sent is told by the next report", () => {
  const on = openPage();
  on.plays();
  on.pass(25);
  const before = on.sent.length;
  on.works = false;
  on.store.set({ stalls: 2, bytes: { bucket: 50, peers: 0, uploaded: 0 } });
  on.pass(25);
  on.works = true;
  on.pass(25);
  const [report] = on.sent.slice(before);
  assert.deepEqual([report.stalls, report.httpBytes, report.seconds], [2, 50, 50]);
});

test("a page is counted from its first picture on, under the same random name, until it pauses or is left", () => {
  const { store, sent, pass, plays, leave } = openPage({ viewer: undefined });
  store.set({ status: "reconnecting" });
  pass(30);
  assert.deepEqual(sent, []); // it has never seen anything
  plays();
  pass(5);
  assert.match(sent[0].viewer, /^[0-9a-f]{16}$/);
  assert.equal(sent[0].over, false);
  store.set({ status: "buffering" });
  pass(25);
  assert.equal(sent.at(-1).over, false); // frozen, and still there
  store.set({ status: "live", paused: true });
  pass(5);
  assert.equal(sent.at(-1).over, true);
  const told = sent.length;
  pass(60);
  assert.equal(sent.length, told);
  plays();
  pass(5);
  assert.equal(sent.at(-1).over, false);
  leave();
  assert.equal(sent.at(-1).over, true);
  assert.equal(new Set(sent.map(({ viewer }) => viewer)).size, 1);
});

test("errors without a picture are told soon, and then like everything else", () => {
  const { store, sent, pass, plays } = openPage();
  store.set({ status: "reconnecting", errors: 2 });
  pass(5);
  assert.deepEqual(
    sent.map(({ over, errors, seconds }) => [over, errors, seconds]),
    [[true, 2, 0]],
  );
  for (let errors = 3; errors < 8; errors += 1) {
    store.set({ errors });
    pass(3);
  }
  assert.equal(sent.length, 1);
  pass(10);
  assert.equal(sent.length, 2);
  plays();
  pass(5);
  assert.equal(sent.at(-1).over, false);
});

test("a page without a decoder says so for as long as it is open", () => {
  const { store, sent, pass } = openPage();
  store.set({ status: "undecodable", undecodable: "HEVC", errors: 1 });
  pass(56);
  assert.deepEqual(sent.map(({ over, errors, undecodable }) => [over, errors, undecodable]), [[true, 1, "HEVC"], [true, 0, "HEVC"], [true, 0, "HEVC"]]);
  store.set({ status: "connecting" });
  pass(30);
  assert.equal(sent.length, 3);
});

test("how far behind live it is, also while paused, but not where a recording has it", () => {
  const { store, sent, pass, plays, leave } = openPage();
  plays();
  store.set({ latency: 4 });
  pass(5);
  assert.equal(sent.at(-1).behind, 0);
  store.set({ paused: true, latency: 30 });
  pass(25);
  const { over, behind } = sent.at(-1);
  assert.deepEqual([over, behind], [true, 30]);
  const told = sent.length;
  store.set({ latency: 600.5 });
  pass(50);
  assert.deepEqual(sent.slice(told).map(({ behind }) => behind), [600.5, 600.5]);
  store.set({ kept: "/kept", replay: ["/kept"], paused: false, behind: true });
  pass(25);
  assert.equal(sent.at(-1).behind, 600.5);
  store.set({ replay: ["/recording"] });
  pass(25);
  assert.equal(sent.at(-1).behind, 0);
  leave();
  assert.equal(sent.at(-1).behind, 0);
});

test("how long the first picture took is told once, without the time before the stream, or before a click", () => {
  const startups = ({ sent }) => sent.map(({ startup }) => startup).filter((one) => one !== undefined);
  const page = openPage();
  page.pass(3);
  page.plays();
  page.pass(60);
  page.plays();
  page.pass(60);
  assert.deepEqual(startups(page), [3]);
  page.store.set({ status: "offline" });
  page.pass(60);
  page.store.set({ status: "connecting" });
  page.pass(2);
  page.plays();
  page.pass(60);
  assert.deepEqual(startups(page), [3, 2]);
  mock.timers.reset();
  const asked = openPage();
  asked.store.set({ status: "blocked" });
  asked.pass(60);
  asked.plays();
  asked.pass(60);
  assert.deepEqual(startups(asked), []);
});

test("stalls and their length, errors, the variant on screen, and how late it is where nobody chose that", () => {
  const { store, sent, pass, plays, waits } = openPage();
  waits(); // for its first picture, which is no stall
  pass(2);
  plays();
  const stages = [{ variant: "0", played: 5 }, { variant: "1", played: 9 }, { variant: "2", played: null }];
  store.set({ stages, delay: 3.2, latency: 2, stalls: 1, errors: 2 });
  waits();
  pass(4);
  plays();
  pass(24);
  assert.deepEqual([sent.at(-1).variant, sent.at(-1).latency], ["1", 3.2]);
  const sum = (name) => sent.reduce((total, report) => total + report[name], 0);
  assert.deepEqual(["stalls", "stalled", "errors"].map(sum), [1, 4, 2]);
  store.set({ following: false });
  pass(25);
  assert.equal("latency" in sent.at(-1), false);
});

const asks = (store, share, every) => store.set({ reports: { share, every } });

test("a page reports as seldom as it is asked to, by chance somewhat sooner or later", () => {
  for (const [chance, between] of [[0, 215], [0.5, 400], [1, 590]]) {
    const { store, sent, pass, plays } = openPage({ random: () => chance });
    const times = [];
    asks(store, 1, 400);
    plays();
    for (let second = 1; second <= 1400; second += 1) {
      pass(1);
      if (sent.length > times.length) times.push(second);
    }
    assert.deepEqual(times.slice(0, 3), [5, 5 + between, 5 + 2 * between].filter((time) => time <= 1400));
    assert.equal(sent[1].seconds, between);
    mock.timers.reset();
  }
});

test("a page whose draw is not below the share tells nothing, and nothing of that time later", () => {
  const { store, sent, pass, plays, waits, leave } = openPage();
  plays();
  pass(25);
  const before = sent.length;
  asks(store, 0.5, 25); // its draw is 0.5
  pass(10);
  store.set({ errors: 3, stalls: 3, bytes: { bucket: 1000, peers: 0, uploaded: 0 } });
  waits();
  pass(100);
  plays();
  assert.equal(sent.length, before);
  asks(store, 0.6, 25);
  pass(30);
  assert.equal(sent.length, before, "not at once with all the others whom the new share adds");
  pass(5);
  assert.deepEqual(sent.slice(before).map(({ errors, stalls, httpBytes, over }) => [errors, stalls, httpBytes, over]), [[0, 0, 0, false]]);
  assert.ok(sent.at(-1).seconds <= 40 && sent.at(-1).stalled <= 5);
  asks(store, 0, 25);
  pass(60);
  leave();
  assert.equal(sent.length, before + 1);
});

test("who is behind live always reports, also where few do, and not where nobody does", () => {
  const { store, sent, pass, plays } = openPage();
  asks(store, 0.01, 400);
  plays();
  store.set({ paused: true, latency: 30 });
  pass(55);
  assert.deepEqual(sent.map(({ behind, over }) => [behind, over]), [[30, true], [30, true], [30, true]]);
  store.set({ paused: false, latency: 4 });
  pass(100);
  assert.deepEqual(sent.slice(3).map(({ behind }) => behind), [0], "that it is not any more");
  asks(store, 0, 25);
  store.set({ paused: true, latency: 30 });
  pass(100);
  assert.equal(sent.length, 4);
});

test("the draw is the first half of the page's name, as the server reads it", () => {
  for (const [viewer, share, told] of [["ffffffff00000000", 0.999, 0], ["ffffffff00000000", 1, 1], ["0028f5c2ffffffff", 0.000625, 1], ["0028f5c3ffffffff", 0.000625, 0]]) {
    const { store, sent, pass, plays } = openPage({ viewer });
    asks(store, share, 25);
    plays();
    pass(5);
    assert.equal(sent.length, told, `${viewer} of ${share}`);
    mock.timers.reset();
  }
});
