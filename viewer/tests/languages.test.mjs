// What the page says comes from one catalogue, in each of its languages; nothing that viewers see stands elsewhere.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { say } from "../public/js/intl.js";
import { shortcuts } from "../public/js/keyboard.js";
import { chooseLanguage, defaultTexts, loadTexts, textsOf, translate } from "../public/js/texts.js";

const at = (name) => new URL(`../public/${name}`, import.meta.url);
const read = (name) => readFileSync(at(name), "utf8");
const languages = readdirSync(at("languages")).map((file) => [file.replace(".json", ""), JSON.parse(read(`languages/${file}`))]);
const english = Object.fromEntries(languages).en;
const formsOf = (text) => (typeof text === "string" ? [text] : Object.values(text));
const placesOf = (text) => [...new Set(text.match(/\{\w+\}/g))].sort();

test("each language has the words of all, with the same places for values", () => {
  assert.deepEqual(languages.map(([name]) => name), ["de", "en", "es", "fr", "ja", "pt"]);
  for (const [name, words] of languages) {
    assert.deepEqual(Object.keys(words), Object.keys(english), name);
    for (const [key, text] of Object.entries(words)) {
      const places = placesOf(formsOf(english[key]).at(-1));
      for (const form of formsOf(text)) assert.deepEqual(placesOf(form), places, `${name}: ${key}: ${form}`);
      for (const form of formsOf(text)) assert.ok(form.trim() === form && form !== "", `${name}: ${key}`);
    }
  }
});

test("the chosen quality has room in a control of a phone", () => {
  for (const [name, words] of languages) assert.ok(words.qualityAutoNow.replace("{name}", "1080p").length <= 10, name);
});

test("what is counted has the forms that its language tells apart", () => {
  for (const [name, words] of languages) {
    const { pluralCategories } = new Intl.PluralRules(name).resolvedOptions();
    const wanted = pluralCategories.filter((category) => category !== "many").sort(); // of millions
    const counted = Object.entries(words).filter(([, text]) => typeof text !== "string");
    assert.ok(counted.length > 0);
    for (const [key, forms] of counted) assert.deepEqual(Object.keys(forms).sort(), wanted, `${name}: ${key}`);
  }
  const texts = { en: defaultTexts, de: textsOf({ locale: "de", words: Object.fromEntries(languages).de }) };
  assert.equal(say(texts.en, "viewers", { count: 1234 }), "1,234 watching");
  assert.equal(say(texts.de, "viewers", { count: 1 }), "1 sieht zu");
  assert.equal(say(texts.de, "viewers", { count: 1234 }), "1.234 sehen zu");
});

test("the browser's languages choose, and the operator's holds for all", () => {
  const cases = [
    [["de-AT", "en"], null, "de", "de-AT"],
    [["nl", "pt-BR", "en"], null, "pt", "pt-BR"],
    [["nl", "zh"], null, "en", "en"],
    [["en-GB", "de"], null, "en", "en-GB"],
    [[], null, "en", "en"],
    [["C", "en_US@posix", "ja"], null, "ja", "ja"],
    [["en-US"], "fr", "fr", "fr"],
    [["en-US", "fr-CA"], "FR", "fr", "fr-CA"],
    [["de"], "xx", "de", "de"],
    [["de"], "not a language", "de", "de"],
  ];
  for (const [wanted, own, language, locale] of cases) assert.deepEqual(chooseLanguage(wanted, own), { language, locale });
});

test("English asks for nothing; another language is one file that waits for the picture, or English", async () => {
  const asked = [];
  const answer = (words) => async (url, { priority }) => {
    asked.push([url.pathname.split("/").at(-1), priority]);
    return { ok: words !== null, json: async () => words };
  };
  const own = { share: "Weitersagen" };
  const inEnglish = await loadTexts({ wanted: ["en-GB"], get: answer({}) });
  assert.deepEqual([asked.length, inEnglish.locale, inEnglish.share], [0, "en-GB", "Share"]);
  const german = await loadTexts({ wanted: ["de"], own, get: answer({ clip: "Ausschnitt" }) });
  assert.deepEqual([german.clip, german.share, german.chat, german.locale], ["Ausschnitt", "Weitersagen", "Chat", "de"]);
  assert.deepEqual(asked, [["de.json", "low"]]);
  const without = await loadTexts({ wanted: ["de"], own, get: answer(null) });
  assert.deepEqual([without.clip, without.share, without.locale], ["Clip", "Weitersagen", "en"]);
});

test("the page says which language it is in, and which way that runs", () => {
  const element = (dataset) => ({ dataset, setAttribute: (name, value) => (element[name] = value) });
  const [named, titled] = [element({ text: "share" }), element({ title: "stats", key: "i" })];
  const found = { "[data-text]": [named], "[data-title]": [titled] };
  const document = { documentElement: {}, querySelectorAll: (selector) => found[selector] ?? [] };
  translate(document, textsOf({ locale: "ar", words: { direction: "rtl", share: "شارك" } }));
  assert.deepEqual(document.documentElement, { lang: "ar", dir: "rtl" });
  assert.deepEqual([named.textContent, titled.title], ["شارك", "Statistics (i)"]);
});

// HTML: what is between tags, or in an attribute that is read, stands there in English for a name of the catalogue.
const SAID = /\s(aria-label|title|alt|placeholder|(?<=data-content="\w+" )content)="([^"]*)"/g;
const NAMES = { "aria-label": "label", title: "title", content: "content" };
const WITHOUT = /<style[\s\S]*?<\/style>|<!--[\s\S]*?-->/g

/** What is wrong with the words of a page. */
function faultsOf(html) {
  const faults = [];
  for (const [whole, attributes, text] of html.replace(WITHOUT, "").matchAll(/<[a-z0-9]+((?:\s[^<>]*)?)>([^<]*)/g)) {
    const nameOf = (kind) => new RegExp(`\\sdata-${kind}="([^"]+)"`).exec(attributes)?.[1];
    const check = (name, words) => english[name] !== words && faults.push(whole.trim());
    for (const [, attribute, words] of attributes.matchAll(SAID)) {
      const key = nameOf("key");
      const name = nameOf(NAMES[attribute]);
      if (words !== "") check(name, attribute === "title" && key ? words.replace(` (${key})`, "") : words);
    }
    if (/\p{L}/u.test(text)) check(nameOf("text"), text.trim());
  }
  for (const [whole, kind, name] of html.matchAll(/data-(text|label|title|content)="(\w*)"/g)) if (!english[name]) faults.push(`${kind}: ${whole}`);
  return faults;
}

test("no word of a page stands outside the catalogue", () => {
  for (const page of ["index.html", "recordings.html", "404.html"]) assert.deepEqual(faultsOf(read(page)), [], page);
  for (const planted of ["<p>Hello</p>", '<i title="Hello"></i>', '<i data-label="play" aria-label="Hello"></i>', '<p data-text="nothing"></p>']) {
    assert.equal(faultsOf(planted).length, 1, planted);
  }
});

// Scripts: a literal that reads like words, and is none of what scripts name besides.
const NOT_SAID = [
  /^(Arrow|Audio|Video|Media|Encrypted|Managed|Abort|NotAllowed|NotSupported|Quota|Type|Timeout|Content|Cache|Network|Web|RTC)[A-Z]?\w*$/, // names of the platform
  /^(Space|Home|End|Escape|Esc|Tab|Enter|[A-Z]|Mbit\/s|kbit\/s|R2|USD|NumberFormat|DateTimeFormat|PluralRules|ListFormat|DisplayNames)$/,
  /^(Badge|Title|Text|Age|Content-Length)$/, // ends of names of texts, headers
  /^(length figure|notice figure|track short|\0 kbit\/s)$/, // classes, a unit
];

/** The literals of a script that viewers might see: without what goes to the console, and errors, which go there. */
function wordsOf(source) {
  const code = source
    .replace(/\/\*[\s\S]*?\*\/|(^|\s)\/\/.*$/gm, "")
    .replace(/(?:new \w*Error|console\.\w+)\((?:[^()]|\([^()]*\))*\)/g, "");
  const literals = [...code.matchAll(/"((?:[^"\\\n]|\\.)*)"|`((?:[^`\\]|\\.)*)`/g)].map(([, plain, template]) => plain ?? template.replace(/\$\{(?:[^{}]|\{[^{}]*\})*\}/g, "\u0000"));
  const looksSaid = (text) => /^[A-Z][a-z]+/.test(text) || /(^|\s)[a-z]{2,} [a-z]{2,}/.test(text) || /\u0000 [a-z]{3,}/.test(text);
  return literals.filter((text) => looksSaid(text) && !NOT_SAID.some((known) => known.test(text)));
}

test("no word of a script stands outside the catalogue", () => {
  const found = readdirSync(at("js"), { recursive: true }).filter((name) => name.endsWith(".js"))
    .flatMap((name) => wordsOf(read(`js/${name}`)).map((text) => `${name}: ${text}`));
  assert.deepEqual(found, []);
  for (const planted of ['x.title = "Hello";', "x.textContent = `${n} viewers`;", 'make("p", "not one yet")']) assert.equal(wordsOf(planted).length, 1, planted);
});

const services = ["access/gate.py", "http/static.py", "viewer_server/pages.py"].map((file) => readFileSync(new URL(`../../broadcaster/${file}`, import.meta.url), "utf8"));

test("each name of the catalogue is used, and each that is used is there", () => {
  const sources = readdirSync(at("js"), { recursive: true }).filter((name) => name.endsWith(".js")).map((name) => read(`js/${name}`));
  const all = [...sources, read("index.html"), read("recordings.html"), read("404.html"), ...services].join("\n");
  const isPhase = /(Badge|Title|Text)$/; // asked for by phase
  const unused = Object.keys(english).filter((name) => !isPhase.test(name) && !new RegExp(`[."]${name}\\b`).test(all));
  assert.deepEqual(unused, []);
  const used = [...all.matchAll(/\b(?:texts|words)\.(\w+)/g)].map(([, name]) => name).filter((name) => !["locale", "js"].includes(name));
  for (const name of [...used, ...shortcuts.map(({ what }) => what)]) assert.ok(Object.hasOwn(english, name), name);
});
