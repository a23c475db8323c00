import assert from "node:assert/strict";
import { test } from "node:test";
import { defaults, loadConfig, parseConfig } from "../public/js/config.js";

const base = "https://page.example/watch/";
const prices = { storagePerGbMonth: 0.015, classAPerMillion: 4.5, classBPerMillion: 0.36, compareEgressPerGb: 0.2 };

test("without settings the service's own addresses are used, and nothing that needs an operator's word", () => {
  for (const raw of [null, undefined, 7, "x", [], {}]) {
    const config = parseConfig(raw, base);
    assert.equal(config.playlistUrl, "https://page.example/live/playlist.m3u8");
    assert.equal(config.eventsUrl, "https://page.example/live/events");
    assert.deepEqual([config.title, config.mode, config.fallbackAfterSeconds], [null, "low-delay", 20]);
    for (const name of ["trackerUrl", "beaconUrl", "fallbackUrl", "poster"]) assert.equal(config[name], null, name);
    assert.deepEqual(config.iceServers, []);
    assert.deepEqual(config.colors, defaults.colors);
    assert.equal(config.costs, null);
    assert.deepEqual(config.texts, {});
  }
});

test("a playlist elsewhere and a title are taken", () => {
  const config = parseConfig({ playlistUrl: "https://live.example/a.m3u8", title: " My show " }, base);
  assert.deepEqual([config.playlistUrl, config.title], ["https://live.example/a.m3u8", "My show"]);
  const long = `https://live.example/a.m3u8?token=${"x".repeat(300)}`;
  assert.equal(parseConfig({ playlistUrl: long }, base).playlistUrl, long);
  assert.equal(config.eventsUrl, "https://live.example/events"); // a static page needs to name the playlist only
  for (const part of [config, config.colors, config.texts, config.iceServers]) {
    assert.ok(Object.isFrozen(part));
  }
});

test("only http and https addresses are taken", () => {
  for (const bad of ["javascript:alert(1)", "data:text/plain,x", "file:///etc/passwd", "http://", "", 3]) {
    const names = ["playlistUrl", "beaconUrl", "mediaUrl", "fallbackUrl", "poster", "trackerUrl", "eventsUrl"];
    const config = parseConfig(Object.fromEntries(names.map((name) => [name, bad])), base);
    const [playlistUrl, ...others] = names.map((name) => config[name]);
    assert.equal(playlistUrl, "https://page.example/live/playlist.m3u8");
    assert.deepEqual(others, [null, null, null, null, null, "https://page.example/live/events"]);
  }
});

test("a tracker is a WebSocket, on the page's own host or elsewhere", () => {
  const cases = [
    ["/live/tracker", "wss://page.example/live/tracker"],
    ["ws://peers.example/", "ws://peers.example/"],
    ["https://peers.example/a", "wss://peers.example/a"],
    ["udp://peers.example/", null],
  ];
  for (const [given, found] of cases) assert.equal(parseConfig({ trackerUrl: given }, base).trackerUrl, found);
});

test("null switches the events off", () => {
  assert.equal(parseConfig({ eventsUrl: null }, base).eventsUrl, null);
  for (const [given, events] of [["server-sent", "server-sent"], ["held", "held"], [undefined, "held"], ["sse", "held"], [null, "held"]]) {
    assert.equal(parseConfig({ events: given }, base).events, events);
  }
});

test("each wrong value alone takes its default", () => {
  const config = parseConfig(
    {
      mode: "fast",
      fallbackAfterSeconds: "10",
      colors: { accent: "red", live: " #00AA00 ", other: "#123456" },
      prices,
      costs: { classAPerMillion: 5, classBPerMillion: -1, storagePerGbMonth: Number.NaN, compareEgressPerGb: "0.1" },
      texts: { offlineTitle: " Back on Sunday ", offlineText: 7, nonsense: "x", toString: "y" },
    },
    base,
  );
  assert.deepEqual([config.mode, config.fallbackAfterSeconds], ["low-delay", 20]);
  assert.deepEqual(config.colors, { accent: "#5b4bdb", live: "#00AA00" });
  assert.deepEqual(config.costs, { ...prices, classAPerMillion: 5 });
  assert.deepEqual(config.texts, { offlineTitle: "Back on Sunday", soonTitle: "Back on Sunday", endedTitle: "Back on Sunday" });
});

test("costs are told by prices that are all known: the service's, or the operator's own", () => {
  assert.deepEqual(parseConfig({ prices }, base).costs, prices);
  assert.deepEqual(parseConfig({ costs: prices }, base).costs, prices);
  assert.equal(parseConfig({ costs: { ...prices, classAPerMillion: "much" } }, base).costs, null);
  assert.ok(Object.isFrozen(parseConfig({ prices }, base).costs));
});

test("only ICE servers that a browser takes are passed on", () => {
  const turn = { urls: ["turn:a.example:3478", "turns:a.example"], username: "u", credential: "c" };
  const wrong = [null, 7, {}, { urls: [] }, { urls: "http://a.example" }, { urls: ["stun:a", 7] }];
  const { iceServers } = parseConfig({ iceServers: [{ urls: "stun:b.example" }, turn, ...wrong] }, base);
  assert.deepEqual(iceServers, [{ urls: ["stun:b.example"] }, turn]);
  assert.deepEqual(parseConfig({ iceServers: {} }, base).iceServers, []);
});

test("a missing, broken or unreachable config.json means the defaults", async () => {
  const answers = [
    async () => ({ ok: false }),
    async () => ({ ok: true, json: async () => JSON.parse("{") }),
    async () => { throw new TypeError("offline"); },
  ];
  for (const get of answers) assert.equal((await loadConfig(base, get)).title, null);
});

test("config.json is looked for beside the page", async () => {
  let asked;
  const get = async (url) => {
    asked = url.href;
    return { ok: true, json: async () => ({ title: "T" }) };
  };
  assert.equal((await loadConfig(base, get)).title, "T");
  assert.equal(asked, "https://page.example/watch/config.json");
});

test("what an operator worded for an earlier page holds for the states that were told apart since", () => {
  const { texts } = parseConfig({ texts: { waitingTitle: "Pause", offlineText: "Bis bald", endedText: "Danke" } }, base);
  assert.deepEqual([texts.waitingTitle, texts.encoderTitle, texts.endedText], ["Pause", "Pause", "Danke"]);
  assert.equal(texts.deliveryTitle, undefined);
});

test("what the service has written into the page is taken, and nothing is asked for", async () => {
  const get = async () => assert.fail("asked");
  assert.equal((await loadConfig(base, get, '{"title": "Inside"}')).title, "Inside");
  assert.equal((await loadConfig(base, get, "{")).title, null);
});
