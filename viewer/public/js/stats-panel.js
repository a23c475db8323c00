// The statistics: figures, two moving plots, the way of the last segments, and the money.
import { createFigures } from "./ui/figures.js";
import { createMoney } from "./ui/money.js";
import { createPlot, keyOf } from "./ui/plot.js";
import { createStages } from "./ui/stages.js";
import { formatBytes } from "./stats.js";

const BESIDE = Object.freeze({ axis: "right" });
const flow = Object.freeze([
  // Drawn one upon the other: what peers bring is on top of what the bucket brings.
  { name: "Viewers", color: "--peers", fill: true, value: ({ bucket, peers }, at) => bucket[at] + peers[at] },
  { name: "R2", color: "--bucket", fill: true, value: ({ bucket }, at) => bucket[at] },
  { name: "Peers", color: "--count", steps: true, ...BESIDE, value: ({ count }, at) => count[at] },
]);
const delay = Object.freeze([
  { name: "Latency", color: "--latency", value: ({ latency }, at) => latency[at] },
  { name: "Buffer", color: "--buffer", fill: true, value: ({ buffer }, at) => buffer[at] },
]);

export async function createStatsPanel({ document, at, store, meter, history }) {
  const figures = createFigures(document, at("figures"));
  const stages = createStages(document, at("stages"));
  const money = createMoney(document, at("money"), at("money-note"));
  const plots = [
    await createPlot(document, at("flow-plot"), flow, { unit: "Mbit/s", scale: 1 / 1000, right: true }),
    await createPlot(document, at("delay-plot"), delay, { unit: "s" }),
  ];
  at("delay-key").append(...delay.map(({ name, color }) => keyOf(document, name, color)[0]));
  const key = flow.map(({ name, color }) => keyOf(document, name, color));
  at("flow-key").append(...key.map(([item]) => item));

  const drawSlowly = () => {
    const columns = history.columns();
    for (const plot of plots) plot.draw(columns);
    const { costs } = store.get();
    at("money").parentElement.hidden = costs === null;
    if (costs !== null) money.draw(meter.figures(store.get()), costs);
  };
  const draw = (state, before) => {
    if (!state.statsOpen) return;
    figures.draw(state);
    if (state.stages !== before.stages || !before.statsOpen || state === before) stages.draw(state.stages);
    const { bytes, p2p } = state;
    const totals = [formatBytes(bytes.peers), formatBytes(bytes.bucket), `${p2p.peers}`];
    key.forEach(([, value], index) => (value.textContent = totals[index]));
    at("sources").textContent = sources(state);
    if (!before.statsOpen) drawSlowly();
  };
  history.onSample(() => store.get().statsOpen && drawSlowly());
  store.subscribe(draw);
  drawSlowly();
}

/** The hosts, by bytes: what the page promises about where its video comes from can be checked here. */
function sources({ bytesByHost, bytes, p2p, texts }) {
  const hosts = Object.entries(bytesByHost).sort(([, a], [, b]) => b - a);
  const from = hosts.map(([host, count]) => `${host} ${formatBytes(count)}`);
  if (bytes.uploaded > 0) from.push(`passed on to viewers ${formatBytes(bytes.uploaded)}`);
  if (p2p.peers > 0) from.push(`${texts.sharingPeers} ${p2p.peers}`);
  return from.join(" · ");
}
