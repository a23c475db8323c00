// The way to a recording as a file: a link where there is one, else the page makes it.
import { formatList, formatPercent } from "../intl.js";
import { formatBytes } from "../stats.js";

/** What a file will be, as far as that is known: "1080p · ≈ 1.4 GB" of the best variant, which is what is saved. */
export function aboutDownload({ levels }, { parts, duration }, locale) {
  const [best = {}] = [...levels].sort((a, b) => b.bitrate - a.bitrate);
  const bytes = parts.length === 1 ? (best.bitrate * duration) / 8 : 0;
  return [best.height > 0 && `${best.height}p`, bytes > 0 && `≈ ${formatBytes(bytes, locale)}`].filter(Boolean).join(" · ");
}

/** The format by the name of a file: "MP4"; empty for a name without one. */
export const formatOf = (url) => new URL(url).pathname.match(/\.(\w{2,4})$/)?.[1].toUpperCase() ?? "";

/** Puts it below the title. `load` brings what makes the file. */
export function offerDownload({ document, recording, texts, store, load = () => import("../downloads.js") }) {
  if (recording.ended === null && recording.file === null) return;
  const { locale } = texts;
  const make = (tag, properties) => Object.assign(document.createElement(tag), properties);
  const box = make("div", { className: "actions", id: "download" });
  document.querySelector(".actions").after(box);
  if (recording.file !== null) {
    const link = make("a", { className: "link", href: recording.file, download: "", textContent: `${texts.download} ${formatOf(recording.file)}`.trim() });
    if (recording.fileSize !== null) link.append(make("span", { className: "figure", textContent: ` · ${formatBytes(recording.fileSize, locale)}` }));
    box.append(link);
    return;
  }
  const bar = make("progress", { hidden: true, max: 1, ariaLabel: texts.download });
  const count = make("span", { className: "notice figure", hidden: true });
  const said = make("span", { className: "notice", role: "status" });
  const cancel = make("button", { className: "quiet", type: "button", hidden: true, textContent: texts.downloadCancel });
  const buttons = recording.parts.flatMap((url, part) =>
    ["mp4", "ts"].map((kind) => {
      const number = recording.parts.length > 1 ? ` ${part + 1}` : "";
      const textContent = `${texts.download} ${kind.toUpperCase()}${number}`;
      const button = make("button", { className: "quiet", type: "button", textContent });
      button.append(make("span", { className: "figure" }));
      button.addEventListener("click", () => save(url, kind, number));
      return button;
    }),
  );
  store.subscribe((state) => {
    const about = aboutDownload(state, recording, locale);
    for (const { lastChild } of buttons) lastChild.textContent = about && ` · ${about}`;
  });
  box.append(...buttons, bar, count, cancel, said);

  const show = (busy, text) => {
    buttons.forEach((button) => (button.hidden = busy));
    bar.hidden = count.hidden = cancel.hidden = !busy;
    said.textContent = text;
  };

  async function save(url, kind, number) {
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
      const done = await download({ url, title, kind, signal: controller.signal, onProgress });
      show(false, done ? texts.downloadDone : "");
    } catch (error) {
      console.warn(error);
      show(false, [texts.downloadFailed, texts[error.cause]].filter(Boolean).join(" "));
    } finally {
      window.removeEventListener("beforeunload", leave);
    }
  }
}
