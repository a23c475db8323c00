// The small picture on the dashboard.
import assert from "node:assert/strict";
import { test } from "node:test";
import { createPicture } from "../dashboard/js/picture.js";

test("the small picture says how old it is, also while nothing is heard of the service", () => {
  const heard = {};
  const image = { getAttribute: () => image.src, addEventListener: (name, act) => (heard[name] = act) };
  const figure = { hidden: true, caption: {}, querySelector: (tag) => (tag === "img" ? image : figure.caption) };
  let [moment, tick] = [5_000_000, null]; // the browser's clock is another one than the service's
  const draw = createPicture(figure, { clock: () => moment, tick: (act) => (tick = act) });
  const health = { stream: "live" };
  draw({ picture: true, pictured: 88_000, now: 100_000, health });
  heard.load();
  assert.deepEqual([figure.hidden, image.src, figure.caption.textContent], [false, "picture.jpg?10", "12 s ago"]);
  moment += 20_000;
  tick();
  assert.equal(figure.caption.textContent, "32 s ago");
  draw({ picture: true, pictured: null, now: 100_000, health }); // Owncast's: nobody knows
  assert.equal(figure.caption.hidden, true);
  draw({ picture: true, now: 100_000, health: { stream: "offline" } });
  assert.equal(figure.hidden, true);
});
