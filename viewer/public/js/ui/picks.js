// The choice of quality and of captions.
import { levelKey } from "../quality.js";

const OFF = "off"; // no caption's id: those come from the player with a number in them

export function createPicks({ at, requests }) {
  at("quality").addEventListener("change", ({ target }) => requests.chooseQuality(target.value));
  at("caption").addEventListener("change", ({ target }) =>
    requests.chooseCaption(target.value === OFF ? null : target.value),
  );

  return function draw(state, changed) {
    if (changed("levels", "quality")) fillQualities(at("quality"), state);
    if (changed("levels", "quality", "level")) at("quality").options[0].text = nameOfAuto(state);
    if (changed("captions", "caption")) fillCaptions(at("caption"), state);
    at("choice").hidden = state.levels.length < 2;
    at("caption-choice").hidden = state.captions.length === 0;
  };
}

function fillQualities(select, { levels, quality }) {
  const best = [...levels].sort((a, b) => b.height - a.height || b.bitrate - a.bitrate);
  const options = best.map((level) => {
    const alike = best.filter(({ height }) => height === level.height);
    const name = level.height ? `${level.height}p` : "Quality";
    const which = alike.length === 1 ? "" : ` (${alike.indexOf(level) + 1} of ${alike.length})`;
    return new Option(`${name}${which}`, levelKey(level));
  });
  select.replaceChildren(new Option("Auto", "auto"), ...options);
  select.value = quality;
  if (select.selectedIndex < 0) select.value = "auto"; // this stream has no such rendition
}

/** What the player chose by itself; with a choice of the viewer's own that would mislead. */
const nameOfAuto = ({ quality, level }) => (quality === "auto" && level?.height ? `Auto ${level.height}p` : "Auto");

function fillCaptions(select, { captions, caption }) {
  const options = captions.map(({ id, label }) => new Option(label, id));
  select.replaceChildren(new Option("No captions", OFF), ...options);
  select.value = caption ?? OFF;
}
