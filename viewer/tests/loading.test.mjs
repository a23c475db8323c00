import assert from "node:assert/strict";
import { test } from "node:test";
import { isNext, variantOf } from "../public/js/loaders.js";
import { fragmentLoader } from "../public/js/fragment-loader.js";
import { playlistLoader, withoutDirectives } from "../public/js/playlist-loader.js";
import { createPlaylistPrefetch } from "../public/js/playlist-prefetch.js";
import { createPrefetch } from "../public/js/prefetch.js";

const turn = () => new Promise((resolve) => setImmediate(resolve));

/** A network whose answers come when the test says so. */
function network() {
  const asked = [];
  const get = (url, { signal }) =>
    new Promise((resolve, reject) => {
      signal.addEventListener("abort", () => reject(new Error("aborted")));
      asked.push({ url, signal, answer: (body, init) => resolve(new Response(body, init)), refuse: reject });
    });
  return { asked, get };
}

/** What hls.js's own loader is to ours. */
class Base {
  static loads = [];
  stats = { aborted: false, loaded: 0, total: 0, retry: 0, loading: { start: 0, first: 0, end: 0 } };
  load(context, _config, callbacks) {
    Base.loads.push(this);
    this.callbacks = callbacks;
    this.context = context;
  }
  succeed(data, details = {}) {
    this.callbacks.onSuccess({ url: this.context.url, data }, this.stats, this.context, details);
  }
  abort() {
    this.aborted = true;
  }
  destroy() {
    this.destroyed = true;
  }
}

function loader({ prefetch = createPrefetch(), peers = () => null } = {}) {
  Base.loads = [];
  const heard = [];
  const Loader = fragmentLoader({
    Base,
    prefetch,
    peers,
    asked: ({ sn }) => heard.push(`asked ${sn}`),
    arrived: ({ sn }, bytes) => heard.push(`arrived ${sn} ${bytes}`),
  });
  const got = [];
  const callbacks = {
    onSuccess: (response, stats) => got.push({ ...response, stats }),
    onError: () => got.push("error"),
    onAbort: () => got.push("aborted"),
  };
  const load = (url, more = {}) => {
    const made = new Loader({});
    made.load({ url, frag: { sn: 5, url }, ...more }, {}, callbacks);
    return made;
  };
  return { load, heard, got };
}

test("a segment is fetched once, whoever asks first", async () => {
  const { asked, get } = network();
  const fetched = [];
  const prefetch = createPrefetch({ get, fetched: (url, bytes) => fetched.push([url, bytes]) });
  prefetch.start("u1");
  prefetch.start("u1");
  assert.equal(prefetch.take("u2"), null); // hls.js loads it by itself
  prefetch.start("u2");
  assert.deepEqual(asked.map(({ url }) => url), ["u1"]);
  asked[0].answer("abcd");
  const data = await prefetch.take("u1").done;
  assert.equal(new TextDecoder().decode(data), "abcd");
  prefetch.drop("u1");
  prefetch.start("u1");
  assert.equal(prefetch.take("u1"), null);
  assert.equal(asked.length, 1);
  assert.deepEqual(fetched, [["u1", 4]]);
});

test("no more than a few are kept; the oldest that nobody waits for is given up", async () => {
  const { asked, get } = network();
  const prefetch = createPrefetch({ get, most: 2 });
  prefetch.start("u1");
  prefetch.take("u1");
  prefetch.start("u2");
  prefetch.start("u3");
  assert.deepEqual(asked.map(({ signal }) => signal.aborted), [false, true, false]);
  prefetch.clear();
  assert.deepEqual(asked.map(({ signal }) => signal.aborted), [true, true, true]);
});

test("a fetch that fails is left to hls.js", async () => {
  const { asked, get } = network();
  const prefetch = createPrefetch({ get });
  for (const [index, end] of [(one) => one.refuse(new Error("no network")), (one) => one.answer("", { status: 503 })].entries()) {
    prefetch.start(`u${index}`);
    const entry = prefetch.take(`u${index}`);
    end(asked.at(-1));
    assert.equal(await entry.done, null);
    assert.equal(prefetch.take(`u${index}`), null);
  }
});

test("the loader hands over what was fetched ahead, with the time that the fetch itself took", async () => {
  const { asked, get } = network();
  let time = 1000;
  const prefetch = createPrefetch({ get, now: () => time });
  prefetch.start("u");
  time += 30;
  asked[0].answer("abcd");
  await turn();
  const { load, heard, got } = loader({ prefetch });
  load("u");
  await turn();
  const [{ data, url, stats }] = got;
  assert.deepEqual([data.byteLength, url, stats.loaded, stats.total], [4, "u", 4, 4]);
  assert.equal(stats.loading.end - stats.loading.start, 30);
  assert.deepEqual(heard, ["asked 5", "arrived 5 null"]);
  assert.equal(Base.loads.length, 0);
  assert.equal(prefetch.take("u"), null);
});

test("the loader waits for a fetch that is under way, and shows its progress", async () => {
  const { asked, get } = network();
  const prefetch = createPrefetch({ get });
  prefetch.start("u");
  const { load, got } = loader({ prefetch });
  const made = load("u");
  assert.ok(made.stats.loading.start > 0);
  asked[0].answer("abcd", { headers: { "Content-Length": "4" } });
  await turn();
  await turn();
  assert.deepEqual([got.length, made.stats.loaded, made.stats.total], [1, 4, 4]);
});

test("a fetch that fails under way is loaded again as usual, without a word of it", async () => {
  const { asked, get } = network();
  const prefetch = createPrefetch({ get });
  prefetch.start("u");
  const { load, heard, got } = loader({ prefetch });
  load("u");
  asked[0].refuse(new Error("no network"));
  await turn();
  assert.equal(Base.loads.length, 1);
  assert.equal(Base.loads[0].stats.loading.start, 0); // hls.js's loader insists on being new
  Base.loads[0].succeed(new ArrayBuffer(7));
  assert.equal(got[0].data.byteLength, 7);
  assert.deepEqual(heard, ["asked 5", "arrived 5 7"]);
});

test("an abort gives the fetch up, and the segment may be fetched again", async () => {
  const { asked, get } = network();
  const prefetch = createPrefetch({ get });
  prefetch.start("u");
  const { load, got } = loader({ prefetch });
  load("u").abort();
  await turn();
  assert.deepEqual([asked[0].signal.aborted, got], [true, ["aborted"]]);
  prefetch.start("u");
  assert.equal(asked.length, 2);
});

test("byte ranges and what was not fetched ahead are loaded as usual", () => {
  const { get, asked } = network();
  const prefetch = createPrefetch({ get });
  prefetch.start("u");
  const { load, heard } = loader({ prefetch });
  load("u", { rangeStart: 0, rangeEnd: 10 });
  const other = load("v");
  assert.equal(Base.loads.length, 2);
  Base.loads[1].succeed(new ArrayBuffer(9));
  other.abort();
  other.destroy();
  assert.deepEqual([Base.loads[1].aborted, Base.loads[1].destroyed, asked.length], [true, true, 1]);
  assert.deepEqual(heard, ["asked 5", "asked 5", "arrived 5 9"]);
});

test("what peers bring is copied: hls.js's worker takes its buffer away, and others still want it", () => {
  class Peers extends Base {}
  const { load, got, heard } = loader({ peers: () => Peers });
  const made = load("u");
  assert.ok(Base.loads[0] instanceof Peers);
  assert.equal(Base.loads[0].stats, made.stats);
  const kept = new ArrayBuffer(3);
  Base.loads[0].succeed(kept, null);
  structuredClone(got[0].data, { transfer: [got[0].data] });
  assert.equal(kept.byteLength, 3);
  Base.loads[0].succeed(kept, {}); // it fell back on hls.js's own loader, and has not counted
  assert.deepEqual(heard, ["asked 5", "arrived 5 null", "arrived 5 3"]);
});

test("a playlist is known by its address without the directives of a blocking reload", () => {
  assert.equal(withoutDirectives("https://a.example/p.m3u8?_HLS_msn=7&token=1&_HLS_skip=YES"), "https://a.example/p.m3u8?token=1");
  assert.equal(withoutDirectives("https://a.example/p.m3u8"), "https://a.example/p.m3u8");
  assert.equal(withoutDirectives(undefined), undefined);
  const made = [];
  const playlists = { take: () => null };
  const Loader = playlistLoader({ Base, playlists, made: (config) => made.push(config) });
  const urls = [];
  Base.loads = [];
  new Loader("config").load({ url: "https://a.example/p.m3u8?_HLS_msn=7" }, {}, { onSuccess: ({ url }, _stats, { url: asked }) => urls.push(url, asked) });
  Base.loads[0].succeed("#EXTM3U");
  assert.deepEqual(urls, ["https://a.example/p.m3u8", "https://a.example/p.m3u8?_HLS_msn=7"]);
  assert.deepEqual(made, ["config"]);
});

test("what a look has just fetched hls.js need not ask for, once, and as old as it is", async () => {
  let clock = 1000;
  const asked = [];
  const get = async (url) => {
    asked.push(url);
    clock += 100;
    return { ok: !url.endsWith("404"), status: 200, url, headers: new Headers({ Age: "2" }), text: async () => "#EXTM3U" };
  };
  const playlists = createPlaylistPrefetch({ get, now: () => clock });
  const Loader = playlistLoader({ Base, playlists, made: () => {} });
  const got = [];
  const load = (url) => {
    const loader = new Loader({});
    loader.load({ url }, {}, { onSuccess: ({ url: from, data }, { loading }, _context, { url: by }) => got.push({ from, by, data, ...loading }) });
    return loader;
  };
  Base.loads = [];
  assert.equal(await (await playlists.get("a")).text(), "#EXTM3U");
  await playlists.get("b");
  await playlists.get("404");
  clock += 2850; // "a" is too old by now, "b" is not
  for (const url of ["a", "404"]) load(url);
  const loader = load("b");
  load("b").destroy();
  assert.deepEqual(got, [], "an answer comes later than the question");
  await turn();
  assert.deepEqual(got, [{ from: "b", by: "b", data: "#EXTM3U", start: 1100, first: 1200, end: 1200 }]);
  assert.equal(loader.getCacheAge(), 2);
  assert.deepEqual(Base.loads.map(({ context }) => context.url), ["a", "404", "b"]);
  assert.equal(playlists.duration(), null);
  await playlists.get("c");
  load("c").destroy();
  await turn();
  assert.equal(got.length, 1, "who has gone is told nothing");
  assert.deepEqual(asked, ["a", "b", "404", "c"]);
});

test("only what hls.js will want next is fetched ahead, two segments at most", () => {
  const next = (sequence, wants, more = {}) => isNext({ gap: false, variant: "0", sequence, ...more }, { variant: "0", asked: 7, ahead: null, ...wants });
  assert.equal(next(8), true);
  assert.equal(next(7), false);
  assert.equal(next(9), false); // 8 was not told: hls.js will find both
  assert.equal(next(9, { ahead: 8 }), true);
  assert.equal(next(10, { ahead: 9 }), false); // the viewer has paused
  assert.equal(next(8, { asked: null }), false);
  assert.equal(next(8, { variant: "1" }), false);
  assert.equal(next(8, {}, { gap: true }), false);
});

test("a level of hls.js is the server's variant whose segments it lists", () => {
  const catalog = { find: (url) => (url === "b" ? { variant: "2" } : null) };
  const level = (...urls) => ({ details: { fragments: urls.map((url) => ({ url })) } });
  assert.equal(variantOf(level("a", "b", "c"), catalog), "2");
  assert.equal(variantOf(level("a"), catalog), null);
  assert.equal(variantOf({ details: undefined }, catalog), null);
  assert.equal(variantOf(undefined, catalog), null);
});
