// The buttons on the picture.
import { formatPercent } from "../intl.js";
import { withKey } from "../texts.js";
import { formatSpan } from "../timeline.js";

const AT_LIVE = new Set(["live", "behind", "gone"]); // phases in which live goes on
const FAR = new Set(["buffering", "slow"]); // and those in which it may, for who is behind

/** Whether there is a live to go to: not in trouble, nor for who is there and waits. */
export const hasLive = ({ phase, behind, recording }) =>
  recording === null && (AT_LIVE.has(phase) || (behind && FAR.has(phase)));

/** Each button is a picture, a name and a key. */
function show(button, icon, texts, name, key) {
  const use = button.querySelector("use");
  if (use.getAttribute("href") !== icon) use.setAttribute("href", icon);
  if (button.ariaLabel !== texts[name]) button.setAttribute("aria-label", texts[name]);
  button.title = withKey(texts, texts[name], key);
}

export function createBar({ at, requests, can }) {
  const click = (id, ask) => at(id).addEventListener("click", ask);
  click("play-pause", requests.togglePlay);
  click("mute", requests.toggleMute);
  click("unmute", requests.unmute);
  click("go-live", requests.goLive);
  click("pip", requests.togglePip);
  click("fullscreen", requests.toggleFullscreen);
  at("volume").addEventListener("input", (event) => requests.setVolume(event.target.valueAsNumber / 100));
  at("pip").hidden = !can.pip;
  at("fullscreen").hidden = !can.fullscreen;

  return function draw(state, changed) {
    const { paused, muted, volume, status, pip, fullscreen, texts } = state;
    if (changed("paused", "texts")) show(at("play-pause"), paused ? "#i-play" : "#i-pause", texts, paused ? "play" : "pause", "k");
    if (changed("muted", "texts")) show(at("mute"), muted ? "#i-muted" : "#i-sound", texts, muted ? "soundOn" : "soundOff", "m");
    if (changed("muted", "volume", "texts")) showVolume(at("volume"), muted ? 0 : Math.round(100 * volume), texts);
    if (changed("fullscreen", "texts")) {
      const name = fullscreen ? "fullscreenLeave" : "fullscreen";
      show(at("fullscreen"), fullscreen ? "#i-small" : "#i-full", texts, name, "f");
    }
    if (changed("pip")) at("pip").setAttribute("aria-pressed", String(pip));
    at("unmute").hidden = !(muted && status === "live" && !paused);
    const live = state.phase === "live";
    at("go-live").hidden = !hasLive(state);
    at("go-live").classList.toggle("at-live", live);
    // The badge says where the picture is; where there is none, this does.
    at("edge-word").textContent = live ? texts.liveBadge : texts.goLive;
    at("behind-by").textContent = behindBy(state);
  };
}

/** How far back the picture is from where live viewers are; of a recording, where it is. */
function behindBy({ behind, timeline, position, recording }) {
  if (recording !== null && timeline !== null && position !== null) {
    return `${formatSpan(position - timeline.start)} / ${formatSpan(timeline.live - timeline.start)}`;
  }
  return behind && timeline !== null && position !== null ? `−${formatSpan(timeline.live - position)}` : "";
}

function showVolume(slider, percent, { locale }) {
  if (slider.valueAsNumber !== percent) slider.value = percent;
  slider.style.setProperty("--filled", `${percent}%`);
  slider.setAttribute("aria-valuetext", formatPercent(locale, percent / 100));
}
