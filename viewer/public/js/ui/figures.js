// The figures of the statistics, each with its name.
import { behindLive, formatLatency, formatLevel } from "../stats.js";

const share = ({ dropped, total }) => (total > 0 ? ` of ${total.toLocaleString("en")}` : "");

const FIGURES = Object.freeze([
  ["Latency", (state) => formatLatency(behindLive(state))],
  ["Buffer", ({ buffer }) => formatLatency(buffer)],
  ["Stalls", ({ stalls }) => `${stalls}`],
  ["Dropped frames", ({ frames }) => `${frames.dropped.toLocaleString("en")}${share(frames)}`],
  ["Picture", ({ level }) => formatLevel(level && { height: level.height })],
  ["Bit rate", ({ level }) => formatLevel(level && { bitrate: level.bitrate })],
]);

export function createFigures(document, list) {
  const cells = FIGURES.map(([name, read]) => {
    const [row, term, value] = ["div", "dt", "dd"].map((tag) => document.createElement(tag));
    term.textContent = name;
    row.append(term, value);
    list.append(row);
    return { value, read };
  });
  return Object.freeze({
    draw(state) {
      for (const { value, read } of cells) {
        const text = read(state);
        if (value.textContent !== text) value.textContent = text;
      }
    },
  });
}
