/** The stream as the service pushed it last: texts by name, events, and the requests held for what comes next. */
import { DurableObject } from "cloudflare:workers";
import { HLS, JSON_TYPE, NO_STORE, age, answer, busy, json, parsed, textOf, tried } from "./http.mjs";
const VERSION = 2; // of the protocol; the version before it is understood as well
const MOST_VIEW = 16 * 2 ** 20, MOST_TEXTS = 2000, MOST_WAITING = 1500, RING = 60; // bytes; texts; requests; events that are remembered
const CHUNK = 500_000, HOLD = 20_000, LONGEST_HOLD = 90_000, SILENT = 30_000; // characters of a stored row, which may have 2 MiB; ms
const EMPTY = { epoch: 0, serial: 0, at: 0, skew: 0, floors: {}, state: {}, sampling: {}, silenced: false }, DELTA = "+delta"; // of the name of a playlist: its delta update
const rowsOf = (text) => Array.from({ length: Math.ceil(text.length / CHUNK) }, (_, i) => text.slice(i * CHUNK, (i + 1) * CHUNK));
/** An item more each, with a number of its own. */
const grown = ({ serial, items }, more) => ({ serial: serial + more.length, items: [...items, ...more.map((item, i) => [serial + i + 1, item])].slice(-RING) });
/** Seconds for which a cache may keep a playlist: until the next version is due. */
const kept = ({ keep, live, target, seconds, at }, due = (at + 1000 * seconds - Date.now()) / 1000, half = Math.max(1, Math.floor(target / 2))) =>
  keep || !live ? keep || half : due > 0 ? Math.min(Math.ceil(due), target) : Math.min(Math.max(1, Math.floor(-due)), half);
export class Stage extends DurableObject {
  texts = new Map(); // by name: {text, tag, at}, and what the service says of it: last, live, target, seconds, keep, modified
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
    const url = new URL(request.url), { method } = request, name = tried(() => decodeURIComponent(url.pathname.slice(1))) ?? "?";
    if (method === "PUT") return this.push(await textOf(await request.blob(), request.headers, MOST_VIEW));
    if (method === "DELETE") await this.ctx.storage.deleteAll().then(() => this.load());
    if (method === "DELETE" || name === "") return json(this.about(), NO_STORE);
    const [, kind, after] = name.match(/^live\/(events|segments)\/(now|\d{1,16})$/) ?? [];
    if (kind) return this.news(kind, after);
    if (name.endsWith(".m3u8")) return this.playlist(name, url.searchParams);
    return this.texts.has(name) ? this.send(this.texts.get(name), NO_STORE, JSON_TYPE) : answer(404, "There is no such text.\n", NO_STORE);
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
    let next; try { next = this.applied(texts, whole, `${epoch.toString(36)}-${serial.toString(36)}`, floors); }
    catch (error) { return error instanceof RangeError ? this.refuse(422, error.message) : this.refuse(400, "body"); }
    if (next.size > MOST_TEXTS) return this.refuse(413, "texts");
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
  /** The texts that follow from these; RangeError where a number falls, not even by a way round. */
  applied(texts, whole, tag, floors) {
    const next = new Map(whole ? [] : this.texts), at = Date.now();
    for (const [name, told] of Object.entries(texts)) {
      next.delete(name);
      if (told === null) continue;
      const { ops, ...about } = told, before = this.texts.get(name);
      if (about.last < floors[name]) throw new RangeError(name);
      if (about.last !== undefined) floors[name] = about.last;
      const text = ops.map((op) => (typeof op === "string" ? op : before.text.slice(...op))).join(""), same = before?.text === text;
      next.set(name, { ...about, text, tag: same ? before.tag : `"${tag}${name.endsWith(DELTA) ? "d" : ""}"`, at: same ? before.at : at });
    }
    return next;
  }
  /** In one transaction, and then told to all who wait. */
  async store(head, rings, texts = this.texts) {
    const changed = (these, those) => [...these].filter(([name, { text }]) => those.get(name)?.text !== text);
    const about = Object.fromEntries([...texts].map(([name, { text, ...rest }]) => [name, { ...rest, parts: rowsOf(text).length }]));
    await this.ctx.storage.transaction(async (rows) => {
      for (const [name, { text }] of changed(this.texts, texts)) rowsOf(text).forEach((_, i) => rows.delete(`${name} ${i}`));
      for (const [name, { text }] of changed(texts, this.texts)) rowsOf(text).forEach((part, i) => rows.put(`${name} ${i}`, part));
      await rows.put({ head, rings, about });
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
    const current = () => this.texts.get(name), msn = query.get("_HLS_msn"), part = query.get("_HLS_part"); let found = current();
    if (!found) return answer(404, "There is no such stream at the moment.\n", this.head.state.state === "live" ? age(this.head.state.targetDuration) : NO_STORE);
    const live = found.live && found.last !== undefined, wrong = [msn, part].some((one) => one !== null && !/^\d{1,16}$/.test(one));
    if (live && (wrong || (part !== null && msn === null))) return answer(400, "_HLS_msn and _HLS_part are numbers, and go together.\n", age(4 * found.target));
    if (live && +msn > found.last + 2) return answer(400, "_HLS_msn is more than two segments ahead.\n", NO_STORE);
    if (live && msn !== null) {
      const ready = () => !current()?.live || current().last >= +msn;
      const came = ready() || (await this.hold(ready, Math.min(3000 * found.target, LONGEST_HOLD)));
      if (!came) return busy(...(came === null ? ["Too many are waiting.\n"] : ["No new segment has come in time.\n", age(1)]));
      if (!(found = current())) return answer(404, "The stream is gone.\n", NO_STORE);
    }
    const skip = found.live && ["YES", "v2"].includes(query.get("_HLS_skip")) && this.texts.get(name + DELTA);
    return this.send(skip || found, age(live && msn !== null && found.live ? 6 * found.target : kept(found)), HLS, found.modified);
  }
  /** What came after an event, or the whole state for a page that has none that is remembered. All wait for the same number. */
  async news(kind, after) {
    const ring = () => this.rings[kind], since = +after, lost = () => since < (ring().items[0]?.[0] ?? ring().serial + 1) - 1;
    if (since > ring().serial) return answer(404, "There is no such number yet.\n", age(1));
    if (after === "now" || lost()) return this.told(kind, 1, -1);
    const ready = () => ring().serial > since, came = ready() || (await this.hold(ready, HOLD));
    if (came === null) return busy("Too many are waiting.\n", age(1));
    if (!ready()) await this.beat(kind); // an empty answer in a cache would be asked for again and again
    return lost() ? this.told(kind, 1, -1) : this.told(kind, 60, since);
  }
  told(kind, seconds, since) {
    const now = Date.now() + this.head.skew, { serial, items } = this.rings[kind], { state, sampling } = this.head, found = items.filter(([number]) => number > since).map(([, item]) => item);
    return kind === "segments" ? json({ serial, now, segments: found.flat() }, age(seconds)) : json({ serial, ...sampling, now, ...(since < 0 && { state: { ...state, now } }), events: since < 0 ? [] : found }, age(seconds));
  }
  /** Nothing came: pages are told the time, or that the service is silent. */
  async beat(kind) {
    const now = Date.now() + this.head.skew, { head, rings } = this, on = ["starting", "live"].includes(head.state.state), silenced = kind === "events" && on && Date.now() - head.at > SILENT, trouble = "delivery";
    const item = kind === "segments" ? [] : silenced && !head.silenced ? ["trouble", { now, trouble }] : ["time", { now }];
    await this.store(silenced ? { ...head, silenced, state: { ...head.state, trouble } } : head, { ...rings, [kind]: grown(rings[kind], [item]) });
  }
  send({ text, tag }, cache, type, modified) { return answer(200, text, cache, type, { etag: tag, ...(modified && { "last-modified": new Date(modified).toUTCString() }) }); }
}
