// The one switch for guests: help to carry the stream or not; what that means stands beside it.
import { LOW_DELAY, SHARING } from "../modes.js";

export function createSharing({ at, requests }) {
  at("p2p").addEventListener("change", ({ target }) => requests.setMode(target.checked ? SHARING : LOW_DELAY));

  return function draw({ mode, p2p, texts }, changed) {
    if (!changed("mode", "p2p", "texts")) return;
    const sharing = mode === SHARING;
    at("sharing").hidden = !p2p.available; // without a tracker, or a browser that can, there is nothing to choose
    at("p2p").checked = sharing;
    at("sharing-notice").textContent = sharing ? notice(p2p, texts) : texts.lowDelayNotice;
  };
}

export function notice({ reason }, texts) {
  if (reason === "tracker") return texts.sharingTracker;
  if (reason === "saving") return texts.sharingSaving;
  if (reason === "mobile") return texts.sharingMobile;
  return texts.sharingNotice;
}
