// The curves of the last hour.
import uPlot from "../vendor/uPlot.mjs";
import { ceiling, outages, rates, topOf } from "./rates.js";
import { make } from "./row.js";
import { clock } from "./format.js";

const FIRST = { dark: "#6cb6ff", light: "#0b62b8" };
const SECOND = { dark: "#f2b56b", light: "#a05a00" };

const asIs = (name, factor = 1) => (rows) => rows.map((row) => ((row[name] ?? null) === null ? null : factor * row[name]));
const scaled = (name, factor) => (rows) => rates(rows, name).map((value) => (value === null ? null : factor * value));
/** The median and the 95th percentile of the service's last minute. */
const spread = (name, factor) => [["median", asIs(`${name}50`, factor)], ["95th percentile", asIs(`${name}95`, factor)]];

/** Title, and each curve: its name and where its values come from. */
const PLOTS = [
  ["Viewers", ["viewers", asIs("viewers")]],
  ["How late viewers are, s", ...spread("latency", 1)],
  ["Stalls of viewers, a minute", ["stalls", scaled("stalls", 60)]],
  ["Publish delay, ms", ...spread("publishDelay", 1000)],
  ["Upload time, ms", ...spread("uploadTime", 1000)],
  ["Segments waiting for the bucket", ["backlog", asIs("backlog")]],
  ["Requests per second, as they reach this server", ["requests", scaled("requests", 1)]],
  ["Megabits per second that viewers report", ["from the bucket", scaled("bucketBytes", 8e-6)], ["from each other", scaled("peerBytes", 8e-6)]],
  ["Stored in the bucket, MB", ["stored", asIs("storedBytes", 1e-6)]],
];

/** Of what is counted there is no half. */
const COUNTED = new Set([PLOTS[0], PLOTS[5]]);
const ROOM = 60; // CSS pixels, for more than two numbers at an axis

/** What matters during the event. */
export const MAIN = [0, 1, 5].map((index) => PLOTS[index]);

/** Makes plots inside `place`; the answer draws rows, as soon as there is room for them. */
export function createPlots(place, chosen = PLOTS, light = matchMedia("(prefers-color-scheme: light)")) {
  const made = chosen.map((which) => {
    const [title, ...curves] = which;
    return { ...box(place, title), curves, isCounted: COUNTED.has(which), plot: null };
  });
  const drawn = { rows: [], bands: [] };

  function draw(rows) {
    drawn.rows = rows;
    drawn.bands = outages(rows);
    for (const item of made) {
      const { plot, figure, curves } = item;
      const { clientWidth: width, clientHeight: height } = figure;
      if (width === 0 || rows.length === 0) continue;
      const data = [rows.map(({ time }) => time / 1000), ...curves.map(([, values]) => values(rows))];
      if (plot && (plot.width !== width || plot.height !== height)) plot.setSize({ width, height });
      if (plot) plot.setData(data);
      else item.plot = new uPlot(options(item, light.matches ? "light" : "dark", drawn), data, figure);
    }
  }
  new ResizeObserver(() => draw(drawn.rows)).observe(place);
  light.addEventListener("change", () => {
    for (const item of made) {
      item.plot?.destroy();
      item.plot = null;
    }
    draw(drawn.rows);
  });
  return draw;
}

function box(place, title) {
  const legend = make("div", { className: "key" });
  const figure = make("div", { className: "figure" });
  place.append(make("div", { className: "plot" }, make("div", { className: "head" }, make("h3", {}, title), legend), figure));
  return { figure, legend };
}

/** Behind the curves, when viewers did not get what was on. */
function drawBands({ ctx, bbox, valToPos }, bands, color) {
  ctx.save();
  ctx.fillStyle = color;
  for (const { from, to } of bands) {
    const left = Math.max(bbox.left, valToPos(from, "x", true));
    const right = Math.min(bbox.left + bbox.width, valToPos(to, "x", true));
    ctx.fillRect(left, bbox.top, Math.max(2, right - left), bbox.height);
  }
  ctx.restore();
}

/** With seconds as long as there are only minutes to see. */
const times = (_plot, splits) =>
  splits.map((seconds) => clock(1000 * seconds, splits.at(-1) - splits[0] < 600 ? undefined : {}));

/** What is written at an axis of values: its ends, and its middle. */
const ends = (plot, _axis, _least, top) => (plot.bbox.height < ROOM * devicePixelRatio || top === 1 ? [0, top] : [0, top / 2, top]);

function options({ figure, legend, curves, isCounted }, theme, drawn) {
  const style = getComputedStyle(document.documentElement);
  const axis = { stroke: style.getPropertyValue("--quiet"), grid: { stroke: style.getPropertyValue("--line"), width: 1 } };
  const told = (_plot, seconds) => (seconds === null ? "–" : clock(1000 * seconds));
  return {
    width: figure.clientWidth,
    height: figure.clientHeight,
    padding: [8, 30, 0, 0],
    legend: { mount: (_plot, table) => legend.replaceChildren(table) },
    axes: [{ ...axis, size: 30, space: 70, values: times }, { ...axis, size: 48, splits: ends, values: (_plot, splits) => splits.map((value) => value.toLocaleString("en")) }],
    // What goes on for long, or is so now, has its place; what was there for a moment is cut off, and told under the pointer.
    scales: { y: { range: ({ data: [, ...values] }) => [0, topOf(ceiling(values.flat(), values.map((curve) => curve.at(-1))), isCounted)] } },
    series: [
      { label: "time", value: told },
      ...curves.map(([label], index) => ({ label, stroke: (index ? SECOND : FIRST)[theme], width: 2, spanGaps: true, points: { show: false } })),
    ],
    hooks: { drawClear: [(plot) => drawBands(plot, drawn.bands, style.getPropertyValue("--outage"))] },
  };
}
