// The list of recordings, newest first: some dozens at once, and older ones when they are asked for.
import { cardOf } from "./cards.js";
import { loadConfig } from "./config.js";
import { pageOf, readPage } from "./recordings.js";
import { applyTheme } from "./theme.js";
import { loadTexts, translate } from "./texts.js";

const AT_ONCE = 48;

const at = (id) => document.getElementById(id);
const config = await loadConfig(document.baseURI, fetch, at("config").textContent);
const { recordings } = config;
const texts = await loadTexts({ language: config.language, own: config.texts });
let waiting = []; // of what was read, those that are not shown yet
let older = recordings && recordings.newest; // where the next ones are

applyTheme(document.documentElement, config.colors);
translate(document, texts);
if (recordings !== null) at("live").href = recordings.live;
at("older").addEventListener("click", show);

async function show() {
  try {
    if (waiting.length === 0 && older !== null) {
      const page = await readPage(older);
      [waiting, older] = [page.recordings, page.older];
    }
  } catch {
    at("said").textContent = texts.recordingsAway;
    at("older").hidden = false;
    return;
  }
  const cards = waiting.splice(0, AT_ONCE).map((recording) => cardOf(recording, { texts, watch: recordings.watch }));
  at("list").append(...cards);
  at("older").hidden = waiting.length === 0 && older === null;
  at("said").textContent = at("list").childElementCount === 0 ? texts.noRecordings : "";
  if (at("list").childElementCount > cards.length) cards[0]?.querySelector("a").focus();
}

if (config.page !== null) {
  const page = pageOf(config.page, document.baseURI);
  [waiting, older] = [page.recordings, page.older];
}
await show();
