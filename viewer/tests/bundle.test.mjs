import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";

const dist = new URL("../dist/", import.meta.url);
const assets = readdirSync(new URL("assets/", dist));
const html = readFileSync(new URL("index.html", dist), "utf8");
const named = [...html.matchAll(/(?:src|href)="(assets[^"#:]+)"/g)].map(([, name]) => name);
const read = (name) => readFileSync(new URL(`assets/${name}`, dist));
const find = (begin, end) => assets.filter((name) => name.startsWith(begin) && name.endsWith(end));

const MOST = 200_000; // bytes of a start, compressed: scripts, style, icon

test("a start is one script, one style sheet and hls.js's worker, and no larger than it may be", () => {
  assert.equal(named.filter((name) => name.endsWith(".css")).length, 1);
  assert.deepEqual(named.filter((name) => name.endsWith(".js")).map((name) => name.replace(/-.*/, "")), ["assets/main", "assets/embed"]);
  const start = [...named.map((name) => name.replace("assets/", "")), ...find("hls.worker-", ".js")];
  const bytes = start.reduce((sum, name) => sum + read(`${name}.br`).length, 0);
  assert.ok(bytes < MOST, `${bytes} bytes`);
  const [main] = find("main-", ".js");
  const imported = /(?:^|[;}])\s*import\s*["{*\w]|from\s*"\.\//.test(read(main).toString());
  assert.equal(imported, false, "the start imports another script");
});

test("peer-to-peer, the statistics and their plots come when they are wanted", () => {
  const [main] = find("main-", ".js");
  const start = read(main).toString();
  for (const name of [...find("p2p-", ".mjs"), ...find("stats-panel-", ".js")]) assert.ok(start.includes(`"./${name}"`), name);
  const [plots] = find("uPlot-", ".mjs");
  assert.ok(read(find("stats-panel-", ".js")[0]).toString().includes(`"./${plots}"`));
  for (const of of ["u-legend", "webtorrent"]) assert.ok(!start.includes(of), of);
});

test("the page can be installed: its manifest names icons of the sizes that they have", () => {
  assert.ok(html.includes('<link rel="manifest" href="manifest.json"'));
  const manifest = JSON.parse(readFileSync(new URL("manifest.json", dist), "utf8"));
  for (const { src, sizes } of [...manifest.icons, { src: "icon-180.png", sizes: "180x180" }]) {
    const picture = readFileSync(new URL(src, dist));
    assert.equal(picture.toString("latin1", 1, 4), "PNG", src);
    assert.equal(`${picture.readUInt32BE(16)}x${picture.readUInt32BE(20)}`, sizes);
  }
});

test("each file has a name of its own, and is there as browsers want it", () => {
  for (const name of assets.filter((one) => !/\.(br|gz)$/.test(one))) {
    assert.match(name, /-[0-9a-f]{10}\.\w+$/);
    for (const packed of [".br", ".gz"]) assert.ok(assets.includes(name + packed), name + packed);
  }
});

test("the page for an unknown address chooses its language by itself, where no service has", () => {
  const page = readFileSync(new URL("404.html", dist), "utf8");
  const [, script] = /<script>(.*)<\/script>/.exec(page);
  const hash = createHash("sha256").update(script).digest("base64");
  assert.ok(page.includes(`script-src 'sha256-${hash}'`));
  const shown = (languages, dir = "") => {
    const title = { dataset: { text: "lostTitle" }, textContent: "There is no such page" };
    const document = { documentElement: { dir, lang: "en" }, querySelectorAll: () => [title] };
    new Function("document", "navigator", script)(document, { languages });
    return [document.documentElement.lang, title.textContent];
  };
  assert.deepEqual(shown(["xx", "de-CH", "en"]), ["de", "Diese Seite gibt es nicht"]);
  assert.deepEqual(shown(["en-GB", "de"]), ["en", "There is no such page"]);
  assert.deepEqual(shown(["xx"]), ["en", "There is no such page"]);
  assert.deepEqual(shown(["de"], "ltr"), ["en", "There is no such page"]); // the service's choice
});
