// Title, badge, the card over the picture, the poster, and what is read aloud.
import { say } from "../intl.js";
import { applyTheme } from "../theme.js";
import { saySpan } from "../timeline.js";
import { phaseOf, titleOf } from "../player-phase.js";

/** A card covers the picture where there is none, or where it stands still. */
const WITHOUT_CARD = new Set(["live", "behind", "rest", "recorded"]);
const WITH_BUTTON = new Set(["blocked", "gone", "over"]);
const WAITING = new Set(["soon", "offline", "starting"]);
const FAREWELL = 10000; // ms
const WITHOUT_PICTURE = new Set(["connecting", "starting", "offline", "soon", "ended", "unsupported", "undecodable", "loading", "over", "missing"]);

export function createStatus({ document, at, requests }) {
  at("play").addEventListener("click", requests.play);
  at("watch-missed").addEventListener("click", requests.watchMissed);
  at("forget-missed").addEventListener("click", requests.forgetMissed);
  at("poster").addEventListener("error", () => at("poster").removeAttribute("src"));

  let timer = 0;

  /** That the way has changed is said for as long as it lasts; that it is the usual one again, for a while. */
  function showWay({ fallback, texts }, before) {
    clearTimeout(timer);
    const back = before && !fallback;
    at("fallback").hidden = !(fallback || back);
    if (fallback || back) at("fallback").textContent = fallback ? texts.fallbackNotice : texts.fallbackOver;
    if (back) timer = setTimeout(() => (at("fallback").hidden = true), FAREWELL);
  }

  return function draw(state, changed, before) {
    const { texts, poster, missed, phase } = state;
    const title = titleOf(state);
    const moved = changed("texts", "phase");
    if (changed("colors")) applyTheme(document.documentElement, state.colors);
    if (changed("title", "recording") || moved) {
      at("title").textContent = title;
      document.title = phase === "live" ? `● ${title}` : phase === "missing" ? texts.missingTitle : title;
    }
    if (changed("poster") && poster !== null) at("poster").src = poster;
    if (moved) showTexts(document, at, state);
    // What is shown may last a little longer than what it tells of: the picture is not covered meanwhile.
    const both = (phases) => phases.has(phase) && phases.has(phaseOf(state));
    at("card").hidden = WITHOUT_CARD.has(phase) || WITHOUT_CARD.has(phaseOf(state));
    at("poster").hidden = !(both(WITHOUT_PICTURE) && at("poster").hasAttribute("src"));
    if (changed("viewers") || moved) {
      const count = sayViewers(state);
      at("viewers").hidden = count === null;
      at("viewers").textContent = count;
    }
    if (changed("fallback", "texts")) showWay(state, before.fallback);
    if (changed("missed", "texts")) {
      at("missed").hidden = missed === null;
      if (missed !== null) at("missed-text").textContent = say(texts, "missed", { span: saySpan(missed.seconds, texts.locale) });
    }
  };
}

/** How many watch, or wait for the start; after the end nobody does either. */
export function sayViewers({ viewers: count, phase, texts }) {
  if (count === null || phase === "ended") return null;
  return WAITING.has(phase) ? say(texts, "viewersWaiting", { count }) : say(texts, "viewers", { count });
}

function showTexts(document, at, { phase, texts, undecodable }) {
  const card = !WITHOUT_CARD.has(phase);
  const [title, text] = [`${phase}Title`, `${phase}Text`].map((name) => (texts[name] ? say(texts, name, { codecs: undecodable }) : ""));
  document.body.dataset.status = phase;
  at("badge").textContent = texts[`${phase}Badge`];
  at("play").hidden = !WITH_BUTTON.has(phase);
  at("play").textContent = phase === "over" ? texts.watchAgain : texts.play;
  if (card) {
    at("card-title").textContent = title;
    at("card-text").textContent = text;
  }
  // Read aloud: it changes with the phase, not with every figure. The notice of the fallback is read by itself.
  at("said").textContent = [title, text].filter(Boolean).join(" ");
}
