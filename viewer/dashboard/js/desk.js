// Recordings and clips: their lists, and what the operator does with them.
import { createBin } from "./bin.js";
import { clipBetween, isLocal, localTime, nameOf } from "./records.js";
import { createList } from "./row.js";

const AGAIN = 30_000; // ms
const SOON = [1500, 6000]; // ms after a change: the service writes it into the bucket first
const PAGE = 20; // that are shown at first, and more each time

/** `find` gives an element by its id. Returns a function to be told each answer of data.json. */
export function createDesk({ find, api, confirm }) {
  const shown = { recordings: PAGE, clips: PAGE };
  const known = { recordings: [], clips: [], bin: {} };
  let newest = null; // ms since the epoch, by the clock that viewers are told
  let made = null; // the latest clip
  let offered = false;
  let away = false; // it was said that the service does not answer

  const asksFor = (kind) => ({
    change: (one, patch) => act("Saved.", () => api.ask("PATCH", `${kind}/${one.id}`, patch)),
    remove: (one) => remove(kind, one),
    copy: (one) => copy(one.address),
    complain: (text) => say(text, true),
  });
  const drawBin = createBin({ find, ask: api.ask, act, confirm });
  const lists = {
    recordings: createList(find("recording-list"), asksFor("recordings")),
    clips: createList(find("clip-list"), asksFor("clips")),
  };

  const say = (text, bad = false) => {
    find("desk-said").textContent = text;
    find("desk-said").classList.toggle("bad", bad);
  };

  function show() {
    const knows = api.knows();
    find("token-form").hidden = knows;
    find("desk").hidden = !knows;
    for (const kind of Object.keys(lists)) {
      lists[kind](knows ? known[kind].slice(0, shown[kind]) : []);
      find(`more-${kind}`).hidden = known[kind].length <= shown[kind];
      find(`no-${kind}`).hidden = known[kind].length > 0;
    }
    drawBin(knows ? known.bin : {});
  }

  async function refresh() {
    if (!offered || !api.knows() || document.hidden) return;
    try {
      const [{ recordings }, { clips }, bin] = await Promise.all(["recordings", "clips", "bin"].map((path) => api.ask("GET", path)));
      Object.assign(known, { recordings, clips, bin });
      if (away) say("");
      away = false;
    } catch (error) {
      say(error.message, true);
      away = true;
    }
    show(); // the token may have been wrong
  }

  /** Does it and says what has come of it, or `done` when all went well; the answer, or null. */
  async function act(done, ask) {
    let answer = null;
    try {
      answer = await ask();
      say(done);
      for (const pause of SOON) setTimeout(refresh, pause);
    } catch (error) {
      say(error.message, true);
    }
    await refresh();
    return answer;
  }

  async function copy(url) {
    try {
      await navigator.clipboard.writeText(url);
      say("Link copied.");
    } catch {
      say(`Copy it by hand: ${url}`);
    }
  }

  async function clip(wanted) {
    const answer = await act("The clip is made.", () => api.ask("POST", "clips", wanted));
    if (answer === null) return;
    made = answer;
    find("clip-title").value = "";
    find("made").hidden = made.address === null;
    find("copy-made").hidden = made.address === null || isLocal(made.address);
    if (made.address !== null) find("made-link").textContent = find("made-link").href = made.address;
  }

  function remove(kind, one) {
    const rest = { clips: "", recordings: " Clips of it stay." };
    const text = `${nameOf(one)} is deleted: its link leads nowhere then.${rest[kind]} For a day it can be had back from the bin.`;
    confirm(text, () => act("It is being deleted.", () => api.ask("DELETE", `${kind}/${one.id}`)));
  }

  find("token-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    api.remember(find("token").value);
    find("token").value = "";
    await act("", () => null);
    if (api.knows()) find("desk-title").focus();
  });
  find("forget-token").addEventListener("click", () => {
    api.forget();
    Object.assign(known, { recordings: [], clips: [], bin: {} });
    say("This tab does not know the token any more.");
    show();
    find("token").focus();
  });
  for (const button of find("clip-form").querySelectorAll("[data-last]")) {
    button.addEventListener("click", () => clip({ last: Number(button.dataset.last), title: find("clip-title").value }));
  }
  find("clip-exact").addEventListener("toggle", () => {
    const end = newest ?? Date.now();
    if (find("clip-exact").open) [find("clip-from").value, find("clip-to").value] = [end - 60_000, end].map(localTime);
  });
  find("clip-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const wanted = clipBetween(find("clip-from").value, find("clip-to").value, find("clip-title").value);
    if (wanted === null) say("A clip begins before it ends.", true);
    else clip(wanted);
  });
  find("copy-made").addEventListener("click", () => copy(made.address));
  for (const kind of Object.keys(lists)) {
    find(`more-${kind}`).addEventListener("click", () => {
      shown[kind] += PAGE;
      show();
    });
  }
  setInterval(refresh, AGAIN);

  /** Only where the service has told where the token is can anything be asked of it. */
  return function note({ tokenFile, health, newest: until }) {
    newest = until;
    for (const button of find("clip-form").querySelectorAll("[data-last]")) button.disabled = health.stream !== "live";
    if (offered || tokenFile === undefined) return;
    offered = true;
    find("token-file").textContent = tokenFile;
    find("recordings").hidden = false;
    show();
    refresh();
  };
}
