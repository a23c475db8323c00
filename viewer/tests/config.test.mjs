import assert from "node:assert/strict";
import { test } from "node:test";
import { loadConfig, parseConfig } from "../public/js/config.js";

const base = "https://page.example/watch/";

test("without settings the service's own playlist is played", () => {
  for (const raw of [null, undefined, 7, "x", [], {}]) {
    assert.deepEqual(parseConfig(raw, base), {
      playlistUrl: "https://page.example/live/playlist.m3u8",
      title: "Live stream",
    });
  }
});

test("a playlist elsewhere and a title are taken", () => {
  const config = parseConfig({ playlistUrl: "https://live.example/a.m3u8", title: " My show " }, base);
  assert.deepEqual(config, { playlistUrl: "https://live.example/a.m3u8", title: "My show" });
  assert.ok(Object.isFrozen(config));
});

test("only http and https addresses are taken", () => {
  for (const bad of ["javascript:alert(1)", "data:text/plain,x", "file:///etc/passwd", "http://", "", 3]) {
    assert.equal(parseConfig({ playlistUrl: bad }, base).playlistUrl, "https://page.example/live/playlist.m3u8");
  }
});

test("a missing, broken or unreachable config.json means the defaults", async () => {
  const answers = [
    async () => ({ ok: false }),
    async () => ({ ok: true, json: async () => JSON.parse("{") }),
    async () => { throw new TypeError("offline"); },
  ];
  for (const get of answers) assert.equal((await loadConfig(base, get)).title, "Live stream");
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
