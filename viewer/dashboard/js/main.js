// The operator's dashboard: asks every two seconds, draws, and says every second how old that is.
import { createApi } from "./api.js";
import { drawChecklist } from "./checklist.js";
import { createConfirm } from "./confirm.js";
import { follow } from "./metric-rows.js";
import { clock, duration } from "./format.js";
import { createFaultLines } from "./fault-lines.js";
import { createGuests } from "./guests.js";
import { age, headline, lamps } from "./headline.js";
import { createPicture } from "./picture.js";
import { createPlots, MAIN } from "./plots.js";
import { drawQualities } from "./qualities.js";
import { lately, upToNow } from "./rates.js";
import { createRecordingsTab } from "./recordings-tab.js";
import { make } from "./row.js";
import { createSound } from "./sound.js";
import { createTabs } from "./tabs.js";
import { viewerTiles, drawTiles, moneyTiles, nowTiles, serviceTiles } from "./tiles.js";
import { createToast } from "./toast.js";
import { createToken } from "./token.js";
import { createUploads } from "./upload.js";

const find = (id) => document.getElementById(id);
const plots = [createPlots(find("main-plots"), MAIN), createPlots(find("plots"))];
const drawLines = createFaultLines(find("lines"));
const drawPicture = createPicture(find("picture"));
const sound = createSound({ button: find("sound") });
const say = createToast({ find });
const api = createApi({ onForgotten: () => drawToken() });
const currentTab = () => tabs.shown();
const parts = { find, api, say, currentTab, confirm: createConfirm({ find }) };
const recordings = createRecordingsTab(parts);
const lists = { recordings: recordings.refresh, clips: recordings.refresh, uploads: createUploads(parts), guests: createGuests(parts) };

function change() {
  find("address-note").hidden = true;
  say("");
  refresh();
}

/** Asks anew for what the tab shows, as far as that needs asking. */
async function refresh() {
  drawToken();
  if (api.knows()) await lists[currentTab()]?.();
}
const tabs = createTabs({ list: find("tabs"), onShow: () => queueMicrotask(change) });
const drawToken = createToken({ ...parts, onToken: refresh });

function lamp({ part, state, sign }) {
  const item = make("li", {}, `${sign} ${part[0].toUpperCase()}${part.slice(1)}`);
  Object.assign(item.dataset, { part, state });
  return item;
}

let answer = null; // the last there was
let failed = false; // the request after it

function describe() {
  const moment = performance.now();
  const { state, label, text, lines } = headline(answer, failed, moment);
  const before = find("status").dataset.state;
  find("status").dataset.state = document.body.dataset.state = state;
  find("verdict").textContent = label;
  find("sentence").textContent = text;
  drawLines(lines);
  find("lamps").replaceChildren(...lamps(answer, state).map(lamp));
  if (answer) drawTiles(find("now-tiles"), nowTiles(answer, moment));
  find("clock").textContent = `${clock(Date.now())} · `;
  find("age").replaceChildren(...(answer ? [make("span", { className: "roomy" }, "figures: "), `${duration(age(answer, moment))} old`] : []));
  document.title = label ? `${label} – Broadcaster` : "Broadcaster";
  sound(state, moment);
  // Read out when it changes, and not with each second that is counted.
  if (state !== before) find("alarm").textContent = [label, text, ...lines.flatMap((line) => [line.text, line.remedy])].join(" ");
}

function draw(now) {
  failed = now === null;
  answer = now ?? answer;
  describe();
  if (now === null) return;
  find("token-file").textContent = now.tokenFile;
  drawPicture(now);
  drawChecklist(find, now);
  drawQualities(find, now);
  recordings.note(now);
  if (now.rows.length === 0) return;
  const rows = upToNow(now);
  plots[0](lately(rows));
  plots[1](rows);
  drawTiles(find("audience"), viewerTiles(now));
  drawTiles(find("service"), serviceTiles(now));
  drawTiles(find("money-tiles"), moneyTiles(now));
}

setInterval(describe, 1000);
await follow({ url: "data.json", draw });
