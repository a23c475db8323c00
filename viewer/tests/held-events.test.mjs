// Held events: one request after the other, and no loop whatever comes back.
import assert from "node:assert/strict";
import { afterEach, mock, test } from "node:test";
import { hold } from "../public/js/held-events.js";

afterEach(() => mock.timers.reset());

const HOLD = 20000; // ms for which the server holds a request
const settled = () => new Promise((resolve) => setImmediate(resolve));

/**
 * A page that asks, on a clock that the test moves. `serve(serial)` is what the server makes of each request:
 * {after: ms, status, body}, body text or an object; null refuses the connection, and without `after` nothing ever comes.
 */
function page(serve, { random = () => 0.5, every = 10000 } = {}) {
  mock.timers.enable({ apis: ["setTimeout"] });
  const on = { asked: [], taken: [], lost: 0, clock: 0, slept: 0, aborted: 0 };
  const get = (url, { cache, signal }) =>
    new Promise((resolve, reject) => {
      const [, folder, serial] = /^https:\/\/live\.example(\/live\/events)\/(.+)$/.exec(url);
      assert.deepEqual([folder, cache], ["/live/events", "no-store"]);
      on.asked.push({ at: on.clock, serial });
      signal.addEventListener("abort", () => (on.aborted += 1, reject(signal.reason)));
      const served = on.serve(serial);
      if (served === null) return reject(new TypeError("refused"));
      const { after, status = 200, body } = served;
      const text = async () => (typeof body === "string" ? body : JSON.stringify(body));
      if (after !== undefined) setTimeout(() => resolve({ status, ok: status < 300, text }), after);
    });
  Object.assign(on, {
    serve,
    async pass(seconds, step = 50) {
      for (let left = 1000 * seconds; left > 0; left -= step) {
        on.clock += step;
        mock.timers.tick(step);
        await settled();
      }
    },
    async close() {
      on.held.stop();
      await settled();
      mock.timers.reset();
    },
    serials: () => on.asked.map(({ serial }) => serial),
    /** The most that were asked within any minute. */
    worst: () => Math.max(...on.asked.map(({ at }) => on.asked.filter((one) => one.at >= at && one.at < at + 60000).length)),
  });
  on.held = hold({
    url: "https://live.example/live/events",
    every,
    take: (answer) => on.taken.push(answer),
    lost: () => (on.lost += 1),
    get,
    random,
    now: () => on.clock,
    time: () => on.clock + on.slept,
  });
  return on;
}

/** A service that tells the time after 20 s, whose newest serial is `serial`. */
function service({ serial = 100 } = {}) {
  const told = { serial };
  return (asked) => {
    if (asked === "now" || Number(asked) < told.serial) return { after: 50, body: { serial: told.serial, state: {}, events: [] } };
    return { after: HOLD, body: { serial: (told.serial += 1), events: [["time", {}]] } };
  };
}

test("an answer that was asked for ahead is as old as it is", async () => {
  const taken = [];
  const get = async () => ({ status: 200, ok: true, first: 1000, text: async () => '{"serial": 1, "now": 5000}' });
  const { stop } = hold({ url: "https://live.example/live/events", every: 10000, get, now: () => 1400, take: ({ now }) => taken.push(now), lost() {} });
  await settled();
  stop();
  assert.equal(taken[0], 5400);
});

test("the state first, then what comes after each answer's serial, at once", async () => {
  const on = page(service());
  await on.pass(50);
  assert.deepEqual(on.serials(), ["now", "100", "101", "102"]);
  assert.deepEqual(on.taken.map(({ serial }) => serial), [100, 101, 102]);
  assert.deepEqual(on.asked.map(({ at }) => at), [0, 50, 20050, 40050]);
  assert.equal(on.lost, 0);
});

const vain = {
  "no service": () => null,
  "502": () => ({ after: 5, status: 502, body: "" }),
  "503, as the service is full": () => ({ after: 5, status: 503, body: "full" }),
  "404": () => ({ after: 5, status: 404, body: "" }),
  "an empty 204": () => ({ after: 5, status: 204, body: "" }),
  "a page instead": () => ({ after: 5, body: "<!doctype html>" }),
  "JSON that is none of ours": () => ({ after: 5, body: [] }),
  "no serial": () => ({ after: 5, body: { events: [] } }),
  "a serial that is a text": () => ({ after: 5, body: { serial: "9" } }),
  "a head without a body": () => ({ after: 5, body: "" }),
  "nothing, ever": () => ({}),
};
// What says where to begin, and then goes wrong.
const broken = {
  "404 for each serial": (serial) => (serial === "now" ? { after: 5, body: { serial: 7, state: {} } } : { after: 5, status: 404, body: "" }),
  "the serial that was asked for, from a cache": () => ({ after: 5, body: { serial: 7, events: [] } }),
  "a serial that falls": (serial) => ({ after: 5, body: { serial: serial === "now" ? 7 : Number(serial) - 1 } }),
  "a serial that rises, at once, without end, from a cache": (serial) => ({ after: 5, body: { serial: serial === "now" ? 7 : Number(serial) + 1 } }),
};
const cases = [...Object.entries(vain).map((one) => [4, ...one]), ...Object.entries(broken).map((one) => [10, ...one])];

for (const [most, what, serve] of cases) {
  test(`at most ${most} requests a minute: ${what}`, async () => {
    for (const random of [() => 0, () => 0.999, Math.random]) {
      const on = page(serve, { random });
      for (let minute = 0; minute < 4; minute += 1) {
        await on.pass(30, 500);
        on.held.wake();
        await on.pass(30, 500);
      }
      assert.ok(on.asked.length >= 5, `${on.asked.length} requests: it does not give up`);
      assert.ok(on.worst() <= most, `${on.worst()} in a minute: ${on.asked.map(({ at }) => at)}`);
      await on.close();
    }
  });
}

test("a service that dies is asked seldom, and as soon as it is said to be back", async () => {
  for (const outage of [15, 30, 58]) {
    const on = page(service());
    await on.pass(40);
    const before = on.asked.length;
    on.serve = () => null;
    await on.pass(outage);
    assert.equal(on.asked.length - before, 3);
    on.serve = service({ serial: 900 });
    on.held.wake(); // playlists come again
    await on.pass(5);
    assert.deepEqual(on.serials().slice(before + 3), ["now", "900"]);
    await on.close();
  }
});

test("a service that dies and comes back is found without a word", async () => {
  const on = page(service());
  await on.pass(40);
  on.serve = () => null;
  await on.pass(30);
  on.serve = service({ serial: 900 });
  await on.pass(60);
  assert.ok(on.serials().includes("901"));
});

test("a restart of three seconds is over within ten", async () => {
  const on = page((serial) => (serial === "now" ? { after: 5, body: { serial: 7 } } : { after: 10000, status: 502, body: "" }));
  await on.pass(9);
  on.serve = () => null;
  await on.pass(4);
  assert.deepEqual([on.serials(), on.lost], [["now", "7", "now"], 2]);
  on.serve = service({ serial: 500 });
  await on.pass(8);
  assert.deepEqual(on.serials().slice(3), ["now", "500"]);
});

test("an answer that never comes is noticed soon after the time for which it is held", async () => {
  const on = page((serial) => (serial === "now" ? { after: 5, body: { serial: 7 } } : {}));
  await on.pass(27);
  assert.equal(on.lost, 0);
  await on.pass(1);
  assert.equal(on.lost, 1);
});

test("a machine that has slept asks at once instead of waiting for what is lost", async () => {
  const on = page((serial) => (serial === "now" ? { after: 5, body: { serial: 7 } } : {}));
  await on.pass(5);
  on.held.wake();
  await on.pass(1);
  assert.equal(on.asked.length, 2, "what is out for five seconds is held");
  on.slept = 3600_000;
  on.held.wake();
  await on.pass(5);
  assert.deepEqual(on.serials(), ["now", "7", "now", "7"]);
});

test("a burst of news is told without a pause, then what comes within ten seconds together", async () => {
  let serial = 0;
  const on = page((asked) => ({ after: 100, body: { serial: asked === "now" ? serial : (serial += 1), events: [["viewers", { viewers: serial }]] } }));
  await on.pass(9);
  assert.deepEqual(on.serials(), ["now", "0", "1", "2"]);
  await on.pass(60);
  assert.ok(on.asked.length >= 8 && on.asked.length <= 11, `${on.asked.length}`);
});

test("segments of two variants, each of a second, come one by one without an end", async () => {
  let serial = 0;
  const on = page((asked) => ({ after: asked === "now" ? 50 : (serial % 2 ? 300 : 700), body: { serial: (serial += 1), segments: [] } }), { every: 500 });
  await on.pass(60);
  assert.ok(on.asked.length >= 110, `${on.asked.length} of 120`);
});

test("what the page makes of an answer does not end it", async (t) => {
  t.mock.method(console, "error", () => {});
  const on = page(service());
  on.taken.push = () => {
    throw new Error("broken");
  };
  await on.pass(45);
  assert.deepEqual(on.serials(), ["now", "100", "101", "102"]);
});

test("who has stopped asks no more, also when that was in a pause", async () => {
  const on = page(service());
  await on.pass(5);
  on.held.stop();
  await on.pass(60);
  assert.deepEqual([on.asked.length, on.lost, on.aborted > 0], [2, 0, true]);
  await on.close();
  const dead = page(() => null);
  await dead.pass(1);
  dead.held.stop();
  dead.held.wake();
  await dead.pass(60);
  assert.equal(dead.asked.length, 1);
});
