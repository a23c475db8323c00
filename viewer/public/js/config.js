// The page's settings: in the page itself, or an optional config.json beside it. Nothing is taken from the address bar.
import { address, parseUrl, streamOf } from "./addresses.js";
import { parseTexts } from "./texts.js";

const MODES = Object.freeze(["low-delay", "sharing"]);
const EVENTS = Object.freeze(["held", "server-sent"]);
const ICE = /^(stuns?|turns?):\S+$/;
const ZONED = /^\d{4}-\d\d-\d\dT\d\d:\d\d.*(Z|[+-]\d\d:\d\d)$/;
const COLOR = /^#[0-9a-f]{6}$/i;

/** What is known of prices before the service or the operator has told them. */
const unpriced = Object.freeze({
  storagePerGbMonth: null,
  classAPerMillion: null,
  classBPerMillion: null,
  compareEgressPerGb: null,
});

export const defaults = Object.freeze({
  events: "held",
  fallbackAfterSeconds: 20,
  mode: "low-delay",
  colors: Object.freeze({ accent: "#5b4bdb", live: "#d3263f" }),
});

/** Settings that are sound whatever `raw` holds: what is missing or wrong takes its default. */
export function parseConfig(raw, base) {
  const given = object(raw);
  const { playlistUrl, eventsUrl } = streamOf(given, base);
  return Object.freeze({
    title: text(given.title), // null: the page's own word for a stream
    language: text(given.language), // of every viewer; null: the viewer's own
    playlistUrl,
    eventsUrl,
    events: EVENTS.includes(given.events) ? given.events : defaults.events,
    mediaUrl: address(given.mediaUrl, base), // where segments are
    trackerUrl: socket(given.trackerUrl, base),
    beaconUrl: address(given.beaconUrl, base),
    clipsUrl: address(given.clipsUrl, base), // where clips are asked for; null: viewers make none
    keptUrl: address(given.keptUrl, base),
    fallbackUrl: address(given.fallbackUrl, base),
    fallbackAfterSeconds: number(given.fallbackAfterSeconds, 1, 3600) ?? defaults.fallbackAfterSeconds,
    mode: MODES.includes(given.mode) ? given.mode : defaults.mode,
    iceServers: iceServers(given.iceServers),
    poster: address(given.poster, base),
    logo: address(given.logo, base),
    performer: text(given.performer),
    description: text(given.description, 2000),
    links: linksOf(given.links, base),
    startsAt: time(given.startsAt),
    pageUrl: address(given.pageUrl, base),
    chatUrl: address(given.chatUrl, base),
    colors: overlay(defaults.colors, given.colors, (value) => (COLOR.test(text(value)) ? value.trim() : null)),
    costs: costsOf(given),
    recordings: given.recordings === null ? null : recordingsOf(object(given.recordings), playlistUrl, base),
    recording: given.recording ?? null, // what recordings.js understands
    page: given.page ?? null,
    texts: parseTexts(object(given.texts)),
  });
}

/** Reads what the service has written into the page, else config.json beside it; without either there are defaults. */
export async function loadConfig(base, get = fetch, written = "") {
  try {
    if (written !== "") return parseConfig(JSON.parse(written), base);
    const answer = await get(new URL("config.json", base), { cache: "no-cache" });
    return parseConfig(answer.ok ? await answer.json() : null, base);
  } catch {
    return parseConfig(null, base);
  }
}

const object = (value) => (value !== null && typeof value === "object" && !Array.isArray(value) ? value : {});
const number = (value, least, most) =>
  typeof value === "number" && value >= least && value <= most ? value : null;
const text = (value, most = 200) => (typeof value === "string" && value.trim() !== "" ? value.trim().slice(0, most) : null);

function linksOf(given, base) {
  const links = (Array.isArray(given) ? given : []).map(object);
  const sound = links.map(({ name, url }) => ({ name: text(name), url: address(url, base) }));
  return Object.freeze(sound.filter(({ name, url }) => name !== null && url !== null).slice(0, 12));
}

/** Milliseconds since the epoch of a time that names its zone ("2026-12-24T20:00:00+01:00"): viewers have their own. */
const time = (value) => (ZONED.test(text(value)) && Number.isFinite(Date.parse(value)) ? Date.parse(value) : null);

/** The defaults, each replaced by what `given` has under its name, if `sound` takes it (null: it does not). */
function overlay(standard, given, sound) {
  const own = object(given);
  const pairs = Object.entries(standard).map(([name, value]) => [name, sound(own[name]) ?? value]);
  return Object.freeze(Object.fromEntries(pairs));
}

/** US dollars: the service's prices, overruled by the operator's; null unless all are known. */
function costsOf({ prices, costs }) {
  const sound = (value) => number(value, 0, 1e6);
  const known = overlay(overlay(unpriced, prices, sound), costs, sound);
  return Object.values(known).includes(null) ? null : known;
}

/**
 * Where recordings are: their folder, what tells of the newest, and the pages. On a static host, beside the playlist
 * and this page.
 */
function recordingsOf(given, playlistUrl, base) {
  const folder = address(given.folder, base) ?? address("recordings/", playlistUrl);
  return Object.freeze({
    folder,
    newest: address(given.newest, base) ?? address("index.json", folder),
    list: address(given.list, base) ?? address("recordings.html", base),
    watch: address(given.watch, base) ?? address("./?watch=", base), // and the id
    live: address(given.live, base) ?? address("./", base),
  });
}

/** A WebSocket's address; a path means this page's own host. */
function socket(value, base) {
  const url = parseUrl(value, base);
  if (url === null || !/^(https?|wss?):$/.test(url.protocol)) return null;
  url.protocol = url.protocol.replace("http", "ws");
  return url.href;
}

/** RTCIceServer dictionaries, as RTCPeerConnection takes them; a wrong one would make it throw. */
function iceServers(value) {
  const servers = (Array.isArray(value) ? value : []).map(object).map(({ urls, username, credential }) => ({
    urls: Object.freeze([urls ?? []].flat()),
    ...(text(username) === null ? {} : { username, credential: text(credential) ?? "" }),
  }));
  const sound = servers.filter(
    ({ urls }) => urls.length > 0 && urls.every((url) => typeof url === "string" && ICE.test(url)),
  );
  return Object.freeze(sound.map(Object.freeze));
}
