// The accent colour of a poster.
import assert from "node:assert/strict";
import { test } from "node:test";
import { accentOf } from "../public/js/accent.js";

const pixels = (...runs) => Uint8ClampedArray.from(runs.flatMap(([count, ...rgb]) => Array(count).fill([...rgb, 255]).flat()));

test("the colour that most vivid pixels share, whatever is grey", () => {
  assert.equal(accentOf(pixels([700, 20, 20, 24], [200, 200, 30, 40], [124, 30, 60, 200])), "#c81e28");
  assert.equal(accentOf(pixels([500, 128, 128, 128], [300, 250, 0, 120], [224, 250, 10, 130])), "#fa047c");
});

test("a picture without colours, or with a spot of one, has none", () => {
  assert.equal(accentOf(pixels([1000, 90, 90, 95])), null);
  assert.equal(accentOf(pixels([1020, 90, 90, 95], [4, 255, 0, 0])), null);
});
