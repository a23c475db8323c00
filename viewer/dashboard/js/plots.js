// The curves of the last hour.
import uPlot from "../vendor/uPlot.mjs";
import { rates } from "./figures.js";

const HEIGHT = 170;
const FIRST = { dark: "#6cb6ff", light: "#0b62b8" };
const SECOND = { dark: "#f2b56b", light: "#a05a00" };

const inMilliseconds = (rows, name) => rows.map((row) => (row[name] === null ? null : 1000 * row[name]));
const asIs = (rows, name) => rows.map((row) => row[name]);

/** Title, and each curve: its name and where its values come from. */
const PLOTS = [
  ["Publish delay and upload time, longest, ms", ["publish delay", (rows) => inMilliseconds(rows, "publishDelay")], ["upload", (rows) => inMilliseconds(rows, "uploadTime")]],
  ["Segments waiting for the bucket", ["backlog", (rows) => asIs(rows, "backlog")]],
  ["Requests per second, as they reach this server", ["requests", (rows) => rates(rows, "requests")]],
  ["Connected", ["waiting", (rows) => asIs(rows, "waiters")], ["told of events", (rows) => asIs(rows, "eventReaders")]],
  ["Megabits per second that viewers report", ["from the bucket", (rows) => megabits(rows, "bucketBytes")], ["from each other", (rows) => megabits(rows, "peerBytes")]],
  ["Stored in the bucket, MB", ["stored", (rows) => rows.map((row) => row.storedBytes / 1e6)]],
];

const megabits = (rows, name) => rates(rows, name).map((value) => (value === null ? null : (8 * value) / 1e6));

/** Makes all plots inside `place`; the answer draws rows. */
export function createPlots(place, light = matchMedia("(prefers-color-scheme: light)")) {
  const made = PLOTS.map(([title, ...curves]) => ({ ...box(place, title), curves, plot: null }));
  let drawn = [];

  function draw(rows) {
    drawn = rows;
    for (const one of made) {
      const data = [rows.map(({ time }) => time / 1000), ...one.curves.map(([, values]) => values(rows))];
      if (one.plot) one.plot.setData(data);
      else one.plot = new uPlot(options(one, light.matches ? "light" : "dark"), data, one.figure);
    }
  }
  new ResizeObserver(() => {
    for (const { plot, figure } of made) plot?.setSize({ width: figure.clientWidth, height: HEIGHT });
  }).observe(place);
  light.addEventListener("change", () => {
    for (const one of made) {
      one.plot?.destroy();
      one.plot = null;
    }
    draw(drawn);
  });
  return draw;
}

function box(place, title) {
  const frame = document.createElement("div");
  frame.className = "plot";
  const heading = document.createElement("h3");
  heading.textContent = title;
  const figure = document.createElement("div");
  frame.append(heading, figure);
  place.append(frame);
  return { figure };
}

function options({ figure, curves }, theme) {
  const style = getComputedStyle(document.documentElement);
  const axis = { stroke: style.getPropertyValue("--quiet"), grid: { stroke: style.getPropertyValue("--line"), width: 1 } };
  return {
    width: figure.clientWidth,
    height: HEIGHT,
    axes: [axis, { ...axis, size: 54 }],
    scales: { y: { range: (_plot, _least, most) => [0, Math.max(1, (most ?? 0) * 1.1)] } },
    series: [{}, ...curves.map(([label], index) => ({ label, stroke: (index ? SECOND : FIRST)[theme], width: 2, spanGaps: true }))],
  };
}
