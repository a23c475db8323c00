/** What viewers tell: their reports, which the service takes with each push, and each other, over the tracker. */
import { DurableObject } from "cloudflare:workers";
import { NO_STORE, admits, answer, parsed } from "./http.mjs";
const MOST_REPORTS = 1000, MOST_TRIES = 500, TRIED_WITHIN = 8000, TRIES = { rate: 2, burst: 100 }, OF_ALL = { rate: 100, burst: 1000 }, OF_AN_ADDRESS = { rate: 25, burst: 500 }, MOST_ADDRESSES = 10_000; // as the service's; ms
const MOST_SOCKETS = 5000, SOCKETS_OF_AN_ADDRESS = 500, MOST_SWARMS = 10, MOST_OFFERS = 10, MOST_MESSAGE = 65_536, MOST_SDP = 16_384, INTERVAL = 20; // the last: seconds between two announces
/** Token buckets by name: `burst` at once, `rate` a second for long. */
class Rates {
  levels = new Map();
  take(name, { rate, burst }, now = Date.now() / 1000) {
    const [level, at] = this.levels.get(name) ?? [burst, now], left = Math.min(burst, level + (now - at) * rate);
    if (this.levels.size >= MOST_ADDRESSES) this.levels.clear();
    return this.levels.set(name, [left < 1 ? left : left - 1, now]) && left >= 1;
  }
}
/** Keeps reports, openings of links and passphrases until the service takes them, and requests with a passphrase until it has answered. */
export class Tally extends DurableObject {
  reports = []; opened = {}; tries = new Map(); rates = new Rates(); // by grant; by id: {id, address, text, isTold, end}
  report(address, text, grant) { return (!address || this.rates.take(address, OF_AN_ADDRESS)) && this.rates.take("", OF_ALL) && (this.reports.push([address, text, grant]) <= MOST_REPORTS || Boolean(this.reports.shift())); }
  open(grant) { this.opened[grant] = (this.opened[grant] ?? 0) + 1; }
  untold() { return [...this.tries.values()].filter(({ isTold }) => !isTold); }
  take(all = this.reports.splice(0), opened = this.opened, tries = this.untold()) {
    this.opened = {}, tries.forEach((one) => (one.isTold = true));
    return { reports: all.map(([address, text]) => [address, text]), grants: all.map(([, , grant]) => grant), opened, tries: tries.map(({ id, address, text }) => [id, address, text]) };
  }
  /** What the service says of a passphrase: a token, or that it was not looked at; or that there is no room now. */
  attempt(address, text, isAgain, busy = { busy: true }, full = { busy: true, full: true }, { promise, resolve } = Promise.withResolvers()) {
    const id = crypto.randomUUID(), end = (found) => resolve(found) || this.tries.delete(id);
    const refusal = !isAgain && !this.rates.take(`try ${address}`, TRIES) ? busy : this.tries.size >= MOST_TRIES && !this.crowding()?.end(full) ? full : null;
    return refusal ?? (this.tries.set(id, { id, address, text, end }), setTimeout(end, TRIED_WITHIN, busy), promise);
  }
  /** The oldest try that waits, of the address with the most: where there is no room, it makes room for another. */
  crowding() { return [...Map.groupBy(this.untold(), ({ address }) => address).values()].reduce((most, one) => (one.length > most.length ? one : most), [])[0]; }
  answer(answers) { for (const [id, token, busy] of answers) this.tries.get(id)?.end({ token, busy }); }
}
/** WebTorrent's tracker, on sockets that sleep; it serves the swarms of this stream alone. */
export class Swarm extends DurableObject {
  swarms = new Map(); rates = new Rates(); // by info hash: sockets by peer id
  constructor(ctx, env) { super(ctx, env); ctx.blockConcurrencyWhile(() => this.load()); }
  async load() {
    this.admitted = new Set(await this.ctx.storage.get("admitted"));
    for (const socket of this.ctx.getWebSockets())
      for (const [hash, id] of Object.entries(socket.deserializeAttachment().peers)) this.swarm(hash).set(id, socket);
  }
  swarm(hash) { return this.swarms.get(hash) ?? this.swarms.set(hash, new Map()).get(hash); }
  counts() { return { peers: [...this.swarms.values()].reduce((sum, one) => sum + one.size, 0), torrents: this.swarms.size }; }
  async admit(hashes) {
    this.admitted = new Set(hashes);
    for (const hash of [...this.swarms.keys()]) if (!this.admitted.has(hash)) this.swarms.delete(hash);
    await this.ctx.storage.put("admitted", hashes);
  }
  /** Guests whose access is over hear no more of the others. */
  cut(gate) { for (const socket of this.ctx.getWebSockets()) if (!admits(gate, socket.deserializeAttachment().guest ?? {})) this.drop(socket, 1008); }
  fetch(request) {
    const address = request.headers.get("cf-connecting-ip") ?? "", { ctx } = this;
    if (ctx.getWebSockets().length >= MOST_SOCKETS || (address && ctx.getWebSockets(address).length >= SOCKETS_OF_AN_ADDRESS)) return answer(503, "Not now: the tracker is full.\n", NO_STORE, undefined, { "retry-after": "30" });
    const [client, server] = Object.values(new WebSocketPair());
    ctx.acceptWebSocket(server, address ? [address] : []);
    server.serializeAttachment({ id: crypto.randomUUID(), peers: {}, guest: parsed(request.headers.get("x-guest")?.slice(0, 99) ?? "{}") });
    return new Response(null, { status: 101, webSocket: client });
  }
  webSocketMessage(socket, text) {
    const known = socket.deserializeAttachment(), told = checked(text);
    if (!told || Date.now() / 1000 > (known.guest?.expires ?? Infinity) || !this.rates.take(known.id, { rate: 2, burst: 40 })) return this.drop(socket, 1008);
    const { info_hash: hash, peer_id: peer, offers = [], stopped } = told, before = known.peers[hash];
    const say = (to, more) => to?.send(JSON.stringify({ action: "announce", info_hash: hash, ...more }));
    if (!this.admitted.has(hash)) return say(socket, { "failure reason": "this tracker does not serve that swarm" });
    const swarm = this.swarm(hash), given = { offer_id: told.offer_id, peer_id: peer };
    if (told.answer) return before === peer && say(swarm.get(told.to_peer_id), { answer: told.answer, ...given });
    if ((swarm.get(peer) ?? socket) !== socket) return say(socket, { "failure reason": "this peer id belongs to another connection" });
    swarm.delete(before), delete known.peers[hash];
    if (!stopped && Object.keys(known.peers).length < MOST_SWARMS) swarm.set((known.peers[hash] = peer), socket);
    socket.serializeAttachment(known);
    say(socket, { interval: INTERVAL, complete: 0, incomplete: swarm.size });
    const rest = [...swarm.values()].filter((one) => one !== socket), at = Math.floor(Math.random() * rest.length);
    offers.slice(0, rest.length).forEach((offer, i) => say(rest[(at + i) % rest.length], { ...offer, peer_id: peer }));
  }
  webSocketClose(socket) { this.drop(socket, 1000); } webSocketError(socket) { this.drop(socket, 1011); }
  drop(socket, code) {
    for (const [hash, peer] of Object.entries(socket.deserializeAttachment().peers))
      if (this.swarms.get(hash)?.get(peer) === socket && this.swarm(hash).delete(peer) && this.swarm(hash).size === 0) this.swarms.delete(hash);
    socket.serializeAttachment({ id: "", peers: {} });
    try { socket.close(code); } catch { /* it is closed */ }
  }
}
const isId = (id) => typeof id === "string" && /^[\x00-\xff]{20}$/s.test(id), described = (found, type) => (found?.type === type && typeof found.sdp === "string" && found.sdp.length <= MOST_SDP ? { type, sdp: found.sdp } : null);
/** An announce or an answer, made anew of what was checked; null for what is neither. */
function checked(text) {
  const told = typeof text === "string" && text.length <= MOST_MESSAGE ? parsed(text) : null, { info_hash, peer_id, to_peer_id, offer_id } = told ?? {};
  if (told?.action !== "announce" || !isId(info_hash) || !isId(peer_id)) return null;
  const answer = described(told.answer, "answer"), stopped = told.event === "stopped";
  if (told.answer) return answer && isId(to_peer_id) && isId(offer_id) ? { info_hash, peer_id, to_peer_id, offer_id, answer } : null;
  const offers = (Array.isArray(told.offers) && !stopped ? told.offers : []).slice(0, MOST_OFFERS).map((one) => ({ offer_id: one?.offer_id, offer: described(one?.offer, "offer") }));
  return offers.every((one) => isId(one.offer_id) && one.offer) ? { info_hash, peer_id, stopped, offers } : null;
}
