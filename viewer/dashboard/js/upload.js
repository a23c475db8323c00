// A file of the operator's, such as what OBS has recorded, goes into the bucket as a recording's own, to be downloaded.
import { md5 } from "../vendor/md5.mjs";
import { putPart } from "./put-part.js";
import { isTheSame, sendFile } from "./sending.js";
import { Complaint, createApi } from "./token.js";
import { bytes, percent } from "./words.js";

const CHOSEN = "uploadRecording"; // in this tab, over a reload
const AGAIN = 5000; // ms between two attempts to complete
const CORS = `If it lasts, let the bucket take files from this page: broadcaster check --fix --uploads ${location.origin}`;

const api = createApi();
let sending = null; // an AbortController

function make(tag, given = {}, ...children) {
  const element = Object.assign(document.createElement(tag), given);
  element.append(...children);
  return element;
}

const token = make("input", { type: "password", autocomplete: "off", required: true, ariaLabel: "The operator's token" });
const tokenForm = make("form", { id: "upload-token" }, make("label", {}, "Operator's token (the file operator-token in the state folder) ", token), " ", make("button", {}, "Use it"));
const recording = make("select", { id: "upload-recording" });
const file = make("input", { id: "upload-file", type: "file", accept: "video/*,audio/*,.mkv,.ts", required: true });
const start = make("button", {}, "Upload");
const cancel = make("button", { id: "upload-cancel", type: "button", hidden: true }, "Cancel");
const form = make("form", { id: "upload-form" }, make("label", {}, "Recording ", recording), " ", make("label", {}, "File ", file), " ", start, " ", cancel);
const bar = make("progress", { id: "upload-bar", max: 1, value: 0, hidden: true, ariaLabel: "Uploaded" });
const text = make("p", { id: "upload-text", role: "status" });
const title = make("h2", { id: "upload-title" }, "A better copy ", make("small", {}, "a file of yours, in the place of a recording's download"));
const section = make("section", { id: "upload", hidden: true }, title, tokenForm, form, bar, text);
section.setAttribute("aria-labelledby", title.id);

const say = (...words) => Object.assign(text, { ariaLive: "polite", textContent: words.join(" ") });
// Another part of this page may ask for the token.
const isAsked = () => api.knows() || document.getElementById("token-form")?.checkVisibility() === true;
const path = (rest = "") => `recordings/${recording.value}/file${rest}`;

/** What is there, and on its way, for the recording that is chosen; says it. */
async function look() {
  const found = await api.ask("GET", path());
  const there = found.upload === null ? 0 : Object.keys(found.upload.parts).length;
  if (found.upload !== null) say(`An upload of ${bytes(found.upload.size)} is on its way, ${there} parts of it are there: choose the same file to go on.`);
  else say(found.file === null ? "" : `It has a file of ${bytes(found.file.size)}.`);
  cancel.hidden = found.upload === null;
  return found;
}

async function show() {
  tokenForm.hidden = isAsked();
  form.hidden = !api.knows();
  if (!api.knows()) return;
  const { recordings } = await api.ask("GET", "recordings");
  const ended = recordings.filter((one) => one.ended !== null);
  recording.replaceChildren(...ended.map((one) => make("option", { value: one.id }, one.title ? `${one.title} (${one.id})` : one.id)));
  const chosen = sessionStorage.getItem(CHOSEN);
  if (ended.some(({ id }) => id === chosen)) recording.value = chosen;
  start.disabled = ended.length === 0;
  if (ended.length > 0) await look();
}

async function complete(whole, signal) {
  for (;;) {
    signal.throwIfAborted();
    try {
      return await api.ask("POST", path("/upload/complete"), whole);
    } catch (error) {
      if (error instanceof Complaint) throw error;
      say(`It is all there; ${error.message}.`);
      await new Promise((resolve) => setTimeout(resolve, AGAIN));
    }
  }
}

async function send(chosen, signal) {
  say("Looking at what is there…");
  const found = await api.ask("GET", path());
  if (await isTheSame(chosen, found.file, md5)) return "This is the file that it has.";
  const upload = await api.ask("POST", path("/upload"), { name: chosen.name, size: chosen.size });
  cancel.hidden = bar.hidden = false;
  const key = upload.key;
  const address = async (number) => (await api.ask("POST", path("/upload/part"), { key, number })).url;
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
async function tell(work) {
  try {
    await work();
  } catch (error) {
    if (error.name === "AbortError") return;
    const unread = error.name === "NotReadableError" || error.name === "NotFoundError";
    if (unread) say("The file cannot be read any more: choose it again.");
    else say(`It does not work: ${error.message}.`, /^the bucket/.test(error.message) ? CORS : "");
    if (!api.knows()) await show();
  }
}

tokenForm.addEventListener("submit", (event) => {
  event.preventDefault();
  api.remember(token.value);
  token.value = "";
  tell(show);
});
recording.addEventListener("change", () => tell(look));
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (sending !== null) return;
  sessionStorage.setItem(CHOSEN, recording.value);
  sending = new AbortController();
  recording.disabled = file.disabled = start.disabled = true;
  await tell(async () => {
    const done = await send(file.files[0], sending.signal);
    cancel.hidden = true;
    say(done);
  });
  recording.disabled = file.disabled = start.disabled = false;
  bar.hidden = true;
  sending = null;
});
cancel.addEventListener("click", () => {
  sending?.abort(new DOMException("cancelled", "AbortError"));
  tell(async () => {
    await api.ask("DELETE", path("/upload"));
    cancel.hidden = bar.hidden = true;
    say("It was cancelled: nothing of it stays in the bucket.");
  });
});

setInterval(() => {
  tokenForm.hidden = isAsked();
  if (!section.hidden && form.hidden === api.knows()) tell(show);
}, 2000);

// Where anybody may see the dashboard, there is nobody to take files.
fetch("../api/recordings", { cache: "no-store" }).then(({ status }) => {
  if (status !== 401) return;
  document.querySelector("main").append(section);
  section.hidden = false;
  tell(show);
}, () => {});
