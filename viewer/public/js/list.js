// The list of recordings, newest first: some dozens at once, and older ones when they are asked for.
import { loadConfig } from "./config.js";
import { dateOf, pageOf, readPage } from "./recordings.js";
import { applyTheme } from "./theme.js";
import { loadTexts, translate } from "./texts.js";
import { formatSpan, saySpan } from "./timeline.js";

const AT_ONCE = 48;

const at = (id) => document.getElementById(id);
const make = (tag, name, ...children) => {
  const element = document.createElement(tag);
  element.className = name;
  element.append(...children);
  return element;
};

const config = await loadConfig(document.baseURI, fetch, at("config").textContent);
const { recordings } = config;
const texts = await loadTexts({ language: config.language, own: config.texts });
let waiting = []; // of what was read, those that are not shown yet
let older = recordings && recordings.newest; // where the next ones are

applyTheme(document.documentElement, config.colors);
translate(document, texts);
if (recordings !== null) at("live").href = recordings.live;
at("older").addEventListener("click", show);

function cardOf(recording) {
  const { id, title, duration, ended, poster } = recording;
  const picture = make("span", "picture");
  if (poster !== null) {
    const image = make("img", "");
    image.alt = "";
    image.loading = "lazy";
    image.addEventListener("error", () => image.remove());
    image.src = poster;
    picture.append(image);
  }
  const length = make("span", "length figure", ended === null ? texts.liveBadge : formatSpan(duration));
  length.classList.toggle("on", ended === null);
  if (ended !== null) length.setAttribute("aria-label", saySpan(duration, texts.locale));
  if (ended !== null) length.setAttribute("role", "img");
  picture.append(length);
  const card = make("a", "recording", picture, make("span", "name", title || texts.untitled), make("span", "notice", dateOf(recording, texts.locale)));
  card.href = recordings.watch + encodeURIComponent(id);
  return make("li", "", card);
}

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
  const cards = waiting.splice(0, AT_ONCE).map(cardOf);
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
