// The event around the picture: what is on, when, passing it on, the lock screen, and how it starts to play.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { runInNewContext } from "node:vm";
import { parseConfig } from "../public/js/config.js";
import { formatStart } from "../public/js/intl.js";
import { createMediaSession } from "../public/js/media-session.js";
import { startPlaying } from "../public/js/session.js";
import { share } from "../public/js/share.js";
import { createRemind } from "../public/js/ui/remind.js";
import { createStore } from "../public/js/state.js";
import { defaultTexts } from "../public/js/texts.js";
import { formatCountdown } from "../public/js/timeline.js";

const base = "https://page.example/watch/";

test("an event is taken as config.json has it; a time has to name its zone", () => {
  const event = parseConfig({ performer: " Trio ", startsAt: "2026-12-24T20:00:00+01:00", pageUrl: "/" }, base);
  assert.deepEqual(
    [event.performer, event.startsAt, event.pageUrl],
    ["Trio", Date.UTC(2026, 11, 24, 19), "https://page.example/"],
  );
  for (const startsAt of ["2026-12-24T20:00:00", "tomorrow", 7, null, "2026-99-99T20:00:00Z"]) {
    assert.equal(parseConfig({ startsAt }, base).startsAt, null, startsAt);
  }
  const nothing = parseConfig({}, base);
  assert.deepEqual([nothing.performer, nothing.startsAt, nothing.pageUrl], [null, null, null]);
});

test("a countdown shows days where there are any, and never ends early", () => {
  const shown = [1, 59_999, 3_725_000, 2 * 86_400_000 + 5000].map((left) => formatCountdown(left, "en"));
  assert.deepEqual(shown, ["0:01", "1:00", "1:02:05", "2 days 0:05"]);
});

test("a start has its time and its zone on one line, and the page that asks has it in the same words", () => {
  const start = new Date(Date.UTC(2026, 11, 24, 19));
  const html = readFileSync(new URL("../public/access.html", import.meta.url), "utf8");
  const [, script] = /<script>(.*?)<\/script>/s.exec(html);
  const asked = (locale) => {
    const time = { dateTime: start.toISOString() };
    const document = { documentElement: { lang: locale.slice(0, 2) }, querySelectorAll: () => [time] };
    runInNewContext(script, { document, navigator: { languages: [locale] } });
    return time.textContent;
  };
  for (const locale of ["de-DE", "en-GB", "en-US", "es-ES", "fr-CA", "ja-JP", "pt-BR"]) {
    const text = formatStart(locale, start);
    assert.match(text, /24.*\d\d\u00a0?\D*$/, locale);
    assert.match(text.split(" ").at(-1), /^\D{0,3}\d+\D.*[A-Z]/, "time and zone");
    assert.equal(asked(locale), text, locale);
  }
});

test("the page is passed on by the system's dialog, else copied, else the viewer is told", async () => {
  const page = { title: "Evening", url: base };
  const told = [];
  const refuse = (name) => () => Promise.reject(Object.assign(new Error(), { name }));
  const by = (navigator) => share(page, { navigator });
  assert.equal(await by({ share: async (data) => told.push(data) }), "shared");
  assert.equal(await by({ share: refuse("AbortError") }), "shared");
  assert.equal(await by({ clipboard: { writeText: async (text) => told.push(text) } }), "copied");
  assert.equal(await by({ clipboard: { writeText: refuse("NotAllowedError") } }), "failed");
  assert.equal(await by({}), "failed");
  assert.deepEqual(told, [page, base]);
});

/** The page's control before a start; `answer` is what the guest says to a notification, null for a browser without. */
function reminding(answer) {
  const shown = [];
  class Notification {
    static requestPermission = async () => answer;
    constructor(title, { body }) {
      shown.push(`${title}: ${body}`);
    }
  }
  const elements = {};
  const at = (id) => (elements[id] ??= Object.assign(new EventTarget(), { textContent: "" }));
  const saved = [];
  const document = { hidden: true, location: new URL(base), createElement: () => ({ click() { saved.push(this.download); } }) };
  const draw = createRemind({ document, at, notify: answer === null ? null : Notification });
  const store = createStore();
  store.subscribe((state, before) => draw(state, (...keys) => state === before || keys.some((key) => state[key] !== before[key])));
  store.set({ title: "Evening", startsAt: Date.UTC(2026, 11, 24, 19) });
  return { store, shown, saved, said: () => at("reminded").textContent, click: () => at("remind").dispatchEvent(new Event("click")) };
}

test("who wants a reminder gets the date, and a notification at the start where they allow it", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  for (const answer of ["granted", "denied", null]) {
    const { store, shown, saved, said, click } = reminding(answer);
    store.set({ phase: "offline" });
    click();
    await Promise.resolve(); // the guest has answered
    await Promise.resolve();
    assert.deepEqual([saved, said()], [["Live stream.ics"], defaultTexts[answer === "granted" ? "remindedHere" : "reminded"]]);
    for (const phase of ["live", "buffering", "live"]) store.set({ phase });
    assert.deepEqual(shown, answer === "granted" ? ["Evening: The stream is live."] : [], String(answer));
  }
  const { store, shown } = reminding("granted");
  for (const phase of ["offline", "live"]) store.set({ phase });
  assert.deepEqual(shown, [], "nobody asked for it");
});

test("the lock screen shows the event, and its buttons do what the page's do", () => {
  const store = createStore();
  const asked = [];
  const actions = {};
  const session = {
    metadata: null,
    setActionHandler(name, act) {
      if (name === "stop") throw new TypeError("unknown action");
      actions[name] = act;
    },
  };
  const requests = { play: () => asked.push("play"), pause: () => asked.push("pause"), seekBy: (by) => asked.push(by) };
  const Metadata = class {
    constructor(data) {
      Object.assign(this, data);
    }
  };
  createMediaSession({ store, requests, session, Metadata });
  store.set({ title: "Evening", performer: "Trio", poster: "https://p.example/a.jpg", paused: false });
  const { title, artist, artwork } = session.metadata;
  assert.deepEqual([title, artist, artwork[0].src, session.playbackState], ["Evening", "Trio", "https://p.example/a.jpg", "playing"]);
  const { metadata } = session;
  store.set({ paused: true });
  assert.equal(session.playbackState, "paused");
  assert.equal(session.metadata, metadata, "not drawn anew for nothing");
  actions.play();
  actions.pause();
  actions.seekbackward({});
  actions.seekforward({ seekOffset: 30 });
  assert.deepEqual(asked, ["play", "pause", -10, 30]);
  createMediaSession({ store, requests, session: undefined, Metadata: undefined });
});

test("it starts with sound where the browser allows it, else without, else it waits for a click", async () => {
  async function starting(allows) {
    const store = createStore();
    const tries = [];
    const video = {
      muted: false,
      async play() {
        tries.push(this.muted);
        if (!allows(this)) throw Object.assign(new Error(), { name: "NotAllowedError" });
      },
    };
    await startPlaying(video, store);
    return [tries, video.muted, store.get().status];
  }
  assert.deepEqual(await starting(() => true), [[false], false, "connecting"]);
  assert.deepEqual(await starting(({ muted }) => muted), [[false, true], true, "connecting"]);
  assert.deepEqual(await starting(() => false), [[false, true], true, "blocked"]);
});

test("a description has more room than a title, and a link needs a name and an address of the web", () => {
  const { description, links } = parseConfig({
    description: "a".repeat(3000),
    links: [{ name: "Programme", url: "/p" }, { name: "x", url: "javascript:alert(1)" }, { url: "/q" }, null],
  }, base);
  assert.equal(description.length, 2000);
  assert.deepEqual(links, [{ name: "Programme", url: "https://page.example/p" }]);
  assert.deepEqual(parseConfig({ links: "x" }, base).links, []);
});

test("a chat is a page of the web's, and a logo a picture of it; an accent colour of one's own is kept", () => {
  assert.equal(parseConfig({ logo: "/logo.svg" }, base).logo, "https://page.example/logo.svg");
  assert.equal(parseConfig({ logo: "javascript:alert(1)" }, base).logo, null);
  assert.equal(parseConfig({ chatUrl: "/embed/chat" }, base).chatUrl, "https://page.example/embed/chat");
  assert.equal(parseConfig({ chatUrl: "javascript:alert(1)" }, base).chatUrl, null);
  assert.equal(parseConfig({ colors: { accent: "#112233" } }, base).colors.accent, "#112233");
  assert.equal(parseConfig({ colors: { accent: "red" } }, base).colors.accent, "#5b4bdb");
});
