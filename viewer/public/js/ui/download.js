// The way to a recording as a file: a link where there is one, else the page makes it, in the format of a menu.
import { formatList, formatPercent } from "../intl.js";
import { formatBytes } from "../stats.js";
import { createMenu } from "./menu.js";

/** "1080p · ≈ 1.4 GB": what a file of a quality will be, as far as that is known. */
export function aboutDownload({ height, bitrate }, { parts, duration }, locale) {
  const bytes = parts.length === 1 ? (bitrate * duration) / 8 : 0;
  return [height > 0 && `${height}p`, bytes > 0 && `≈ ${formatBytes(bytes, locale)}`].filter(Boolean).join(" · ");
}

/** The format by the name of a file: "MP4"; empty for a name without one. */
export const formatOf = (url) => new URL(url).pathname.match(/\.(\w{2,4})$/)?.[1].toUpperCase() ?? "";

/** What there is to choose from, [{url, kind, number, bitrate, text}]: MP4 in each quality, and what the bucket has in the best. */
export function choicesOf({ levels }, recording, locale) {
  const best = [...levels].sort((a, b) => b.bitrate - a.bitrate);
  const qualities = best.length > 0 ? best : [{}];
  return recording.parts.flatMap((url, part) => {
    const number = recording.parts.length > 1 ? ` ${part + 1}` : "";
    const kinds = [...qualities.map((level) => ["mp4", level]), ["ts", qualities[0]]];
    return kinds.map(([kind, level]) => {
      const text = [`${kind.toUpperCase()}${number}`, aboutDownload(level, recording, locale)].filter(Boolean).join(" · ");
      return { url, kind, number, bitrate: level.bitrate || Infinity, text };
    });
  });
}

/** Puts it among the buttons below the title. `load` brings what makes the file. */
export function offerDownload({ document, recording, texts, store, load = () => import("../downloads.js") }) {
  if (recording.ended === null && recording.file === null) return;
  const { locale } = texts;
  const make = (tag, properties) => Object.assign(document.createElement(tag), properties);
  const actions = document.querySelector(".actions");
  if (recording.file !== null) {
    const about = [`${texts.download} ${formatOf(recording.file)}`.trim(), recording.fileSize !== null && formatBytes(recording.fileSize, locale)];
    actions.append(make("a", { className: "quiet", href: recording.file, download: "", textContent: about.filter(Boolean).join(" · ") }));
    return;
  }
  const button = make("button", { className: "quiet", type: "button", textContent: texts.download });
  const menu = make("div", { id: "download", className: "menu", role: "menu", popover: "auto", ariaLabel: texts.download });
  button.setAttribute("aria-haspopup", "menu");
  button.setAttribute("aria-expanded", "false");
  button.setAttribute("popovertarget", menu.id);
  const close = createMenu({ document, button, menu });
  const box = make("div", { id: "saving", className: "actions" });
  const bar = make("progress", { hidden: true, max: 1, ariaLabel: texts.download });
  const count = make("span", { className: "notice figure", hidden: true });
  const said = make("span", { className: "notice", role: "status" });
  const cancel = make("button", { className: "quiet", type: "button", hidden: true, textContent: texts.downloadCancel });
  let shown = null; // the texts of the entries
  store.subscribe((state) => {
    const choices = choicesOf(state, recording, locale);
    const all = choices.map(({ text }) => text).join("\n");
    if (all === shown || menu.contains(document.activeElement)) return;
    shown = all;
    menu.replaceChildren(
      ...choices.map((choice) => {
        const entry = make("button", { type: "button", role: "menuitem", tabIndex: -1, textContent: choice.text });
        entry.addEventListener("click", () => {
          close();
          save(choice);
        });
        return entry;
      }),
    );
  });
  actions.append(button, menu);
  actions.after(box);
  box.append(bar, count, cancel, said);

  const show = (busy, text) => {
    const focused = button === document.activeElement || cancel === document.activeElement;
    button.hidden = busy;
    bar.hidden = count.hidden = cancel.hidden = !busy;
    said.textContent = text;
    if (focused) (busy ? cancel : button).focus();
  };

  async function save({ url, kind, number, bitrate }) {
    const controller = new AbortController();
    const leave = (event) => event.preventDefault(); // it would end here
    cancel.onclick = () => controller.abort();
    bar.value = 0;
    count.textContent = "";
    show(true, "");
    window.addEventListener("beforeunload", leave);
    try {
      const { download } = await load();
      const onProgress = (share, bytes) => {
        bar.value = share;
        count.textContent = formatList(locale, [formatPercent(locale, Math.floor(100 * share) / 100), formatBytes(bytes, locale)]);
      };
      const title = `${recording.title || recording.id}${number}`;
      const done = await download({ url, bitrate, title, kind, signal: controller.signal, onProgress });
      show(false, done ? texts.downloadDone : "");
    } catch (error) {
      console.warn(error);
      show(false, [texts.downloadFailed, texts[error.cause]].filter(Boolean).join(" "));
    } finally {
      window.removeEventListener("beforeunload", leave);
    }
  }
}
