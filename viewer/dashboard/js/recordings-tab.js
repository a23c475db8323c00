// Recordings and clips: their lists, and what the operator does with them.
import { createBin } from "./bin.js";
import { changeText, clipBetween, isLocal, localTime, nameOf, reversal } from "./records.js";
import { createList } from "./row.js";

const AGAIN = 30_000; // ms
const SOON = [1500, 6000]; // ms after a change: the service writes it into the bucket first
const PAGE = 20; // that are shown at first, and more each time
const TABS = new Set(["recordings", "clips"]);

/** `find` gives an element by its id. Returns {refresh(), note(answer of data.json)}. */
export function createRecordingsTab({ find, api, confirm, say, currentTab }) {
  const most = { recordings: PAGE, clips: PAGE };
  const known = { recordings: [], clips: [], bin: {} };
  let newest = null; // ms since the epoch, by the clock that viewers are told
  let made = null; // the latest clip
  let away = false; // it was said that the service does not answer

  const asksFor = (kind) => ({
    change: (entry, patch) => change(kind, entry, patch),
    remove: (entry) => remove(kind, entry),
    copy: (entry) => copy(entry.address),
    complain: (text) => say(text, { bad: true }),
  });
  const drawBin = createBin({ find, ask: api.ask, act, confirm });
  const lists = {
    recordings: createList(find("recording-list"), asksFor("recordings")),
    clips: createList(find("clip-list"), asksFor("clips")),
  };

  function draw() {
    for (const kind of Object.keys(lists)) {
      lists[kind](known[kind].slice(0, most[kind]));
      find(`more-${kind}`).hidden = known[kind].length <= most[kind];
      find(`no-${kind}`).hidden = known[kind].length > 0;
    }
    drawBin(known.bin);
    find("address-note").hidden = ![...known.recordings, ...known.clips].some(({ address }) => address !== null && isLocal(address));
  }

  async function refresh() {
    if (!api.knows() || document.hidden || !TABS.has(currentTab())) return;
    try {
      const [{ recordings }, { clips }, bin] = await Promise.all(["recordings", "clips", "bin"].map((path) => api.ask("GET", path)));
      Object.assign(known, { recordings, clips, bin });
      if (away) say("");
      away = false;
    } catch (error) {
      say(error.message, { bad: true });
      away = true;
    }
    draw();
  }

  /** Does it and says what has come of it, or `done` when all went well, which `undo` takes back; the answer, or null. */
  async function act(done, ask, undo = null) {
    let answer = null;
    try {
      answer = await ask();
      say(done, { undo: undo && (() => act("Undone.", undo)) });
      for (const pause of SOON) setTimeout(refresh, pause);
    } catch (error) {
      say(error.message, { bad: true });
    }
    await refresh();
    return answer;
  }

  const change = (kind, entry, patch) => {
    const path = `${kind}/${entry.id}`;
    const back = reversal(entry, patch, Date.now());
    act(changeText(entry, patch), () => api.ask("PATCH", path, patch), () => api.ask("PATCH", path, back));
  };

  async function remove(kind, entry) {
    const path = `${kind}/${entry.id}`;
    await act(`${nameOf(entry)} is in the bin, for a day: its link leads nowhere.`, () => api.ask("DELETE", path), () => api.ask("POST", `bin/${entry.id}/restore`));
    if (!find("undo").hidden) find("undo").focus(); // the row that had it is gone
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
    if (wanted === null) say("A clip begins before it ends.", { bad: true });
    else clip(wanted);
  });
  find("copy-made").addEventListener("click", () => copy(made.address));
  for (const kind of Object.keys(lists)) {
    find(`more-${kind}`).addEventListener("click", () => {
      most[kind] += PAGE;
      draw();
    });
  }
  setInterval(refresh, AGAIN);

  function note({ health, newest: until }) {
    newest = until;
    for (const button of find("clip-form").querySelectorAll("[data-last]")) button.disabled = health.stream !== "live";
  }
  return Object.freeze({ refresh, note });
}
