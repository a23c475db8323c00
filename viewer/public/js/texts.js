// What the page says in words of its own: in the language of the viewer, or the operator's. config.json may put others
// in their place.
import english from "../languages/en.json" with { type: "json" };
import { say } from "./intl.js";

/** English comes with the page; another language is a file that nothing waits for. */
const FILES = Object.freeze({
  de: new URL("../languages/de.json", import.meta.url),
  es: new URL("../languages/es.json", import.meta.url),
  fr: new URL("../languages/fr.json", import.meta.url),
  ja: new URL("../languages/ja.json", import.meta.url),
  pt: new URL("../languages/pt.json", import.meta.url),
});
const WITHIN = 20000; // ms

const baseOf = (tag) => String(tag).toLowerCase().split("-")[0];
const isKnown = (tag) => tag === "en" || Object.hasOwn(FILES, tag);

/**
 * {language: whose words are shown, locale: whose numbers and dates}, by what the viewer reads, the best first; the
 * `language` of the operator holds for all.
 */
export function chooseLanguage(wanted, language = null) {
  const tags = wanted.filter(isTag);
  const own = isTag(language) && isKnown(baseOf(language)) ? language : null;
  const found = baseOf(own ?? tags.find((tag) => isKnown(baseOf(tag))) ?? "en");
  return { language: found, locale: tags.find((tag) => baseOf(tag) === found) ?? own ?? found };
}

function isTag(tag) {
  try {
    return Intl.getCanonicalLocales(tag).length === 1;
  } catch {
    return false;
  }
}

/** All texts: English, where neither the language nor the operator has another one. */
export const textsOf = ({ locale = "en", words = {}, own = {} } = {}) => Object.freeze({ ...english, ...words, ...own, locale });

export const defaultTexts = textsOf();

/** The texts in the language of the viewer; in English, where its words cannot be had. `own` is parseTexts's. */
export async function loadTexts({ language, own, wanted = globalThis.navigator?.languages ?? [], get = fetch }) {
  const chosen = chooseLanguage(wanted, language);
  if (chosen.language === "en") return textsOf({ ...chosen, own });
  try {
    const answer = await get(FILES[chosen.language], { priority: "low", signal: AbortSignal.timeout(WITHIN) });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    return textsOf({ ...chosen, words: await answer.json(), own });
  } catch (error) {
    console.warn(error);
    return textsOf({ own });
  }
}

/** Puts the words of the page's HTML in their places, and says which language they are in. */
export function translate(document, texts) {
  const each = (name, put) => {
    for (const element of document.querySelectorAll(`[data-${name}]`)) put(element, texts[element.dataset[name]]);
  };
  each("text", (element, text) => element.textContent === text || (element.textContent = text));
  each("label", (element, text) => element.setAttribute("aria-label", text));
  each("title", (element, text) => {
    const { key } = element.dataset;
    element.title = key === undefined ? text : withKey(texts, text, key);
  });
  Object.assign(document.documentElement, { lang: texts.locale, dir: texts.direction });
}

/** "Play (k)" */
export const withKey = (texts, name, key) => say(texts, "withKey", { name, key });

/** Where an operator has worded only what an earlier page called both by, that holds for the newer one too. */
const HEIRS = ["Badge", "Title", "Text"].flatMap((part) => [
  [`soon${part}`, `offline${part}`],
  [`ended${part}`, `offline${part}`],
  [`encoder${part}`, `waiting${part}`],
]);
const LONGEST = 300; // characters

/** The operator's own: of what `raw` has, the texts that the page knows. */
export function parseTexts(raw) {
  const given = Object.entries(raw ?? {}).filter(
    ([name, text]) => Object.hasOwn(english, name) && typeof text === "string" && text.trim() !== "",
  );
  const own = Object.fromEntries(given.map(([name, text]) => [name, text.trim().slice(0, LONGEST)]));
  for (const [name, older] of HEIRS) if (own[older] !== undefined) own[name] ??= own[older];
  return Object.freeze(own);
}
