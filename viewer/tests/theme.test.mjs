import assert from "node:assert/strict";
import { test } from "node:test";
import { contrast, readableOn, textOn, themeOf } from "../public/js/theme.js";

test("contrast is that of WCAG", () => {
  assert.equal(contrast("#ffffff", "#000000"), 21);
  assert.equal(contrast("#777777", "#ffffff").toFixed(2), "4.48"); // the well-known grey that just fails
});

test("any colour becomes legible, and one that is stays as it is", () => {
  for (const color of ["#000000", "#ffffff", "#ffff00", "#0000ff", "#808080", "#5b4bdb"]) {
    for (const ground of ["#f2f2f7", "#1b1b26"]) assert.ok(contrast(readableOn(color, ground), ground) >= 4.5);
    assert.ok(contrast(textOn(color), color) >= 4.5);
  }
  assert.equal(readableOn("#5b4bdb", "#f2f2f7"), "#5b4bdb");
});

test("the theme has what the style sheets use", () => {
  assert.deepEqual(themeOf({ accent: "#ffcc00", live: "#d3263f" }), {
    "--accent": "#ffcc00",
    "--on-accent": "#000000",
    "--accent-on-light": readableOn("#ffcc00", "#f2f2f7"),
    "--accent-on-dark": "#ffcc00",
    "--live": "#d3263f",
    "--on-live": "#ffffff",
  });
});
