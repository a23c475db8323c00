// What the operator's dashboard makes of the service's figures.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { follow, merge } from "../dashboard/js/metric-rows.js";
import { createSound } from "../dashboard/js/sound.js";
import { age, headline, lamps, lastSegment, latest } from "../dashboard/js/headline.js";
import { ceiling, lately, money, outages, peerShare, rate, rates, topOf, upToNow } from "../dashboard/js/rates.js";
import { badgeOf, displayOf } from "../dashboard/js/checklist.js";
import { moved } from "../dashboard/js/tabs.js";
import { nowTiles } from "../dashboard/js/tiles.js";
import { bytes, clock, dollars, duration, forOperator, milliseconds, most, percent, span } from "../dashboard/js/format.js";

const row = (seconds, more = {}) => ({ time: 1000 * seconds, requests: 0, ...more });
const prices = { storagePerGbMonth: 0.015, classAPerMillion: 4.5, classBPerMillion: 0.36, compareEgressPerGb: 0.09 };

test("rows are kept once and in order, and not beyond a restart of the service", () => {
  const rows = [row(1, { requests: 5 }), row(2, { requests: 6 })];
  assert.deepEqual(merge(rows, [row(2, { requests: 6 }), row(3, { requests: 7 })]).map(({ time }) => time), [1000, 2000, 3000]);
  assert.deepEqual(merge(rows, [row(9, { requests: 0 })]).map(({ time }) => time), [9000]);
});

test("counters become rates", () => {
  const rows = [row(0, { polls: 0 }), row(5, { polls: 10 }), row(10, { polls: 40 })];
  assert.equal(rate(rows, "polls"), 4);
  assert.deepEqual(rates(rows, "polls"), [null, 2, 6]);
  assert.equal(rate(rows.slice(0, 1), "polls"), null);
});

test("an outage is from the first row that says so to the first that does not", () => {
  const rows = [0, 1, 1, 0, 0, 1].map((failing, index) => row(5 * index, { failing }));
  assert.deepEqual(outages(rows).map(({ from, to }) => [from, to]), [[5, 15], [25, 25]]);
  assert.deepEqual(outages([]), []);
});

test("an outage begins when the picture stood still, in the banner, the tile and the shading alike, and after it as well", () => {
  const during = [row(0, { failing: 0, frozen: 0 }), row(5, { failing: 1, frozen: 0 }), row(10, { failing: 1, frozen: 11.5 }), row(15, { failing: 1, frozen: 16.5 })];
  const now = { now: 18_000, rows: during, health: { viewers: 1, backlog: 0, frozen: 19.5 }, verdict: { severity: "failing" } };
  assert.equal(now.now / 1000 - now.health.frozen, outages(upToNow(now)).at(-1).from);
  const after = [...during, row(20, { failing: 0, frozen: 0 })];
  assert.deepEqual(outages(after), [{ from: -1.5, to: 20, isStill: true }]);
  const again = outages([...after, row(25, { failing: 1, frozen: 7 })]);
  assert.deepEqual(again.map(({ from, to }) => [from, to]), [[-1.5, 18], [18, 25]]);
});

test("how late viewers were in an outage stays in the plot when it is over", () => {
  const late = (time, latency50, frozen = 0) => row(time, { latency50, latency95: latency50, frozen, failing: Number(frozen > 0), viewers: 1, backlog: 0 });
  const rows = [late(0, 6), late(5, 6), late(10, null, 9), late(15, null, 14), late(20, null), late(25, 5)];
  const now = { now: 27_000, rows, health: { viewers: 1, backlog: 0, frozen: null }, verdict: { severity: "ok" } };
  assert.deepEqual(upToNow(now).map(({ latency50 }) => latency50), [6, 6, 9, 14, null, 5, null]);
});

test("no plot is behind its tile: the last row is of this moment, and what is counted up has no rate there", () => {
  const rows = [row(0, { viewers: 410, backlog: 0, latency50: 6, latency95: 37, failing: 0 }), row(5, { viewers: 411, backlog: 0, latency50: 6, latency95: 37, failing: 0 })];
  const now = { now: 7000, rows, health: { viewers: 412, backlog: 62, frozen: null }, verdict: { severity: "failing" } };
  const all = upToNow(now);
  assert.deepEqual(all.at(-1), { time: 7000, requests: null, viewers: 412, backlog: 62, latency50: null, latency95: null, failing: 1, frozen: 0 });
  assert.deepEqual(rates(all, "requests"), [null, 0, null]);
  const late = (frozen) => upToNow({ ...now, health: { viewers: 1, backlog: 0, frozen } }).map(({ latency50, latency95 }) => [latency50, latency95]);
  assert.deepEqual([late(38), late(3)], [[[31, 37], [36, 37], [38, 38]], [[6, 37], [6, 37], [6, 37]]]);
});

test("in trouble the plots have the last minutes, and some of what was before", () => {
  const hour = (failing) => Array.from({ length: 720 }, (_, index) => row(5 * index, { failing: failing(index) }));
  const seconds = (rows) => (rows.at(-1).time - lately(rows)[0].time) / 1000;
  assert.equal(seconds(hour(() => 0)), 3595);
  assert.equal(seconds(hour((index) => Number(index > 100 && index < 110))), 3595);
  assert.equal(seconds(hour((index) => Number(index > 710))), 600);
  assert.equal(seconds(hour((index) => Number(index >= 479))), 1500); // since 20 minutes
  assert.equal(seconds(hour(() => 1)), 3595);
});

test("an axis ends with a number that is written there, and its half is easily read", () => {
  assert.deepEqual([1, 1.1, 10.45, 13, 45.5, 453, 1000].map((most) => topOf(most, false)), [1, 1.2, 12, 16, 50, 500, 1000]);
  assert.deepEqual([1, 1.1, 2.2, 4.5, 6.8, 9, 13, 45.5, 453].map((most) => topOf(most, true)), [1, 2, 4, 6, 8, 10, 16, 50, 500]);
});

test("one value that is far out flattens no plot, and what lasts has room", () => {
  const usual = Array(99).fill(30);
  assert.equal(Math.round(ceiling([...usual, 60_000, null])), 99);
  assert.equal(Math.round(ceiling([...usual, ...Array(99).fill(600)])), 660);
  assert.equal(Math.round(ceiling([...Array(99).fill(0), 50])), 55);
  assert.equal(Math.round(ceiling([...usual, 600], [600])), 660);
  assert.equal(ceiling([null]), 1);
});

test("the alarm sounds where it is switched on, at once and again, and not while all is well", () => {
  const button = Object.assign(new EventTarget(), { checked: false });
  const beeps = [];
  const note = createSound({ button, beep: (tones) => beeps.push(tones.length) });
  note("failing", 0);
  assert.deepEqual(beeps, []);
  button.checked = true;
  button.dispatchEvent(new Event("change"));
  assert.deepEqual(beeps, [1]);
  for (const [state, moment] of [["ok", 0], ["warning", 1], ["failing", 2], ["failing", 5000], ["old", 10_002], ["ok", 10_003], ["old", 10_004]]) note(state, moment);
  assert.deepEqual(beeps, [1, 3, 3, 3]);
});

test("the share of peers, and nothing before anybody has reported", () => {
  assert.equal(peerShare({ bucketBytes: 25, peerBytes: 75 }), 0.75);
  assert.equal(peerShare({ bucketBytes: 0, peerBytes: 0 }), null);
});

test("money: operations and storage against egress", () => {
  const all = { operationsA: 1e6, operationsB: 1e6, storedByteSeconds: 1e9 * 30 * 24 * 3600, bucketBytes: 50e9, peerBytes: 50e9 };
  const { spent, compared, saved } = money([row(0, all)], prices);
  assert.ok(Math.abs(spent - (4.5 + 0.36 + 0.015)) < 1e-9);
  assert.ok(Math.abs(compared - 9) < 1e-9);
  assert.equal(saved, compared - spent);
  assert.equal(money([], prices), null);
});

test("figures are written as people read them", () => {
  assert.equal(bytes(999), "999 B");
  assert.equal(bytes(1.25e9), "1.3 GB");
  assert.equal(percent(null), "–");
  assert.equal(dollars(-0.5), "−$0.5000");
  assert.equal(most(milliseconds, 0.31), "95 % ≤ 310 ms");
  assert.equal(most(milliseconds, null), "");
  assert.equal(clock(new Date(2026, 0, 1, 0, 5, 9).getTime()), "00:05:09");
  assert.equal(clock(new Date(2026, 0, 1, 23, 5, 9).getTime(), {}), "23:05");
});

const answer = (more = {}) => ({
  now: 7000,
  rows: [row(4)],
  came: 100_000,
  verdict: { severity: "ok", sentence: "no stream is on", faults: [] },
  health: { stream: "offline", silence: 0.9, backlog: 0, frozen: null },
  checklist: [],
  ...more,
});

test("figures grow older, by the service's clock until they came and by ours since", () => {
  assert.equal(age(answer(), 100_000), 3);
  assert.equal(age(answer(), 104_000), 7);
  assert.equal(age(answer({ rows: [] }), 104_000), 4);
  assert.deepEqual(["99", "125", "7300"].map(duration), ["99 s", "2 min 5 s", "2 h 1 min"]);
});

test("the headline is the service's own sentence, with its severity in a word", () => {
  const [sentence, faults] = ["the disk fills", [{ cause: "the disk fills", remedy: "make room" }]];
  const told = (severity) => headline(answer({ verdict: { severity, sentence, faults } }), false, 100_000);
  const lines = [{ text: "Make room", does: true }];
  assert.deepEqual(told("warning"), { state: "warning", label: "! Warning", text: "The disk fills", lines });
  assert.deepEqual(told("failing"), { state: "failing", label: "✕ Failing", text: "The disk fills", lines });
});

test("each of several faults has its own line of what to do", () => {
  const faults = [{ cause: "the disk fills", remedy: "make room" }, { cause: "the clock is wrong", remedy: "set it" }, { cause: "it rains", remedy: "" }];
  const { lines } = headline(answer({ verdict: { severity: "warning", sentence: "the disk fills", faults } }), false, 100_000);
  assert.deepEqual(lines, [{ text: "Make room", does: true }, { text: "The clock is wrong", remedy: "Set it" }, { text: "It rains", remedy: "" }]);
});

test("without a stream the headline is no better than the checklist", () => {
  const check = (name, outcome) => ({ name, title: `${name} right`, outcome });
  const told = (...checklist) => headline(answer({ checklist }), false, 100_000);
  const shown = (...checklist) => Object.values(told(...checklist)).slice(0, 3).join("|");
  assert.equal(shown(check("disk", "ok"), check("public", "skipped")), "ok|✓ Ready|No stream is on");
  assert.equal(shown(check("encoder", "failed"), check("disk", "ok")), "off|– Off|No stream is on; not yet: encoder right");
  const over = headline(answer({ checklist: [check("encoder", "failed")], health: { stream: "ended" } }), false, 100_000);
  assert.equal(over.text, "No stream is on");
  assert.equal(shown(check("encoder", "failed"), check("disk", "warning")), "warning|! Not ready|No stream is on; not yet: encoder right, disk right");
});

test("a sentence has local times, and no address of the bucket", () => {
  const now = Date.parse("2026-11-25T20:30:00Z");
  const told = (time) => forOperator(`since ${time}: PUT to https://account.r2.cloudflarestorage.com, bucket 'event': no answer`, now);
  assert.equal(told("2026-11-25T20:14:07Z"), `Since ${clock(Date.parse("2026-11-25T20:14:07Z"))}: no answer`);
  assert.match(told("2026-11-21T12:14:07Z"), /^Since 21 Nov, \d\d:14: no answer$/);
  assert.equal(forOperator("https://media.example does not answer"), "https://media.example does not answer");
});

test("while all is well the age of the last segment counts up", () => {
  const verdict = { severity: "ok", sentence: "LIVE: 412 viewers", faults: [] };
  const live = answer({ verdict, health: { stream: "live", silence: 0.9 } });
  const text = (moment, more = {}) => headline({ ...live, ...more }, false, moment).text;
  assert.equal(text(100_500), "LIVE: 412 viewers, last segment 1.4 s ago");
  assert.equal(text(112_000), "LIVE: 412 viewers, last segment 13 s ago");
  assert.equal(text(100_000, { verdict: { severity: "failing", sentence: "VIEWERS FROZEN", faults: [] } }), "VIEWERS FROZEN");
});

test("a service without a word is never well", () => {
  const text = "No word from the service for 12 s: these figures are old";
  const lines = [{ text: "See whether the service runs, and what its log says", does: true }];
  assert.deepEqual(headline(answer(), true, 109_000), { state: "old", label: "✕ No answer", text, lines });
  assert.equal(headline(answer(), false, 112_000).state, "ok");
  assert.equal(headline(answer(), false, 112_001).state, "old");
  assert.equal(headline(answer({ now: 20_000 }), false, 100_000).text, text.replace("12", "16"));
  assert.equal(headline(null, true, 0).state, "old");
  assert.equal(headline(null, false, 0).state, "waiting");
});

test("a lamp for each part, and none that is known by what is old", () => {
  const verdict = { severity: "failing", sentence: "", parts: { encoder: "ok", service: "warning", bucket: "failing" } };
  const signs = (state) => lamps(answer({ verdict, health: { stream: "live" } }), state).map(({ part, sign }) => `${part} ${sign}`);
  assert.deepEqual(signs("failing"), ["encoder ✓", "service !", "bucket ✕"]);
  assert.deepEqual(signs("old"), ["encoder ?", "service ✕", "bucket ?"]);
  assert.deepEqual(lamps(null, "waiting"), []);
});

test("without a stream nothing is well but the service, and a bucket that is waited for", () => {
  const verdict = { severity: "ok", sentence: "", parts: { encoder: "ok", service: "ok", bucket: "ok", viewers: "ok" } };
  const signs = (stream, backlog = 0) => lamps(answer({ verdict, health: { stream, backlog } }), "ok").map(({ sign }) => sign).join("");
  assert.deepEqual(["live", "starting", "offline", "ended"].map((stream) => signs(stream)), ["✓✓✓✓", "✓✓✓✓", "–✓––", "–✓––"]);
  assert.equal(signs("ended", 3), "–✓✓–");
});

test("the arrow keys, Home and End go from tab to tab", () => {
  assert.deepEqual(["ArrowLeft", "ArrowRight", "Home", "End", "a"].map((key) => moved(key, 0, 8)), [7, 1, 0, 7, null]);
  assert.equal(moved("ArrowRight", 7, 8), 0);
});

test("the checklist counts what is to be done; a check that could not be made is neither yes nor no", () => {
  const outcomes = ["ok", "warning", "failed", "skipped"].map((outcome) => ({ name: "disk", outcome }));
  const badges = [outcomes, outcomes.slice(0, 2), [outcomes[0], outcomes[3]]].map((checklist) => badgeOf(checklist, false));
  assert.deepEqual(badges, [{ text: "2 to do", state: "failing" }, { text: "1 to do", state: "warning" }, { text: "✓", state: "ok" }]);
  assert.deepEqual(outcomes.map((finding) => displayOf(finding).sign), ["✓", "!", "✕", "–"]);
});

test("before the event an encoder that is not there yet is as grey in the checklist as in its lamp, and in a stream it is a fault", () => {
  const checklist = [{ name: "encoder", outcome: "failed" }, { name: "disk", outcome: "ok" }];
  assert.deepEqual([true, false].map((isOff) => badgeOf(checklist, isOff)), [{ text: "1 to do", state: "off" }, { text: "1 to do", state: "failing" }]);
  assert.deepEqual([true, false].map((isOff) => displayOf(checklist[0], isOff).sign), ["–", "✕"]);
  const both = [...checklist, { name: "clock", outcome: "failed" }];
  assert.deepEqual([badgeOf(both, true).state, displayOf(both[2], true).sign], ["failing", "✕"]);
});

const night = (more = {}) => ({
  ...answer(),
  health: { stream: "live", silence: 0.9, viewers: 412, viewers_error: 18, backlog: 62, frozen: null },
  verdict: { severity: "ok", parts: { encoder: "ok", service: "ok", bucket: "ok", viewers: "ok" } },
  rows: [row(4, { latency50: 6.24, latency95: 9.5, backlog: 60, viewers: 410 })],
  uplink: { needed: 4.8e6, left: 0 },
  spool: { bytes: 57e6, lasts: 35_700 },
  pages: { playing: 400, failing: 3, undecodable: {} },
  checklist: ["disk", "recording"].map((name) => ({ name, outcome: "ok", word: "on" })),
  ...more,
});

test("browsers without a decoder are named by the codec, and have no picture either", () => {
  const lacking = nowTiles(night({ pages: { failing: 0, undecodable: { HEVC: 3, AV1: 1 } } }), 100_000);
  assert.deepEqual(lacking.find(([name]) => name === "No picture").slice(1), ["4", "4 cannot play HEVC, AV1", "warning"]);
});

test("what the headline may name comes of the same answer, and not of a row", () => {
  const tiles = Object.fromEntries(nowTiles(night(), 100_000).map(([name, ...rest]) => [name, rest.join(" ").trim()]));
  assert.deepEqual(tiles, {
    Viewers: "412 ± 18",
    "Behind live": "6.2 s 95 % ≤ 9.5 s",
    "No picture": "3 with errors warning",
    "Last segment": "0.9 s ago",
    "Uplink left": "0 % needs 4.8 Mbit/s warning",
    Waiting: "62 57.0 MB warning",
    "Disk lasts": "10 h in an outage",
    Recording: "on",
  });
});

test("a figure is no better than the lamp of its part", () => {
  const parts = { encoder: "failing", service: "ok", bucket: "failing", viewers: "warning" };
  const tiles = nowTiles(night({ verdict: { severity: "failing", parts } }), 100_000);
  const states = Object.fromEntries(tiles.map(([name, , , state = ""]) => [name, state]).filter(([, state]) => state));
  assert.deepEqual(states, { "No picture": "warning", "Last segment": "failing", "Uplink left": "failing", Waiting: "failing" });
});

test("while viewers are frozen their delay goes on counting, and all of them are without a moving picture", () => {
  const parts = { encoder: "failing", service: "ok", bucket: "ok", viewers: "failing" };
  const frozen = (seconds, pages = { playing: 400, failing: 0, undecodable: {} }) => {
    const health = { stream: "live", silence: 34.4, viewers: 412, viewers_error: 18, backlog: 0, frozen: seconds };
    return nowTiles(night({ health, pages, verdict: { severity: "failing", parts } }), 100_000).slice(1, 3);
  };
  assert.deepEqual(frozen(38), [["Behind live", "≥ 38 s", "", "failing"], ["No picture", "412", "frozen for 38 s", "failing"]]);
  assert.deepEqual(frozen(240).map(([, value]) => value), ["≥ 4 min", "412"]);
  assert.deepEqual(frozen(5.2)[0][1], "≥ 6 s");
  assert.deepEqual(frozen(38, { failing: 3, undecodable: {} })[1].slice(1, 3), ["415", "frozen for 38 s, with errors"]);
});

const tile = (name, more) => nowTiles(night(more), 100_000).find(([found]) => found === name).slice(1);

test("after an outage viewers are as late as they have reported since, and not as late as in it", () => {
  const rows = [row(0, { latency50: 6, latency95: 9, frozen: 0 }), row(5, { latency50: null, frozen: 9 }), row(10, { latency50: null, frozen: 0 })];
  assert.deepEqual(tile("Behind live", { rows }), ["–", "no report since", ""]);
  assert.deepEqual(tile("Behind live", { rows: [...rows, row(15, { latency50: 7, latency95: 8, frozen: 0 })] }), ["7.0 s", "95 % ≤ 8.0 s", ""]);
});

test("where no page plays, nobody is behind live", () => {
  assert.deepEqual(tile("Behind live", { pages: { playing: 0, failing: 412, undecodable: {} } }), ["–", "no page plays", ""]);
});

test("in an outage of the bucket the last segment is that of viewers, and the recording is behind", () => {
  const health = { stream: "live", silence: 1.2, viewers: 412, viewers_error: 18, backlog: 62, frozen: 67 };
  const verdict = { severity: "failing", parts: { encoder: "ok", service: "ok", bucket: "failing", viewers: "failing" } };
  const checklist = [{ name: "disk", outcome: "ok" }, { name: "recording", outcome: "warning", word: "behind" }];
  assert.deepEqual(tile("Last segment", { health, verdict }), ["67 s ago", "encoder: 1 s ago", "failing"]);
  assert.deepEqual(tile("Recording", { checklist }), ["behind", "", "warning"]);
  const broken = { ...verdict, parts: { ...verdict.parts, encoder: "failing", bucket: "ok" } };
  assert.deepEqual(tile("Last segment", { health, verdict: broken }), ["67 s ago", "encoder: 1 s ago", "failing"]);
  assert.deepEqual(tile("Last segment", { health: { ...health, silence: 67.2 }, verdict: broken }), ["67 s ago", "", "failing"]);
});

test("a figure of the checklist is as ill as its finding", () => {
  const state = (outcome) => tile("Disk lasts", { checklist: ["disk", "recording"].map((name) => ({ name, outcome, word: "" })) })[2];
  assert.deepEqual(["ok", "skipped", "warning", "failed"].map(state), ["", "", "warning", "failing"]);
});

test("without a stream there are no figures of one", () => {
  const off = night({ health: { stream: "offline", viewers: 0, viewers_error: 0, backlog: 0, frozen: null }, uplink: { needed: 0, left: null }, spool: { bytes: 0, lasts: null } });
  const shown = nowTiles(off, 100_000).map(([name, value]) => [name, value]);
  for (const name of ["Behind live", "Last segment", "Uplink left", "Disk lasts"]) assert.deepEqual(shown.find(([found]) => found === name), [name, "–"]);
});

const FIGURES = JSON.parse(await readFile(new URL("support/figures.json", import.meta.url), "utf8"));

test("sizes and times are written as the service writes them in its sentences", () => {
  assert.deepEqual(FIGURES.sizes.map(([size]) => bytes(size)), FIGURES.sizes.map(([, text]) => text));
  assert.deepEqual(FIGURES.spans.map(([seconds]) => span(seconds)), FIGURES.spans.map(([, text]) => text));
});

test("in trouble the last segment is as old as the sentence says", () => {
  const told = (severity, silence = 30) => lastSegment({ health: { silence }, came: 0, verdict: { severity } }, 4000);
  assert.deepEqual([told("ok"), told("failing")], ["34 s ago", "30 s ago"]);
  assert.deepEqual([told("ok", 2.5), told("failing", 6.5), told("failing", 7200)], ["6.5 s ago", "7 s ago", "2 h ago"]);
});

test("a figure that is older than the others says so", () => {
  const rows = [row(0, { delay: 0.2 }), row(5, { delay: null }), row(15, { delay: null })];
  assert.deepEqual(latest(rows, "delay"), { value: 0.2, ago: "" });
  assert.deepEqual(latest([...rows, row(130, { delay: null })], "delay"), { value: 0.2, ago: "2 min 10 s ago" });
  assert.deepEqual(latest(rows.slice(1), "delay"), { value: null, ago: "" });
});

test("a service that takes the connection and never answers is given up", async () => {
  const drawn = [];
  const awake = setTimeout(() => {}, 60_000); // no other timer keeps Node running
  await follow({
    url: "data.json",
    draw: (now) => drawn.push(now),
    within: 0.01,
    get: (_, { signal }) => new Promise((_resolve, reject) => signal.addEventListener("abort", () => reject(signal.reason))),
    sleep: async () => {},
    again: () => false,
  });
  clearTimeout(awake);
  assert.deepEqual(drawn, [null]);
});

test("asks for what is new, and says so when the service does not answer", async () => {
  const answers = [{ rows: [row(1)], health: {} }, null, { rows: [row(2)], health: {} }];
  const asked = [];
  const drawn = [];
  await follow({
    url: "data.json",
    draw: (now) => drawn.push(now && now.rows.length),
    get: async (url) => {
      asked.push(url);
      const body = answers.shift();
      return body ? { ok: true, json: async () => body } : { ok: false, status: 500 };
    },
    sleep: async () => {},
    again: () => answers.length > 0,
  });
  assert.deepEqual(drawn, [1, null, 2]);
  assert.deepEqual(asked, ["data.json?since=0", "data.json?since=1000", "data.json?since=1000"]);
});
