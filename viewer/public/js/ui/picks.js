// The menu behind the gear: quality, speed, captions, the sound, and a television.
import { formatNumber, nameOfLanguage, say } from "../intl.js";
import { SPEEDS, hasSpeed } from "../pace.js";
import { levelKey } from "../quality.js";
import { createPopover } from "./menu.js";

const OFF = "off"; // no caption's id: those come from the player with a number in them

export function createPicks({ document, at, requests }) {
  const entries = ["choice", "speed-choice", "caption-choice", "audio-choice", "cast"].map(at);
  const close = createPopover({ document, button: at("settings"), menu: at("choices"), above: true });
  at("cast").addEventListener("click", requests.cast);
  at("speed").addEventListener("change", ({ target }) => requests.chooseSpeed(Number(target.value)));
  at("quality").addEventListener("change", ({ target }) => requests.chooseQuality(target.value));
  at("audio").addEventListener("change", ({ target }) => requests.chooseAudioTrack(target.value));
  at("caption").addEventListener("change", ({ target }) =>
    requests.chooseCaption(target.value === OFF ? null : target.value),
  );

  return function draw(state, changed) {
    if (changed("levels", "quality", "texts")) fillQualities(at("quality"), state);
    if (changed("levels", "quality", "level", "texts")) at("quality").options[0].text = nameOfAuto(state);
    if (changed("captions", "caption", "texts")) fillCaptions(at("caption"), state);
    if (changed("texts")) at("speed").replaceChildren(...SPEEDS.map((speed) => new Option(`${formatNumber(state.texts.locale, speed)}×`, speed)));
    if (changed("speed", "texts")) at("speed").value = state.speed;
    if (changed("audioTracks", "texts")) fillAudioTracks(at("audio"), state);
    at("audio-choice").hidden = state.audioTracks.length < 2;
    at("speed-choice").hidden = !hasSpeed(state);
    at("choice").hidden = state.levels.length < 2;
    at("caption-choice").hidden = state.captions.length === 0;
    at("cast").hidden = !state.castable;
    at("settings").hidden = entries.every(({ hidden }) => hidden);
    if (at("settings").hidden) close();
  };
}

function fillQualities(select, { levels, quality, texts }) {
  const best = [...levels].sort((a, b) => b.height - a.height || b.bitrate - a.bitrate);
  const options = best.map((level) => {
    const alike = best.filter(({ height }) => height === level.height);
    const name = level.height ? `${level.height}p` : texts.quality;
    const [index, count] = [alike.indexOf(level) + 1, alike.length];
    return new Option(count === 1 ? name : say(texts, "qualityOf", { name, index, count }), levelKey(level));
  });
  select.replaceChildren(new Option(texts.qualityAuto, "auto"), ...options);
  select.value = quality;
  if (select.selectedIndex < 0) select.value = "auto"; // this stream has no such rendition
}

/** What the player chose by itself; with a choice of the viewer's own that would mislead. */
const nameOfAuto = ({ quality, level, texts }) =>
  quality === "auto" && level?.height ? say(texts, "qualityAutoNow", { name: `${level.height}p` }) : texts.qualityAuto;

function fillCaptions(select, { captions, caption, texts }) {
  const options = captions.map(({ id, label }) => new Option(label, id));
  select.replaceChildren(new Option(texts.captionsOff, OFF), ...options);
  select.value = caption ?? OFF;
}

function fillAudioTracks(select, { audioTracks, texts }) {
  const options = audioTracks.map(({ id, lang, name }) => {
    const language = nameOfLanguage(texts.locale, lang) ?? name;
    const isOnly = audioTracks.filter((track) => track.lang === lang).length === 1;
    return new Option(isOnly || language === name ? language : say(texts, "withKey", { name: language, key: name }), id);
  });
  select.replaceChildren(...options);
  select.value = audioTracks.find(({ on }) => on)?.id;
}
