// A file of the operator's, such as what OBS has recorded, goes into the bucket as a recording's own, to be downloaded.
import { md5 } from "../vendor/md5.mjs";
import { putPart } from "./put-part.js";
import { when } from "./records.js";
import { make } from "./row.js";
import { isTheSame, sendFile } from "./multipart-upload.js";
import { bytes, percent } from "./format.js";

const CHOSEN = "uploadRecording"; // in this tab, over a reload
const AGAIN = 5000; // ms between two attempts to complete
const WITHIN = 180_000; // ms; the service may have to wait for the bucket
const CORS = `If it lasts, let the bucket take files from this page: broadcaster check --fix --uploads ${location.origin}`;

/** Returns a function that shows the recordings, and what is on its way. */
export function createUploads({ find, api }) {
  const [recording, file, bar, text, cancel] = ["recording", "file", "bar", "text", "cancel"].map((id) => find(`upload-${id}`));
  let sending = null; // an AbortController

  const ask = (method, path, body) => api.ask(method, path, body, WITHIN);
  const say = (...words) => Object.assign(text, { ariaLive: "polite", textContent: words.join(" ") });
  const path = (rest = "") => `recordings/${recording.value}/file${rest}`;

  /** What is there, and on its way, for the recording that is chosen; says it. */
  async function look() {
    const found = await ask("GET", path());
    const there = found.upload === null ? 0 : Object.keys(found.upload.parts).length;
    if (found.upload !== null) say(`An upload of ${bytes(found.upload.size)} is on its way, ${there} parts of it are there: choose the same file to go on.`);
    else say(found.file === null ? "" : `It has a file of ${bytes(found.file.size)}.`);
    cancel.hidden = found.upload === null;
  }

  async function show() {
    const { recordings } = await ask("GET", "recordings");
    const ended = recordings.filter((recording) => recording.ended !== null);
    recording.replaceChildren(...ended.map(({ id, title, started }) => make("option", { value: id }, `${title || "Without a title"}, ${when(started)}`)));
    find("upload-form").hidden = ended.length === 0;
    const chosen = sessionStorage.getItem(CHOSEN);
    if (ended.some(({ id }) => id === chosen)) recording.value = chosen;
    if (ended.length > 0) await look();
    else say("A file is uploaded for a recording whose stream is over. There is none yet.");
  }

  async function complete(whole, signal) {
    for (;;) {
      signal.throwIfAborted();
      try {
        return await ask("POST", path("/upload/complete"), whole);
      } catch (error) {
        if (!error.again) throw error;
        say(`It is all there. ${error.message}`);
        await new Promise((resolve) => setTimeout(resolve, AGAIN));
      }
    }
  }

  async function send(chosen, signal) {
    say("Looking at what is there…");
    const found = await ask("GET", path());
    if (await isTheSame(chosen, found.file, md5)) return "This is the file that it has.";
    const upload = await ask("POST", path("/upload"), { name: chosen.name, size: chosen.size });
    cancel.hidden = bar.hidden = false;
    const key = upload.key;
    const address = async (number) => (await ask("POST", path("/upload/part"), { key, number })).url;
    const progress = (there) => {
      bar.value = there / chosen.size;
      say(`${percent(bar.value)} of ${bytes(chosen.size)}. A reload of this page costs little: choose the same file again.`);
      text.ariaLive = "off"; // nobody wants each step read out
    };
    const etag = await sendFile({ file: chosen, upload, address, put: putPart, md5, progress, signal });
    await complete({ key, etag }, signal);
    return "It is there: the recording's page offers it.";
  }

  /** Does it, and says why not. */
  async function attempt(work) {
    try {
      await work();
    } catch (error) {
      if (error.name === "AbortError") return;
      const unread = error.name === "NotReadableError" || error.name === "NotFoundError";
      if (unread) say("The file cannot be read any more: choose it again.");
      else say(`It does not work: ${error.message}`, /^the bucket/.test(error.message) ? CORS : "");
    }
  }

  recording.addEventListener("change", () => attempt(look));
  find("upload-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    if (sending !== null) return;
    sessionStorage.setItem(CHOSEN, recording.value);
    sending = new AbortController();
    const fields = [recording, file, find("upload-start")];
    for (const field of fields) field.disabled = true;
    await attempt(async () => {
      const done = await send(file.files[0], sending.signal);
      cancel.hidden = true;
      say(done);
    });
    for (const field of fields) field.disabled = false;
    bar.hidden = true;
    sending = null;
  });
  cancel.addEventListener("click", () => {
    sending?.abort(new DOMException("cancelled", "AbortError"));
    attempt(async () => {
      await ask("DELETE", path("/upload"));
      cancel.hidden = bar.hidden = true;
      say("It was cancelled: nothing of it stays in the bucket.");
    });
  });
  return async () => (sending === null ? attempt(show) : null);
}
