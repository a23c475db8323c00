// The bar over the whole window: its right end is live, or of a recording its end.
import { formatClock, formatList, say } from "../intl.js";
import { chaptersOf, dateAt, saySpan } from "../timeline.js";
import { createSeekThumbnail } from "./seek-thumbnail.js";

const LEAST = 5; // seconds of window that make a bar worth its place
const MOVED = 2; // seconds: a step by somebody's wish, and not the picture going on

export function createSeek({ document, at, requests }) {
  const bar = at("seek");
  const thumbnail = createSeekThumbnail({ canvas: at("seek-picture") });
  let state = null;
  let held = false; // by a finger or a mouse: the bar must not move under it
  let last = null; // the place it stood at last
  let shown = null; // the timeline on the bar
  let recorded = false; // it is a recording's

  const put = (name, share) => at("seeking").style.setProperty(name, `${100 * share}%`);
  const shareOf = (position) => (position - bar.min) / (bar.max - bar.min || 1);

  let marked = ""; // where chapters begin, as it is drawn
  function mark(timeline) {
    const shares = chaptersOf(timeline).map((share) => share.toFixed(3));
    if (shares.join() === marked) return;
    marked = shares.join();
    at("marks").replaceChildren(...shares.map((share) => {
      const gap = document.createElement("i");
      gap.style.setProperty("--at", share);
      return gap;
    }));
  }

  /** What is at a place, over it. */
  function hint(position) {
    if (shown === null) return;
    at("seek-hint").textContent = nameOf(shown, position, recorded, state.texts);
    put("--hint", shareOf(position));
  }
  bar.addEventListener("pointerdown", () => (held = true));
  for (const name of ["pointerup", "pointercancel", "blur"]) bar.addEventListener(name, () => (held = false));
  for (const name of ["pointerleave", "pointercancel", "blur"]) bar.addEventListener(name, thumbnail.hide);
  bar.addEventListener("pointerup", ({ pointerType }) => pointerType !== "mouse" && thumbnail.hide());
  bar.addEventListener("pointermove", ({ offsetX }) => {
    const share = Math.min(1, Math.max(0, offsetX / bar.clientWidth));
    const position = Number(bar.min) + share * (bar.max - bar.min);
    if (held || shown === null) return;
    hint(position);
    thumbnail.show(state, position);
  });
  bar.addEventListener("input", () => {
    put("--filled", shareOf(bar.valueAsNumber));
    hint(bar.valueAsNumber);
    if (held) thumbnail.show(state, bar.valueAsNumber); // a key goes there at once
  });
  bar.addEventListener("change", () => {
    requests.seekTo(bar.valueAsNumber);
    if (!bar.matches(":hover")) thumbnail.hide(); // it was let go of elsewhere
  });

  return function draw(now, changed) {
    const { timeline, position, behind, recording, texts } = now;
    state = now;
    if (!changed("timeline", "position", "behind", "texts")) return;
    const room = timeline !== null && timeline.live - timeline.first >= LEAST;
    at("seeking").hidden = !room;
    if (!room || held) return;
    shown = timeline;
    recorded = recording !== null;
    const place = behind || recorded ? Math.min(timeline.live, Math.max(timeline.first, position)) : timeline.live;
    bar.min = timeline.first;
    bar.max = timeline.live;
    bar.value = place;
    put("--filled", shareOf(place));
    mark(timeline);
    at("clock").textContent = behind || recorded ? clockOf(timeline, position, texts.locale) : "";
    // Who stands on the bar hears of what they do, and not of every second that passes.
    const quiet = document.activeElement === bar && last !== null && Math.abs(place - last) < MOVED;
    if (!quiet) bar.setAttribute("aria-valuetext", nameOf(timeline, place, recorded, texts));
    last = place;
  };
}

function clockOf({ anchors }, position, locale) {
  const date = dateAt(anchors, position);
  return date === null ? "" : formatClock(locale, date);
}

/** "14:03:20, 55 seconds behind live"; of a recording, "5 minutes of 20 minutes, 14:03:20". */
function nameOf({ start, live, anchors }, position, recorded, texts) {
  const { locale } = texts;
  const spanOf = (seconds) => saySpan(seconds, locale);
  const clock = clockOf({ anchors }, position, locale);
  const back = live - position;
  const where = recorded ? say(texts, "seekOf", { span: spanOf(position - start), length: spanOf(live - start) })
    : back < 1 ? texts.seekLive
    : say(texts, "seekBehind", { span: spanOf(back) });
  return formatList(locale, (recorded ? [where, clock] : [clock, where]).filter(Boolean));
}
