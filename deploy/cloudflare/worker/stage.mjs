/** The stream as the service pushed it last: texts by name, events, and the requests held for what comes next. */
import { DurableObject } from "cloudflare:workers";
import { HLS, JSON_TYPE, NO_STORE, age, answer, busy, json, parsed, textOf, tried } from "./http.mjs";
const VERSION = 2; // of the protocol; the version before it is understood as well
const MOST_VIEW = 16 * 2 ** 20, MOST_TEXTS = 2000, MOST_WAITING = 1500, RING = 60; // bytes; requests; events remembered
const CHUNK = 500_000, HOLD = 20_000, LONGEST_HOLD = 90_000, SILENT = 30_000; // characters of a row (2 MiB); ms
const EMPTY = { epoch: 0, serial: 0, at: 0, skew: 0, floors: {}, state: {}, sampling: {}, silenced: false }, DELTA = "+delta"; // of the name of a playlist: its delta update
const rowsOf = (text) => Array.from({ length: Math.ceil(text.length / CHUNK) }, (_, i) => text.slice(i * CHUNK, (i + 1) * CHUNK));
/** An item more each, with a number of its own. */
const grown = ({ serial, items }, more) => ({ serial: serial + more.length, items: [...items, ...more.map((item, i) => [serial + i + 1, item])].slice(-RING) });
/** Seconds for which a cache may keep a playlist: until the next version is due. */
const kept = ({ keep, live, target, seconds, at }, due = (at + 1000 * seconds - Date.now()) / 1000, half = Math.max(1, Math.floor(target / 2))) =>
  keep || !live ? keep || half : due > 0 ? Math.min(Math.ceil(due), target) : Math.min(Math.max(1, Math.floor(-due)), half);
export class Stage extends DurableObject {
  texts = new Map(); // by name: {text, tag, at}, and what the service says: last, live, target, seconds, keep, modified
  waiting = new Set(); woken = 0; // requests
  constructor(ctx, env) { super(ctx, env); ctx.blockConcurrencyWhile(() => this.load()); }
  async load() {
    const rows = await this.ctx.storage.list(), now = Date.now();
    this.head = rows.get("head") ?? EMPTY;
    // Numbers begin at the clock, so that a store that was lost uses none again.
    this.rings = rows.get("rings") ?? { events: { serial: now, items: [] }, segments: { serial: now, items: [] } };
    this.texts = new Map(Object.entries(rows.get("about") ?? {}).map(([name, { parts, ...about }]) => [name, { ...about, text: Array.from({ length: parts }, (_, i) => rows.get(`${name} ${i}`)).join("") }]));
  }
  async fetch(request) {
    const { method, headers } = request, { pathname, searchParams } = new URL(request.url);
    const name = tried(() => decodeURIComponent(pathname.slice(1))) ?? "?", found = this.texts.get(name);
    if (method === "PUT") return this.push(await textOf(await request.blob(), headers, MOST_VIEW));
    if (method === "DELETE") await this.ctx.storage.deleteAll().then(() => this.load());
    if (method === "DELETE" || name === "") return json(this.about(), NO_STORE);
    const [, kind, after] = name.match(/^live\/(events|segments)\/(now|\d{1,16})$/) ?? [];
    if (kind) return this.news(kind, after === "now" ? -1 : +after);
    if (name.endsWith(".m3u8")) return this.playlist(name, searchParams);
    return found ? this.send(found, NO_STORE, JSON_TYPE) : answer(404, "There is no such text.\n", NO_STORE);
  }
  about({ epoch, serial, at } = this.head) { return { v: VERSION, epoch, serial, silent: Date.now() - at, held: this.waiting.size, woken: this.woken }; }
  refuse(status, reason) { return json({ ...this.about(), reason }, NO_STORE, status); }
  /** What the service says: all of it or nothing, and nothing older than what there is. */
  async push(body) {
    if (body === null) return this.refuse(413, "size");
    const told = parsed(body), { v, epoch, serial, base, texts, events = [], segments = [], answers = [], state, sampling, now: theirs } = told ?? {};
    if (v !== undefined && v !== VERSION && v !== VERSION - 1) return this.refuse(400, "version");
    const isView = [v, epoch, serial, theirs].every(Number.isFinite) && [texts, state, sampling].every((one) => one && typeof one === "object");
    if (!isView || ![events, segments, answers].every(Array.isArray)) return this.refuse(400, "body");
    const { head, rings } = this, now = Date.now(), whole = base === null, floors = { ...head.floors };
    if (epoch < head.epoch) return this.refuse(409, "epoch");
    if (epoch === head.epoch && serial <= head.serial) return this.refuse(200); // a replay
    if (!whole && (epoch !== head.epoch || base !== head.serial)) return this.refuse(409, "base");
    const fallen = Object.keys(texts).find((name) => texts[name]?.last < floors[name]); // not even by a way round
    if (fallen !== undefined) return this.refuse(422, fallen);
    const next = tried(() => this.applied(texts, whole, `${epoch.toString(36)}-${serial.toString(36)}`));
    if (!next || next.size > MOST_TEXTS) return next ? this.refuse(413, "texts") : this.refuse(400, "body");
    for (const [name, { last }] of next) if (last !== undefined) floors[name] = last;
    // Pages were told that the service is silent; those that know nothing of what is whole begin anew.
    const found = head.silenced ? [["trouble", { now: theirs, trouble: state.trouble }], ...events] : events;
    const renewed = ({ serial: last }, items) => ({ serial: last + 1, items: items.length ? [[last + 1, items]] : [] });
    await this.store({ epoch, serial, at: now, skew: theirs - now, floors, state, sampling, silenced: false }, {
      events: whole ? renewed(rings.events, []) : grown(rings.events, found),
      segments: whole && (segments.length || !texts["live/playlist.m3u8"]) ? renewed(rings.segments, segments) : grown(rings.segments, segments.length ? [segments] : []),
    }, next);
    if (answers.length) await this.env.TALLY.getByName("live").answer(answers);
    if ("gate" in texts) await this.env.SWARM.getByName("live").cut(parsed(next.get("gate")?.text ?? "null"));
    if (texts.swarms) await this.env.SWARM.getByName("live").admit(parsed(next.get("swarms").text));
    return json(this.about(), NO_STORE);
  }
  /** The texts that follow from these; throws where they are none. */
  applied(texts, whole, version) {
    const next = new Map(whole ? [] : this.texts);
    for (const [name, told] of Object.entries(texts)) {
      next.delete(name);
      if (told === null) continue;
      const { ops, ...about } = told, before = this.texts.get(name), at = Date.now();
      const text = ops.map((op) => (typeof op === "string" ? op : before.text.slice(...op))).join("");
      const made = { text, at, tag: `"${version}${name.endsWith(DELTA) ? "d" : ""}"` };
      next.set(name, { ...about, ...(before?.text === text ? { text, at: before.at, tag: before.tag } : made) });
    }
    return next;
  }
  /** In one transaction, and then told to all who wait. */
  async store(head, rings, texts = this.texts) {
    const changed = (these, those) => [...these].filter(([name, { text }]) => those.get(name)?.text !== text);
    const rowsIn = (all) => all.flatMap(([name, { text }]) => rowsOf(text).map((row, i) => [`${name} ${i}`, row]));
    const about = [...texts].map(([name, { text, ...rest }]) => [name, { ...rest, parts: rowsOf(text).length }]);
    await this.ctx.storage.transaction(async (rows) => {
      for (const [name] of rowsIn(changed(this.texts, texts))) rows.delete(name);
      for (const [name, row] of rowsIn(changed(texts, this.texts))) rows.put(name, row);
      await rows.put({ head, rings, about: Object.fromEntries(about) });
    });
    [this.head, this.rings, this.texts] = [head, rings, texts];
    for (const one of this.waiting) if (one.ready()) one.wake(true);
  }
  /** Wait until it is ready; false when that does not come in time, null where there is no room. */
  hold(ready, ms, { promise, resolve } = Promise.withResolvers()) {
    if (this.waiting.size >= MOST_WAITING) return null;
    const one = { ready, wake: (came) => { clearTimeout(timer); this.waiting.delete(one); this.woken += came; resolve(came); } }, timer = setTimeout(one.wake, ms, false);
    return this.waiting.add(one), promise;
  }
  /** A playlist, once it has the number that is asked for (RFC 8216bis, 6.2.5.2). */
  async playlist(name, query) {
    const current = () => this.texts.get(name), first = current(), { state, targetDuration } = this.head.state;
    if (!first) return answer(404, "There is no such stream at the moment.\n", state === "live" ? age(targetDuration) : NO_STORE);
    const msn = query.get("_HLS_msn"), part = query.get("_HLS_part"), isLive = first.live && first.last !== undefined;
    const isWrong = (part !== null && msn === null) || ![msn ?? 0, part ?? 0].every((one) => /^\d{1,16}$/.test(one));
    if (isLive && isWrong) return answer(400, "_HLS_msn and _HLS_part are numbers, and go together.\n", age(4 * first.target));
    if (isLive && +msn > first.last + 2) return answer(400, "_HLS_msn is more than two segments ahead.\n", NO_STORE);
    const blocks = isLive && msn !== null, ready = () => !blocks || !current()?.live || current().last >= +msn;
    const came = ready() || (await this.hold(ready, Math.min(3000 * first.target, LONGEST_HOLD))), found = current();
    if (!came) return came === null ? busy("Too many are waiting.\n") : busy("No new segment has come in time.\n", age(1));
    if (!found) return answer(404, "The stream is gone.\n", NO_STORE);
    const skip = found.live && ["YES", "v2"].includes(query.get("_HLS_skip")) && this.texts.get(name + DELTA);
    return this.send(skip || found, age(blocks && found.live ? 6 * found.target : kept(found)), HLS, found.modified);
  }
  /** What came after an event, or the whole state where it is not remembered. All wait for the same number. */
  async news(kind, since) {
    const ring = () => this.rings[kind], ready = () => ring().serial > since, isLost = () => since < (ring().items[0]?.[0] ?? ring().serial + 1) - 1;
    if (since > ring().serial) return answer(404, "There is no such number yet.\n", age(1));
    if (!ready() && (await this.hold(ready, HOLD)) === null) return busy("Too many are waiting.\n", age(1));
    if (!ready()) await this.beat(kind); // an empty answer in a cache would be asked for again and again
    const { serial, items } = ring(), { state, sampling, skew } = this.head, now = Date.now() + skew, cache = age(isLost() ? 1 : 60);
    const found = items.filter(([number]) => number > since).map(([, item]) => item);
    if (kind === "segments") return json({ serial, now, segments: found.flat() }, cache);
    return json({ serial, ...sampling, now, ...(isLost() ? { state: { ...state, now }, events: [] } : { events: found }) }, cache);
  }
  /** Nothing came: pages are told the time, or that the service is silent. */
  async beat(kind) {
    const { head, rings } = this, now = Date.now() + head.skew, on = ["starting", "live"].includes(head.state.state);
    const silenced = kind === "events" && on && Date.now() - head.at > SILENT, trouble = "delivery";
    const event = silenced && !head.silenced ? ["trouble", { now, trouble }] : ["time", { now }];
    await this.store(silenced ? { ...head, silenced, state: { ...head.state, trouble } } : head, { ...rings, [kind]: grown(rings[kind], [kind === "segments" ? [] : event]) });
  }
  send({ text, tag }, cache, type, modified) { return answer(200, text, cache, type, { etag: tag, ...(modified && { "last-modified": new Date(modified).toUTCString() }) }); }
}
