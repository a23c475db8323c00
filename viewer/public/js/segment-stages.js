// The way of the last segments as bars: how long each stage took, and how wide to draw it.

export const STAGES = Object.freeze([
  { name: "upload", from: "noticed", to: "uploaded" },
  { name: "tell", from: "uploaded", to: "told" },
  { name: "fetch", from: "told", to: "fetched" },
]);
const MOST = 8;

/**
 * For stages as in state.js: {rows, most, longest}. Getting a segment takes milliseconds and its wait in the buffer
 * seconds, so each has a scale of its own: `most` ms and `longest` ms are their right ends. One segment that took
 * very long is cut off there, so that the others can still be seen.
 * row = {label, parts: [{name, ms, left, width}], total, isCut, wait: {ms, width, isCut} | null}, newest first; left and
 * width in percent, total in ms or null; `isCut` where a bar would go beyond its scale. A stage whose times are not known,
 * or that begins beyond the scale, is left out; clocks that disagree make it zero.
 */
export function layOut(stages) {
  const latest = stages.slice(-MOST).reverse();
  const timed = latest.map((stage) => ({
    stage,
    spans: STAGES.map(({ name, from, to }) => ({ name, ms: span(stage, from, to) })),
    wait: span(stage, "fetched", "played"),
  }));
  const most = scaleOf(timed.map(({ spans }) => sum(spans)), 1);
  const longest = scaleOf(timed.map(({ wait }) => wait ?? 0), 1000);
  const rows = timed.map(({ stage, spans, wait }) => ({
    label: `${stage.sequence ?? "–"}`,
    parts: place(spans, most),
    total: spans.some(({ ms }) => ms !== null) ? sum(spans) : null,
    isCut: sum(spans) > most,
    wait: wait === null ? null : { ms: wait, width: Math.min(100, (100 * wait) / longest), isCut: wait > longest },
  }));
  return { rows, most, longest };
}

function span(stage, from, to) {
  const [begin, end] = [stage[from] ?? null, stage[to] ?? null];
  return begin === null || end === null ? null : Math.max(0, end - begin);
}

const sum = (spans) => spans.reduce((total, { ms }) => total + (ms ?? 0), 0);

function place(spans, most) {
  let left = 0;
  const parts = spans
    .filter(({ ms }) => ms !== null)
    .map(({ name, ms }) => {
      const part = { name, ms, left, width: Math.min(100 - left, (100 * ms) / most) };
      left += part.width;
      return part;
    });
  return parts.filter((part) => part.left < 100);
}

function scaleOf(values, least) {
  const sorted = [...values].sort((a, b) => a - b);
  const usual = sorted[Math.floor(sorted.length / 2)] ?? 0;
  return roundUp(Math.max(least, Math.min(sorted.at(-1) ?? 0, 3 * usual)));
}

/** The next of 1, 2, 3, 4, 5, 6, 8, 10, 20 …: a scale that does not change with every segment. */
export function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 3, 4, 5, 6, 8, 10].map((step) => step * power).find((step) => step >= value * 0.999999);
}
