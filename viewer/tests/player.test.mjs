import assert from "node:assert/strict";
import { test } from "node:test";
import { fakePlayer } from "./support/fake-player.mjs";

const url = (number) => `https://b.example/${number}.ts`;

test("the delay is by the clock and not by an encoder's whose times are ahead of it", () => {
  const { hls, catalog, player } = fakePlayer({ serverTime: () => 100000 });
  const plays = (number, date) => {
    hls.playingDate = new Date(date);
    hls.tell("FRAG_CHANGED", { frag: { url: url(number) } });
    return player.facts().delay;
  };
  assert.equal(player.facts().delay, null);
  assert.equal(plays(1, 96000), 4, "a segment that the server has not told of: the playlist's word");
  catalog.note({ url: url(2), run: "a", encoderOffset: 1600 });
  catalog.note({ url: url(3), run: "b", encoderOffset: 41600 }); // after a reconnect, moved
  catalog.note({ url: url(4), run: "b", encoderOffset: null });
  assert.equal(plays(2, 96000), 5.6);
  assert.equal(plays(3, 136000), 5.6, "the run on screen is what counts, not the newest");
  assert.equal(plays(2, 95000), 6.6);
  assert.equal(plays(4, 96000), 4);
});

test("a decoder that is reset plays on where a viewer was watching, and stays paused where not", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  for (const [paused, told] of [[false, ["error", "resume"]], [true, ["error"]]]) {
    const { hls, video, heard } = fakePlayer();
    video.paused = paused;
    hls.tell("ERROR", { type: "mediaError", details: "bufferAppendError", fatal: true });
    t.mock.timers.tick(0);
    assert.deepEqual([heard, video.paused], [told, true]);
  }
});

test("what no decoder is for is named, without another try; any other error of the decoder is not", (t) => {
  t.after(() => delete globalThis.MediaSource);
  const decodable = new Set(["avc1.64001f", "mp4a.40.2"]);
  globalThis.MediaSource = { isTypeSupported: (type) => decodable.has(type.split('"')[1]) };
  const levels = ["hvc1.1.6.L93.B0,mp4a.40.2", "av01.0.04M.08,mp4a.40.2", "avc1.64001f, ec-3"].map((CODECS) => ({ attrs: { CODECS } }));
  const heardOf = (details, { parsed = [{ attrs: {} }], ...more } = {}) => {
    const { hls, heard } = fakePlayer();
    hls.tell("MANIFEST_LOADED", { levels: parsed });
    hls.tell("ERROR", { type: "mediaError", details, fatal: true, ...more });
    return heard;
  };
  assert.deepEqual(heardOf("manifestIncompatibleCodecsError", { parsed: levels }), ["error", "undecodable", "HEVC, AV1, E-AC-3"]);
  assert.deepEqual(heardOf("bufferAddCodecError", { mimeType: "video/mp4;codecs=hev1.1.6.L30.90" }), ["error", "undecodable", "HEVC"]);
  assert.deepEqual(heardOf("bufferAddCodecError", { parsed: levels, mimeType: "video/mp4;codecs=avc1.64001f" }), ["error"]);
  assert.deepEqual(heardOf("bufferAppendError", { parsed: levels }), ["error"]);
});

test("the chosen sound is found again in the next player, by its language if not by its name", () => {
  const [english, german, comments] = [{ lang: "en", name: "English" }, { lang: "de", name: "Ton 1" }, { lang: "de", name: "Kommentar" }];
  const played = (audioTrack, audioTracks, first = 0) => {
    const { hls, player, heard } = fakePlayer({ audioTrack });
    Object.assign(hls, { audioTracks, audioTrack: first });
    hls.tell("AUDIO_TRACKS_UPDATED", { audioTracks });
    assert.deepEqual(heard.at(-1).findIndex(({ on }) => on), hls.audioTrack);
    return { hls, player };
  };
  const all = [english, german, comments];
  assert.deepEqual([null, "de Kommentar", "de Deutsch", "fr", " Ton 1"].map((key) => played(key, all, 1).hls.audioTrack), [1, 2, 1, 1, 1]);
  assert.equal(played("de Deutsch", [{ name: "Ton 1" }, { name: "de Deutsch" }]).hls.audioTrack, 0);
  const { hls, player } = played(null, all);
  player.setAudioTrack("de Kommentar");
  assert.equal(hls.audioTrack, 2);
});

test("a player begins with the bandwidth of the one before, and tells of its own", () => {
  assert.equal("abrEwmaDefaultEstimate" in fakePlayer().hls.config, false, "hls.js knows better than nothing");
  const { hls, heard } = fakePlayer({ bandwidth: 3e6 });
  assert.equal(hls.config.abrEwmaDefaultEstimate, 3e6);
  hls.bandwidthEstimate = 2e6 + 0.4;
  hls.tell("FRAG_BUFFERED", {});
  assert.deepEqual(heard, [2e6]);
  const sharing = fakePlayer({ shared: true });
  sharing.hls.tell("FRAG_BUFFERED", {});
  assert.deepEqual(sharing.heard, [], "how fast peers send says nothing of the bucket");
});

test("a service that says it has nothing new does answer", () => {
  const { hls, player } = fakePlayer();
  const fails = (code) => hls.tell("ERROR", { type: "networkError", details: "levelLoadError", response: { code } });
  fails(503); // to a blocking reload, when nothing came in time
  assert.equal(player.facts().failing, false);
  for (const code of [0, 502]) {
    fails(code);
    assert.equal(player.facts().failing, true);
    hls.tell("LEVEL_LOADED", {});
    assert.equal(player.facts().failing, false);
  }
});
