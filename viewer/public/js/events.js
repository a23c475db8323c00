// Server-sent events: what the server tells as it happens. Comes back by itself, whatever happens.
import { backoff } from "./backoff.js";

const NAMES = ["state", "segment", "starting", "started", "ended", "trouble", "viewers", "reports", "time"];
const SILENCE = 35000; // ms; the server's heart beats every 10 s
const CLOSED = 2; // EventSource.readyState: the browser has given up
const pace = { first: 2000, factor: 2, most: 60000 };

/**
 * Listens for ever. `hear(name, data)` is told each event, and "lost" when there is no connection.
 * The browser reconnects after a lost connection; after an HTTP error, and after a silence, we do.
 */
export function listen({ url, hear, open = (address) => new EventSource(address), random }) {
  let source = null;
  let timer = 0;
  let failures = 0;

  function connect() {
    source = open(url);
    for (const name of NAMES) source.addEventListener(name, (event) => receive(name, event.data));
    source.addEventListener("error", failed);
    expect();
  }

  function receive(name, text) {
    expect();
    const data = parse(text, url);
    if (data === null) return;
    failures = 0;
    hear(name, data);
  }

  function failed() {
    hear("lost", null);
    if (source.readyState === CLOSED) again();
  }

  function again() {
    source.close();
    clearTimeout(timer);
    timer = setTimeout(connect, backoff(failures, pace, random));
    failures += 1;
  }

  /** A phone that changes its network can leave a connection that is dead and does not know it. */
  function expect() {
    clearTimeout(timer);
    timer = setTimeout(() => {
      hear("lost", null);
      again();
    }, SILENCE);
  }

  connect();
}

/**
 * The object in a text, null where there is none. A relay tells paths of its own, and players know whole addresses;
 * those that are whole stay as they are.
 */
export function parse(text, base) {
  const whole = (name, value) => (name === "url" && value?.startsWith?.("/") ? new URL(value, base).href : value);
  try {
    const data = JSON.parse(text, whole);
    return data !== null && typeof data === "object" ? data : null;
  } catch {
    return null;
  }
}
