// The button that keeps what was seen last, and what has become of that.
import { withKey } from "../texts.js";

const SEEN = new Set(["live", "behind", "rest", "recorded"]); // phases

export function createClip({ document, at, requests }) {
  const narrow = document.defaultView.matchMedia("(max-width: 40rem)");
  let isSeen = false; // the picture, which then has room for this besides what has become of the stream
  const place = () => {
    const to = at(isSeen || !narrow.matches ? "offers" : "clip-below");
    if (at("clipped").parentNode !== to) to.append(at("clipped"));
  };
  narrow.addEventListener("change", place);
  at("clip").addEventListener("click", requests.clip);
  at("forget-clip").addEventListener("click", requests.forgetClip);
  at("share-clip").addEventListener("click", async () => {
    const how = await requests.shareClip();
    if (how !== "shared") at("share-clip").textContent = shown[how === "copied" ? "shareCopied" : "shareFailed"];
  });
  let shown = null; // the words

  return function draw(state, changed) {
    const { clip, clipsUrl, texts, fallback } = state;
    shown = texts;
    isSeen = SEEN.has(state.phase);
    at("clip").hidden = clipsUrl === null || fallback || !isSeen;
    place();
    if (!changed("clip", "texts")) return;
    at("clip").title = withKey(texts, texts.clipWhat, "x");
    at("clipped").hidden = clip === null;
    if (clip === null) return;
    const made = clip.url !== null;
    at("clip-text").textContent = texts[{ making: "clipMaking", made: "clipMade" }[clip.stage] ?? clip.stage];
    at("clip-link").hidden = at("share-clip").hidden = !made;
    at("share-clip").textContent = texts.share;
    if (made) at("clip-link").href = clip.url;
  };
}
