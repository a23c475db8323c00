// What is on beside its title: who performs, when it starts; the chat; and passing it on.
import { say } from "../intl.js";
import { formatCountdown, formatDay } from "../timeline.js";

const SECOND = 1000; // ms
const THANKS = 3000; // ms
const BEFORE = new Set(["offline", "connecting"]); // phases in which somebody waits for the start

/** Owncast's chat or another one: it may run and remember its reader, and not lead this page elsewhere. */
function chatAt(address, document, title) {
  const frame = Object.assign(document.createElement("iframe"), { title, loading: "lazy", src: address });
  frame.setAttribute("sandbox", "allow-scripts allow-same-origin allow-forms allow-popups");
  return frame;
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
  at("cast").addEventListener("click", requests.cast);

  function showCountdown() {
    const { startsAt, texts } = shown;
    const left = startsAt === null ? 0 : startsAt - now();
    const waits = left > 0 && BEFORE.has(shown.phase);
    at("countdown").hidden = !waits;
    if (waits) at("countdown").textContent = say(texts, "countdown", { time: formatCountdown(left, texts.locale) });
    at("starts").hidden = !(left > 0);
  }
  setInterval(() => shown !== null && showCountdown(), SECOND);

  return function draw(state, changed) {
    shown = state;
    const { performer, startsAt, chatUrl, castable, texts } = state;
    if (changed("performer")) {
      at("performer").hidden = performer === null;
      at("performer").textContent = performer ?? "";
    }
    if (changed("startsAt", "texts") && startsAt !== null) at("starts").textContent = formatDay(startsAt, texts.locale);
    if (changed("chatUrl") && chatUrl !== null && !document.documentElement.hasAttribute("data-embed")) {
      at("chat").replaceChildren(chatAt(chatUrl, document, texts.chat));
      at("chat").hidden = false;
    }
    if (changed("recording")) at("share-moment").hidden = state.recording === null;
    if (changed("texts")) {
      for (const frame of at("chat").children) frame.title = texts.chat;
    }
    if (changed("castable")) at("cast").hidden = !castable;
    if (changed("startsAt", "phase", "texts")) showCountdown();
  };
}
