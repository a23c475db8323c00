// The statistics: figures, two moving plots, the way of the last segments, and the money.
import { createStatistics } from "./ui/statistics.js";
import { createMoney } from "./ui/money.js";
import { createPlot, keyOf } from "./ui/plot.js";
import { createStages } from "./ui/segment-stages.js";
import { formatNumber, say } from "./intl.js";
import { formatBytes } from "./stats.js";

const BESIDE = Object.freeze({ axis: "right" });
const flow = Object.freeze([
  // Drawn one upon the other: what peers bring is on top of what the bucket brings.
  { text: "flowViewers", color: "--peers", fill: true, value: ({ bucket, peers }, at) => bucket[at] + peers[at] },
  { name: "R2", color: "--bucket", fill: true, value: ({ bucket }, at) => bucket[at] },
  { text: "flowPeers", color: "--count", steps: true, ...BESIDE, value: ({ count }, at) => count[at] },
]);
const delay = Object.freeze([
  { text: "figureLatency", color: "--latency", value: ({ latency }, at) => latency[at] },
  { text: "figureBuffer", color: "--buffer", fill: true, value: ({ buffer }, at) => buffer[at] },
]);

export async function createStatsPanel({ document, at, store, meter, history }) {
  const { texts } = store.get();
  const { locale } = texts;
  const named = (series) => series.map((line) => ({ ...line, name: texts[line.text] ?? line.name }));
  const [flows, delays] = [named(flow), named(delay)];
  const figures = createStatistics(document, at("figures"), texts);
  const stages = createStages(document, at("stages"), texts);
  const money = createMoney(document, at("money"), at("money-note"), texts);
  const plots = [
    await createPlot(document, at("flow-plot"), flows, { texts, unit: "Mbit/s", scale: 1 / 1000, right: true }),
    await createPlot(document, at("delay-plot"), delays, { texts, unit: "s" }),
  ];
  at("delay-key").append(...delays.map(({ name, color }) => keyOf(document, name, color)[0]));
  const key = flows.map(({ name, color }) => keyOf(document, name, color));
  at("flow-key").append(...key.map(([item]) => item));

  const drawSlowly = () => {
    const columns = history.columns();
    for (const plot of plots) plot.draw(columns);
  };
  const draw = (state, before) => {
    if (!state.statsOpen) return;
    figures.draw(state);
    if (state.stages !== before.stages || !before.statsOpen || state === before) stages.draw(state.stages);
    const { bytes, p2p, costs } = state;
    const totals = [formatBytes(bytes.peers, locale), formatBytes(bytes.bucket, locale), formatNumber(locale, p2p.peers)];
    key.forEach(([, value], index) => (value.textContent = totals[index]));
    at("sources").textContent = sources(state);
    at("money").parentElement.hidden = costs === null;
    if (costs !== null) money.draw(meter.figures(state), costs);
    if (!before.statsOpen) drawSlowly();
  };
  history.onSample(() => store.get().statsOpen && drawSlowly());
  store.subscribe(draw);
  drawSlowly();
}

/** The hosts, by bytes: what the page promises about where its video comes from can be checked here. */
function sources({ bytesByHost, bytes, p2p, texts }) {
  const hosts = Object.entries(bytesByHost).sort(([, a], [, b]) => b - a);
  const from = hosts.map(([host, count]) => `${host} ${formatBytes(count, texts.locale)}`);
  if (bytes.uploaded > 0) from.push(say(texts, "flowPassed", { size: formatBytes(bytes.uploaded, texts.locale) }));
  if (p2p.peers > 0) from.push(say(texts, "peersConnected", { count: p2p.peers }));
  return from.join(" · ");
}
