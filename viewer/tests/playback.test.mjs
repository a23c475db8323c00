import assert from "node:assert/strict";
import { test } from "node:test";
import { createPlayback } from "../public/js/playback.js";

test("requests reach the player that is on, and nobody while there is none or it cannot", () => {
  const playback = createPlayback();
  const heard = [];
  playback.goLive();
  playback.use({ seek: (position) => heard.push(position), frame: () => 0.04 });
  playback.seek(7);
  playback.share({ enabled: true });
  assert.equal(playback.frame(), 0.04);
  playback.use(null);
  playback.seek(8);
  assert.equal(playback.frame(), undefined);
  assert.deepEqual(heard, [7]);
  assert.ok(Object.isFrozen(playback));
});
