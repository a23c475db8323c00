import assert from "node:assert/strict";
import { test } from "node:test";
import { initialState } from "../public/js/state.js";
import { defaultTexts } from "../public/js/texts.js";
import { phaseOf } from "../public/js/player-phase.js";
import { sayViewers } from "../public/js/ui/status.js";

const playing = { ...initialState, paused: false, channel: "live" };
const cases = [
  ["no stream yet", { status: "offline", channel: "offline" }, "offline"],
  ["no stream, and nobody tells more", { status: "offline", channel: null }, "offline"],
  ["an event is announced", { status: "offline", channel: "offline", startsAt: Date.now() + 9e6 }, "soon"],
  ["it is late", { status: "offline", channel: null, startsAt: Date.now() - 6e5 }, "soon"],
  ["the next one is announced already", { status: "offline", channel: "ended", startsAt: Date.now() + 9e6 }, "soon"],
  ["it is over", { status: "offline", channel: "ended", startsAt: Date.now() - 6e5 }, "ended"],
  ["it was long ago", { status: "offline", channel: "offline", startsAt: Date.now() - 9e6 }, "offline"],
  ["the first segments come", { status: "offline", channel: "starting" }, "starting"],
  ["and the page looks already", { status: "connecting", channel: "starting" }, "starting"],
  ["at live", { status: "live" }, "live"],
  ["at live while the bucket is away: the buffer still plays", { status: "live", trouble: "delivery" }, "live"],
  ["16 s behind", { status: "live", behind: true }, "behind"],
  ["paused at live", { status: "live", paused: true }, "behind"],
  ["paused when the stream has ended", { status: "live", paused: true, over: true, channel: "ended" }, "rest"],
  ["the rest of it, far back", { status: "live", behind: true, over: true, channel: null }, "rest"],
  ["between two streams that go on", { status: "live", over: true, channel: "starting" }, "live"],
  ["the window has left the pause", { status: "live", paused: true, gone: true }, "gone"],
  ["a slow connection", { status: "buffering" }, "buffering"],
  ["a connection that is too slow for any quality", { status: "buffering", slow: true }, "slow"],
  ["the same, and the bucket is away", { status: "buffering", slow: true, trouble: "delivery" }, "delivery"],
  ["nothing new, and the server does not say why", { status: "waiting" }, "waiting"],
  ["the encoder is silent", { status: "waiting", trouble: "encoder" }, "encoder"],
  ["the bucket is away", { status: "waiting", trouble: "delivery" }, "delivery"],
  ["the bucket is away, as a player sees it", { status: "buffering", trouble: "delivery" }, "delivery"],
  ["between two players meanwhile", { status: "reconnecting", trouble: "delivery" }, "delivery"],
  ["the service does not answer", { status: "reconnecting", channel: null }, "reconnecting"],
  ["the encoder is silent, and this viewer's network is away", { status: "reconnecting", trouble: "encoder" }, "reconnecting"],
  ["played to the end", { status: "offline", channel: null, ended: true }, "ended"],
  ["come after the end", { status: "offline", channel: "ended" }, "ended"],
  ["a stream is on whose playlist has nothing to play", { status: "offline", channel: "live" }, "connecting"],
  ["and the server says why", { status: "offline", channel: "live", trouble: "delivery" }, "delivery"],
  ["a click is wanted", { status: "blocked", trouble: "encoder" }, "blocked"],
  ["no player for this browser", { status: "unsupported" }, "unsupported"],
  ["no decoder for the stream", { status: "undecodable" }, "undecodable"],
  ["the same, and the stream has ended", { status: "undecodable", channel: "ended" }, "ended"],
];
for (const [name, patch, phase] of cases) {
  test(`${name}: ${phase}`, () => assert.equal(phaseOf({ ...playing, ...patch }), phase));
}

test("each phase has its badge, and words for each that covers the picture", () => {
  for (const [, , phase] of cases) {
    assert.ok(defaultTexts[`${phase}Badge`], phase);
    if (!["live", "behind", "rest"].includes(phase)) assert.ok(defaultTexts[`${phase}Title`] && defaultTexts[`${phase}Text`], phase);
  }
});

test("before a start viewers wait, and after the end none are counted", () => {
  const said = (phase, viewers = 3) => sayViewers({ phase, viewers, texts: defaultTexts });
  assert.deepEqual(["live", "encoder"].map((phase) => said(phase)), ["3 watching", "3 watching"]);
  assert.deepEqual(["soon", "offline", "starting"].map((phase) => said(phase)), Array(3).fill("3 waiting"));
  assert.deepEqual([said("ended"), said("live", null)], [null, null]);
});

test("guests are spared the words of engineers", () => {
  const ours = /^(figure|flow|delay|plot|way|money)/; // of the statistics, which say all that there is to say
  const texts = Object.entries(defaultTexts).filter(([name]) => !ours.test(name)).map(([, text]) => JSON.stringify(text));
  assert.doesNotMatch(texts.join(" "), /kbit|R2|bucket|latency|P2P|\$/i);
});
