// What is on beside its title: whose it is, who performs, when it starts; the chat; and passing it on.
import { formatStart, say } from "../intl.js";
import { formatCountdown } from "../timeline.js";

const SECOND = 1000; // ms
const THANKS = 3000; // ms
const LASTS = 12 * 3600 * SECOND; // after which an event's date says nothing of what is on
const BEFORE = new Set(["soon", "connecting"]); // phases in which somebody waits for the start

/** Owncast's chat or another one: it may run and remember its reader, and not lead this page elsewhere. */
function chatAt(address, document, title) {
  const frame = Object.assign(document.createElement("iframe"), { title, loading: "lazy", src: address });
  frame.setAttribute("sandbox", "allow-scripts allow-same-origin allow-forms allow-popups");
  return frame;
}

function linkOf({ name, url }, document) {
  const item = document.createElement("li");
  item.append(Object.assign(document.createElement("a"), { textContent: name, href: url, target: "_blank", rel: "noopener", className: "link" }));
  return item;
}

export function createEvent({ document, at, requests, now = Date.now }) {
  let shown = null; // the state
  let thanks = 0;

  /** `name` is that of the text, too. */
  async function share(button, name) {
    const { texts } = shown;
    const how = await requests[name]();
    if (how === "shared") return;
    button.textContent = how === "copied" ? texts.shareCopied : texts.shareFailed;
    clearTimeout(thanks);
    thanks = setTimeout(nameButtons, THANKS);
  }
  const nameButtons = () => {
    at("share").textContent = shown.texts.share;
    at("share-moment").textContent = shown.texts.shareMoment;
  };
  at("share").addEventListener("click", () => share(at("share"), "share"));
  at("share-moment").addEventListener("click", () => share(at("share-moment"), "shareMoment"));
  at("theatre").addEventListener("click", requests.toggleTheatre);
  at("logo").addEventListener("error", () => (at("logo").hidden = true));

  function showCountdown() {
    const { startsAt, texts } = shown;
    const left = startsAt === null ? 0 : startsAt - now();
    const waits = left > 0 && BEFORE.has(shown.phase);
    at("countdown").hidden = !waits;
    if (waits) at("countdown").textContent = say(texts, "countdown", { time: formatCountdown(left, texts.locale) });
    at("remind").hidden = at("reminded").hidden = !waits;
    at("starts").hidden = startsAt === null || left < -LASTS || shown.recording !== null;
  }
  setInterval(() => shown !== null && showCountdown(), SECOND);

  return function draw(state, changed) {
    shown = state;
    const { logo, performer, startsAt, chatUrl, texts } = state;
    if (changed("logo")) {
      at("logo").hidden = logo === null;
      if (logo !== null) at("logo").src = logo;
    }
    if (changed("performer")) {
      at("performer").hidden = performer === null;
      at("performer").textContent = performer ?? "";
    }
    if (changed("startsAt", "texts") && startsAt !== null) at("starts").textContent = formatStart(texts.locale, startsAt);
    if (changed("chatUrl") && chatUrl !== null && !document.documentElement.hasAttribute("data-embed")) {
      at("chat").replaceChildren(chatAt(chatUrl, document, texts.chat));
      at("chat").hidden = at("theatre").hidden = false;
    }
    if (changed("theatre")) {
      document.body.toggleAttribute("data-theatre", state.theatre);
      at("theatre").setAttribute("aria-pressed", String(state.theatre));
    }
    if (changed("description", "links")) {
      at("description").hidden = state.description === null;
      at("description").textContent = state.description ?? "";
      at("links").hidden = state.links.length === 0;
      at("links").replaceChildren(...state.links.map((link) => linkOf(link, document)));
    }
    if (changed("recording")) at("share-moment").hidden = state.recording === null;
    if (changed("texts")) {
      for (const frame of at("chat").children) frame.title = texts.chat;
    }
    if (changed("startsAt", "phase", "recording", "texts")) showCountdown();
  };
}
