// The way to a recording as a file: a link where there is one, else the page makes it.
import { formatList, formatPercent } from "../intl.js";
import { formatBytes } from "../stats.js";

/** Puts it below the title. `load` brings what makes the file. */
export function offerDownload({ document, recording, texts, load = () => import("../downloads.js") }) {
  if (recording.ended === null && recording.file === null) return;
  const { locale } = texts;
  const make = (tag, properties) => Object.assign(document.createElement(tag), properties);
  const box = make("div", { className: "actions", id: "download" });
  document.querySelector(".actions").after(box);
  if (recording.file !== null) {
    box.append(make("a", { className: "link", href: recording.file, download: "", textContent: texts.download }));
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
      button.addEventListener("click", () => save(url, kind, number));
      return button;
    }),
  );
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
