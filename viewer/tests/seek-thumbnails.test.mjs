import assert from "node:assert/strict";
import { test } from "node:test";
import { createSeekThumbnails } from "../public/js/seek-thumbnails.js";
import { decoderOf, frameAt, iframesOf, keyFrameIn, pictureInFragment, readIframes } from "../public/js/iframes.js";
import { createSeekThumbnail } from "../public/js/ui/seek-thumbnail.js";

const BASE = "https://live.example/live/";
const MAIN = `${BASE}playlist.m3u8`;
const START = Date.parse("2026-01-01T12:00:00Z");
const at = (seconds) => START + 1000 * seconds;

/** An I-frame playlist of segments of 2 s, from number `from` on; without their key frame those of `gaps`. */
function playlistOf(count, { from = 0, ended = false, gaps = [] } = {}) {
  const lines = ["#EXTM3U", "#EXT-X-I-FRAMES-ONLY", `#EXT-X-PROGRAM-DATE-TIME:${new Date(at(2 * from)).toISOString()}`];
  for (let number = from; number < from + count; number += 1) {
    lines.push(gaps.includes(number) ? "#EXT-X-GAP" : "#EXT-X-BYTERANGE:188@376", "#EXTINF:2.000000,", `${number}.ts`);
  }
  return [...lines, ...(ended ? ["#EXT-X-ENDLIST"] : []), ""].join("\n");
}

test("the I-frame playlist is the one that is named, or lies beside an only media playlist", () => {
  const variants = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n0/playlist.m3u8\n";
  const named = `${variants}#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI="0/iframes.m3u8"\n`;
  assert.equal(iframesOf(named, MAIN), `${BASE}0/iframes.m3u8`);
  assert.equal(iframesOf(variants, MAIN), null);
  assert.equal(iframesOf("#EXTM3U\n#EXTINF:2,\na.ts\n", MAIN), `${BASE}iframes.m3u8`);
});

test("key frames are read with their bytes and times, and one is found for a time", () => {
  const { frames, ended } = readIframes(playlistOf(4, { ended: true, gaps: [1] }), MAIN);
  assert.equal(ended, true);
  assert.deepEqual(frames[1], { url: `${BASE}2.ts`, first: 376, last: 563, map: null, date: at(4), end: at(6) });
  const mapped = playlistOf(2).replace("#EXT-X-BYTERANGE", '#EXT-X-MAP:URI="init.mp4"\n$&');
  assert.deepEqual(readIframes(mapped, MAIN).frames.map(({ map }) => map), new Array(2).fill(`${BASE}init.mp4`));
  const found = [-0.1, 0, 1.9, 3.9, 4, 7.9, 9.9, 10].map((seconds) => frameAt(frames, at(seconds))?.url.slice(BASE.length));
  assert.deepEqual(found, [undefined, "0.ts", "0.ts", "0.ts", "2.ts", "3.ts", "3.ts", undefined]);
  for (const broken of ["", "<html>", "#EXTM3U\n#EXT-X-BYTERANGE:x@y\n#EXTINF:2,\na.ts\n", "#EXT-X-BYTERANGE:1\na.ts\n"]) {
    assert.deepEqual(readIframes(broken, MAIN).frames, []);
  }
});

/** A transport packet, filled up by its adaptation field. */
function packet(pid, payload, starts = false) {
  const room = 184 - payload.length;
  const filling = room === 0 ? [] : [room - 1, ...(room > 1 ? [0, ...new Array(room - 2).fill(0xff)] : [])];
  return [0x47, (starts ? 0x40 : 0) | (pid >> 8), pid & 0xff, room === 0 ? 0x10 : 0x30, ...filling, ...payload];
}

test("the picture is all that its stream has in the packets, without heads", () => {
  const pes = [0, 0, 1, 0xe0, 0, 0, 0x80, 0x80, 5, 1, 2, 3, 4, 5];
  const sps = [0, 0, 0, 1, 0x67, 0x64, 0x00, 0x1f, 9];
  const rest = new Array(184).fill(7);
  const bytes = new Uint8Array([...packet(256, [...pes, ...sps], true), ...packet(257, [1, 2, 3], true), ...packet(256, rest)]);
  const found = keyFrameIn(bytes);
  assert.equal(found.codec, "avc1.64001f");
  assert.deepEqual([...found.data], [...sps, ...rest]);
  assert.equal(keyFrameIn(new Uint8Array(packet(256, pes, true))), null); // another codec
  assert.equal(keyFrameIn(new Uint8Array(188)), null);
  assert.equal(keyFrameIn(new Uint8Array(0)), null);
});

/** A box of MP4, and one that says where a track's samples begin. */
const box = (kind, content) => [0, 0, 0, 8 + content.length, ...Buffer.from(kind), ...content];
const run = (offset) => box("trun", [0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, offset]);

test("the picture of a fragment is what is left behind its beginning", () => {
  const moof = box("moof", [...run(200), ...run(56)]); // sound, which is not there any more, and pictures
  const bytes = new Uint8Array([...moof, ...box("mdat", [5, 6, 7])]);
  assert.equal(moof.length + 8, 56);
  assert.deepEqual([...pictureInFragment(bytes)], [5, 6, 7]);
  assert.equal(pictureInFragment(new Uint8Array(moof)), null);
  assert.equal(pictureInFragment(new Uint8Array(0)), null);
});

// Sample entries of ffmpeg's maps, the beginnings of the boxes in them, and CODECS as the service says it.
const ENTRIES = [
  ["avc1", "avcC", "0164000affe1001867", "avc1.64000a"],
  ["avc3", "avcC", "0142c00affe1001867", "avc3.42c00a"],
  ["hev1", "hvcC", "0101600000009000000000001ef000fc", "hev1.1.6.L30.90"],
  ["hvc1", "hvcC", "0102200000009000000000001ef000fc", "hvc1.2.4.L30.90"],
  ["hvc1", "hvcC", "01a20000000190a10000000096f000fc", "hvc1.B2.80000000.H150.90.A1"],
  ["av01", "av1C", "81000c000a0a000000", "av01.0.00M.08"],
  ["av01", "av1C", "812de00c0a0b000000", "av01.1.13H.12"],
  ["av01", "av1C", "81084c000a0b020000", "av01.0.08M.10"],
  ["vp09", "vpcC", "01000000000a820202020000", "vp09.00.10.08"],
];

test("the decoder of fragments is what their map says of pictures", () => {
  for (const [entry, kind, description, codec] of ENTRIES) {
    const bytes = Buffer.from(description, "hex");
    const sound = box("mp4a", [...new Array(28).fill(0), ...box("esds", [1, 2])]);
    const pictures = box(entry, [...new Array(78).fill(0), ...box(kind, bytes), 9, 9]);
    const found = decoderOf(new Uint8Array([...box("ftyp", [1, 2, 3]), ...box("moov", [...sound, ...pictures])]));
    assert.deepEqual(found, { codec, description: new Uint8Array(bytes) });
  }
  assert.equal(decoderOf(new Uint8Array(box("encv", box("avcC", [1, 0x64, 0, 0x1f])))), null);
  assert.equal(decoderOf(new Uint8Array(0)), null);
});

/** A server of `texts`; requests for key frames wait for `answer()`. */
function stage({ texts = { [MAIN]: "#EXTM3U\n#EXTINF:2,\n0.ts\n", [`${BASE}iframes.m3u8`]: playlistOf(20) }, status = 206, cut = 0, broken = 0, most } = {}) {
  const asked = [];
  const waiting = [];
  const closed = [];
  const drawn = [];
  let time = 0;
  const get = async (url, { headers }) => {
    asked.push(url.slice(BASE.length));
    if (url in texts) return { ok: true, text: async () => texts[url] };
    if (!url.endsWith(".ts")) return { ok: false, status: 404 };
    assert.equal(headers.Range, "bytes=376-563");
    await new Promise((resolve) => waiting.push(resolve));
    const whole = new Uint8Array(1000).map((_, index) => index % 256);
    const body = status === 206 ? whole.slice(376, 564) : whole;
    if (cut > 0 && (cut -= 1) >= 0) throw new TypeError("Failed to fetch");
    return { ok: status < 300, status, arrayBuffer: async () => body.buffer };
  };
  const decode = async (bytes) => {
    assert.deepEqual([bytes.length, bytes[0]], [188, 376 % 256]);
    if (broken > 0 && (broken -= 1) >= 0) throw new DOMException("Decoding error");
    const name = asked.at(-1);
    return { name, close: () => closed.push(name) };
  };
  const frames = createSeekThumbnails({ playlist: MAIN, get, decode, now: () => time, ...(most && { most }) });
  const settle = async () => {
    for (let turns = 0; turns < 30; turns += 1) await Promise.resolve();
  };
  return {
    asked, closed, drawn, texts, settle,
    point: async (seconds) => {
      frames.show(at(seconds), (picture) => drawn.push(picture?.name ?? null));
      await settle();
    },
    answer: async () => {
      waiting.shift()();
      await settle();
    },
    inFlight: () => waiting.length,
    later: (ms) => (time += ms),
    forget: frames.forget,
  };
}

test("one picture is fetched at a time, and the last one wanted is next; what is there is shown at once", async () => {
  const on = stage();
  for (const seconds of [0, 3, 5, 9]) await on.point(seconds);
  assert.deepEqual(on.asked, ["playlist.m3u8", "iframes.m3u8", "0.ts"]);
  assert.equal(on.inFlight(), 1);
  await on.answer();
  await on.answer();
  assert.deepEqual(on.asked.slice(2), ["0.ts", "4.ts"]);
  assert.deepEqual(on.drawn, [null, null, null, null, "4.ts"]);
  await on.point(1);
  assert.equal(on.drawn.at(-1), "0.ts");
  assert.equal(on.asked.length, 4);
});

test("nothing is drawn for who has gone, and a whole segment will do", async () => {
  const on = stage({ status: 200 });
  await on.point(0);
  on.forget();
  await on.answer();
  assert.deepEqual(on.drawn, [null]);
  await on.point(0);
  assert.deepEqual(on.drawn, [null, "0.ts"]);
});

test("what cannot be had is not asked for again and again", async () => {
  const gone = stage({ status: 404 });
  await gone.point(0);
  await gone.answer();
  await gone.point(0.5);
  assert.deepEqual(gone.drawn, [null, null, null]);
  assert.equal(gone.asked.length, 3);
  const none = stage({ texts: { [MAIN]: "#EXTM3U\n" } });
  for (let times = 0; times < 5; times += 1) await none.point(times);
  assert.deepEqual(none.asked, ["playlist.m3u8", "iframes.m3u8"]);
  none.later(30000);
  await none.point(0);
  assert.deepEqual(none.asked, ["playlist.m3u8", "iframes.m3u8", "iframes.m3u8"]);
});

for (const [what, fault, pause] of [["did not come", { cut: 1 }, 2000], ["was not decoded", { broken: 1 }, 30000]]) {
  test(`a picture that ${what} is asked for again, after a pause`, async () => {
    const on = stage(fault);
    await on.point(0);
    await on.answer();
    on.later(pause - 1);
    await on.point(0.5);
    assert.equal(on.inFlight(), 0);
    on.later(1);
    await on.point(0.5);
    await on.answer();
    assert.equal(on.drawn.at(-1), "0.ts");
  });
}

test("fragments that the browser cannot decode are not fetched, their map once", async () => {
  for (const [decoder, expected] of [[null, ["init.mp4"]], [{ codec: "av01" }, ["init.mp4", "0.m4s", "1.m4s"]]]) {
    const asked = [];
    const decoders = [];
    const texts = {
      [MAIN]: "#EXTM3U\n#EXTINF:2,\n0.m4s\n",
      [`${BASE}iframes.m3u8`]: playlistOf(2).replaceAll(".ts", ".m4s").replaceAll("#EXT-X-BYTERANGE", '#EXT-X-MAP:URI="init.mp4"\n$&'),
    };
    const get = async (url) => {
      if (!(url in texts)) asked.push(url.slice(BASE.length));
      return { ok: true, status: 206, text: async () => texts[url], arrayBuffer: async () => new ArrayBuffer(3) };
    };
    const decode = async (bytes, described) => void decoders.push([bytes.length, described]);
    const frames = createSeekThumbnails({ playlist: MAIN, get, describe: async ({ length }) => length === 3 && decoder, decode });
    for (const seconds of [0, 2, 0]) {
      frames.show(at(seconds), () => {});
      for (let turns = 0; turns < 30; turns += 1) await Promise.resolve();
    }
    assert.deepEqual(asked, expected);
    assert.deepEqual(decoders, expected.slice(1).map(() => [3, decoder]));
  }
});

test("a playlist that goes on is read again for what is later, and not too often", async () => {
  const on = stage();
  await on.point(0);
  await on.answer();
  on.texts[`${BASE}iframes.m3u8`] = playlistOf(20, { from: 10, ended: true });
  await on.point(50);
  assert.equal(on.asked.length, 3);
  on.later(2000);
  await on.point(50);
  await on.answer();
  assert.deepEqual([on.drawn.at(-1), ...on.asked.slice(3)], ["25.ts", "iframes.m3u8", "25.ts"]);
  on.later(2000);
  await on.point(90);
  assert.equal(on.asked.length, 5);
});

test("few pictures are kept, those that were looked at last", async () => {
  const on = stage({ most: 2 });
  for (const seconds of [0, 2]) {
    await on.point(seconds);
    await on.answer();
  }
  await on.point(0);
  await on.point(4);
  await on.answer();
  assert.deepEqual(on.closed, ["1.ts"]);
});

test("pictures are for those who point, and whose browser and connection can", async () => {
  const shown = [];
  let loads = 0;
  let able = true;
  const canvas = { getContext: () => ({ drawImage: ({ name }) => shown.push(name) }) };
  const forgotten = [];
  const createSeekThumbnails = ({ playlist }) => ({
    show: (date, draw) => draw({ name: `${playlist} ${date}` }),
    forget: () => forgotten.push(playlist),
  });
  const load = async () => ((loads += 1) === 1 ? Promise.reject(new Error("offline")) : { createSeekThumbnails });
  const thumbnail = createSeekThumbnail({ canvas, able: () => able, load });
  const timeline = { anchors: [{ at: 0, date: 1000 }] };
  const state = { playlist: "a", timeline, slow: false, status: "live" };
  for (const other of [{ slow: true }, { status: "buffering" }, { playlist: null }, { timeline: null }, { timeline: { anchors: [] } }]) {
    await thumbnail.show({ ...state, ...other }, 1);
  }
  able = false;
  await thumbnail.show(state, 1);
  assert.equal(loads, 0);
  able = true;
  const complain = console.error;
  console.error = () => {};
  await thumbnail.show(state, 1);
  console.error = complain;
  await thumbnail.show(state, 2);
  assert.deepEqual([shown, canvas.hidden, loads], [["a 3000"], false, 2]);
  const late = thumbnail.show({ ...state, playlist: "b" }, 3);
  thumbnail.hide();
  await late;
  assert.deepEqual([shown.length, canvas.hidden], [1, true]);
  await thumbnail.show({ ...state, playlist: "b" }, 3);
  assert.equal(shown.at(-1), "b 4000");
  assert.deepEqual(forgotten, ["a", "a"]); // when nobody looked, and when another one was played
});
