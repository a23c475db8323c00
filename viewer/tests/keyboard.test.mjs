import assert from "node:assert/strict";
import { test } from "node:test";
import { shortcutFor, shortcuts } from "../public/js/keyboard.js";

const page = { tag: "body", type: "", editable: false, dialog: false, scrolls: false };
const press = (key, focus = {}, more = {}) => shortcutFor({ key, ...more }, { ...page, ...focus })?.what ?? null;

test("each key of the list asks for what the list says", () => {
  const asked = [];
  const requests = new Proxy({}, { get: (_, name) => (...given) => asked.push([name, ...given]) });
  for (const { keys } of shortcuts) for (const key of keys) shortcutFor({ key }, page).ask(requests, key);
  assert.deepEqual(asked, [
    ["togglePlay"], ["togglePlay"], ["seekBy", -10], ["seekBy", 10], ["seekPart", 0], ["goLive"], ["goLive"],
    ...[0, 1, 2, 3, 4, 5, 6, 7, 8, 9].map((tenth) => ["seekPart", tenth / 10]), ["stepFrames", -1], ["stepFrames", 1], ["changeSpeed", -1], ["changeSpeed", 1], ["toggleMute"], ["changeVolume", 0.05], ["changeVolume", -0.05],
    ["nextCaption"], ["clip"], ["toggleFullscreen"], ["toggleTheatre"], ["togglePip"], ["toggleStats"], ["closeStats"], ["toggleHelp"],
  ]);
});

test("a shifted letter is the same key, an unknown one is nobody's", () => {
  assert.equal(press("I"), "stats");
  assert.equal(press("q"), null);
});

test("the browser's own shortcuts stay the browser's", () => {
  for (const held of ["ctrlKey", "altKey", "metaKey", "defaultPrevented"]) assert.equal(press("f", {}, { [held]: true }), null);
});

test("a key that is held down acts once, the volume excepted", () => {
  assert.equal(press("f", {}, { repeat: true }), null);
  assert.equal(press("ArrowUp", {}, { repeat: true }), "keyLouder");
});

test("what has the focus gets the keys it needs", () => {
  const cases = [
    ["f", { editable: true }, null],
    ["f", { tag: "textarea" }, null],
    ["f", { tag: "select" }, null],
    ["f", { tag: "input", type: "text" }, null],
    [" ", { tag: "button", type: "button" }, null],
    [" ", { tag: "input", type: "checkbox" }, null],
    ["k", { tag: "button", type: "button" }, "keyPlay"],
    ["ArrowUp", { tag: "input", type: "range" }, null],
    ["ArrowUp", { tag: "input", type: "radio" }, null],
    ["ArrowLeft", { tag: "input", type: "range" }, null],
    ["ArrowLeft", { tag: "input", type: "range", seeks: true }, "keyBack"],
    ["End", { tag: "input", type: "range", seeks: true }, "goLive"],
    ["Home", { tag: "aside", scrolls: true }, null],
    ["ArrowDown", { tag: "aside", scrolls: true }, null],
    ["i", { tag: "aside", scrolls: true }, "stats"],
    ["m", { tag: "input", type: "range" }, "keyMute"],
    ["ArrowUp", { tag: "button", type: "button" }, "keyLouder"],
    ["f", { tag: "button", type: "button", dialog: true }, null],
    ["?", { tag: "button", type: "button", dialog: true }, "keyList"],
  ];
  for (const [key, focus, what] of cases) assert.equal(press(key, focus), what, `${key} ${JSON.stringify(focus)}`);
});
