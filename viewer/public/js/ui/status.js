// Title, badge, the card over the picture, the poster, and what is read aloud.
import { applyTheme } from "../theme.js";
import { behindLive, formatLatency, formatLevel } from "../stats.js";

/** A card covers the picture where there is none, or where it stands still. */
const WITHOUT_CARD = new Set(["live"]);
const FAREWELL = 10000; // ms
const WITHOUT_PICTURE = new Set(["connecting", "offline", "unsupported"]);

export function createStatus({ document, at, requests }) {
  at("play").addEventListener("click", requests.play);
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
    const { status, title, texts, poster } = state;
    if (changed("colors")) applyTheme(document.documentElement, state.colors);
    if (changed("title", "status")) {
      at("title").textContent = title;
      document.title = status === "live" ? `● ${title}` : title;
    }
    if (changed("poster") && poster !== null) at("poster").src = poster;
    at("poster").hidden = !(WITHOUT_PICTURE.has(status) && at("poster").hasAttribute("src"));
    if (changed("status", "texts")) showStatus(document, at, status, texts);
    if (changed("fallback", "texts")) showWay(state, before.fallback);
    if (changed("status", "fallback", "texts")) at("said").textContent = said(state);
    if (changed("delay", "latency", "level", "status")) at("facts").textContent = facts(state);
  };
}

function showStatus(document, at, status, texts) {
  const card = !WITHOUT_CARD.has(status);
  document.body.dataset.status = status;
  at("badge").textContent = texts[`${status}Badge`];
  at("card").hidden = !card;
  at("play").hidden = status !== "blocked";
  if (card) {
    at("card-title").textContent = texts[`${status}Title`];
    at("card-text").textContent = texts[`${status}Text`];
  }
}

/** Read aloud: it changes with the status, not with every figure. The notice of the fallback is read by itself. */
const said = ({ status, texts }) => [texts[`${status}Title`], texts[`${status}Text`]].filter(Boolean).join(" ");

function facts(state) {
  const { status, level } = state;
  if (WITHOUT_PICTURE.has(status)) return "";
  const behind = behindLive(state);
  return [behind === null ? "" : `${formatLatency(behind)} behind`, level ? formatLevel(level) : ""].filter(Boolean).join(" · ");
}
