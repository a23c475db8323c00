// The figures of the statistics, each with its name.
import { formatNumber, say } from "../intl.js";
import { behindLive, formatLatency, formatLevel } from "../stats.js";

function share({ dropped, total }, texts) {
  const count = formatNumber(texts.locale, dropped);
  return total > 0 ? say(texts, "figureDroppedOf", { count, total }) : count;
}

const STATISTICS = Object.freeze([
  ["figureLatency", (state, { locale }) => formatLatency(behindLive(state), locale)],
  ["figureBuffer", ({ buffer }, { locale }) => formatLatency(buffer, locale)],
  ["figureStalls", ({ stalls }, { locale }) => formatNumber(locale, stalls)],
  ["figureDropped", ({ frames }, texts) => share(frames, texts)],
  ["figurePicture", ({ level }, { locale }) => formatLevel(level && { height: level.height }, locale)],
  ["figureBitrate", ({ level }, { locale }) => formatLevel(level && { bitrate: level.bitrate }, locale)],
]);

export function createStatistics(document, list, texts) {
  const cells = STATISTICS.map(([name, read]) => {
    const [row, term, value] = ["div", "dt", "dd"].map((tag) => document.createElement(tag));
    term.textContent = texts[name];
    row.append(term, value);
    list.append(row);
    return { value, read };
  });
  return Object.freeze({
    draw(state) {
      for (const { value, read } of cells) {
        const text = read(state, texts);
        if (value.textContent !== text) value.textContent = text;
      }
    },
  });
}
