// A moving plot of the last two minutes, by uPlot.
import { formatFixed, formatList, formatUnit, say } from "../intl.js";

const HEIGHT = 120;
const SECONDS = 120;
const LEAST = 1; // a scale never shows less, so that nothing looks like much

/** The library and its style sheet, which the page needs for nothing else. */
async function library(document) {
  const sheet = new URL("../../vendor/uPlot.min.css", import.meta.url).href;
  if (!document.querySelector(`link[href="${sheet}"]`)) {
    const link = document.createElement("link");
    link.rel = "stylesheet";
    link.href = sheet;
    document.head.append(link);
  }
  return (await import("../../vendor/uPlot.mjs")).default;
}

/** One line of a plot's key: [the item, the element that holds its figure]. */
export function keyOf(document, name, color) {
  const [item, swatch, value] = ["li", "i", "b"].map((tag) => document.createElement(tag));
  swatch.style.setProperty("background", `var(${color})`);
  item.append(swatch, `${name} `, value);
  return [item, value];
}

/**
 * series = [{name, color: a custom property, value(columns, index), fill?, steps?, axis?: "right"}], `scale` times
 * the values on the left axis, which are in `unit`; with `right` there is another. Answers {draw(columns)}.
 */
export async function createPlot(document, box, series, { unit, texts, scale = 1, right = false }) {
  const UPlot = await library(document);
  const { defaultView: window } = document;
  let plot = null;
  let data = null;

  function make() {
    plot?.destroy();
    const style = window.getComputedStyle(document.documentElement);
    const color = (name) => style.getPropertyValue(name).trim();
    plot = new UPlot(options(UPlot, { series, texts, right, color, width: box.clientWidth }), data, box);
  }
  make();
  box.setAttribute("role", "img");
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", make);
  new ResizeObserver(() => box.clientWidth > 0 && plot.setSize({ width: box.clientWidth, height: HEIGHT })).observe(box);

  return Object.freeze({
    draw(columns) {
      const values = series.map(({ value, axis }) =>
        columns.at.map((_, index) => {
          const sample = value(columns, index);
          return sample === null || axis ? sample : sample * scale;
        }),
      );
      data = [columns.at, ...values];
      plot.setData(data);
      const { locale } = texts;
      const last = series.map(({ name }, index) => `${name} ${formatFixed(locale, values[index].at(-1) ?? 0, 1)}`);
      box.setAttribute("aria-label", say(texts, "plot", { unit, values: formatList(locale, last) }));
    },
  });
}

function options(UPlot, { series, texts, right, color, width }) {
  const quiet = color("--quiet");
  const axis = { stroke: quiet, font: "11px system-ui", ticks: { show: false }, grid: { stroke: color("--line"), width: 1 } };
  const range = (_plot, _low, high) => [0, Math.max(LEAST, high * 1.1)];
  const ago = (minutes) => formatUnit(texts.locale, -minutes, "minute");
  const whole = (_plot, splits) => splits.map((value) => (Number.isInteger(value) ? `${value}` : ""));
  return {
    width,
    height: HEIGHT,
    legend: { show: false },
    cursor: { show: false },
    padding: [8, right ? 0 : 18, 0, 0],
    scales: { x: { time: false, range: [-SECONDS, 0] }, y: { range }, right: { range } },
    axes: [
      { ...axis, size: 22, splits: () => [-120, -60, 0], values: () => [ago(2), ago(1), texts.plotNow] },
      { ...axis, size: 30, space: 26 },
      ...(right ? [{ ...axis, scale: "right", side: 1, size: 26, space: 26, grid: { show: false }, values: whole }] : []),
    ],
    series: [
      {},
      ...series.map(({ color: name, fill, steps, axis: side }) => ({
        scale: side ?? "y",
        stroke: color(name),
        width: fill ? 1 : 2,
        fill: fill ? color(name) : undefined,
        paths: steps ? UPlot.paths.stepped({ align: 1 }) : undefined,
        points: { show: false },
      })),
    ],
  };
}
