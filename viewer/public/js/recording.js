// The page of a recording or a clip: what it is, and one player after another until its end.
import { backoff } from "./backoff.js";
import { patienceAfter } from "./live.js";
import { offerDownload } from "./ui/download.js";
import { recordingOf, requestedBy } from "./recordings.js";

/** The recording that the service has written into the page, or that the query names; null where there is none. */
export async function findRecording({ recording, recordings, search, base, get = fetch }) {
  if (recording !== null) return recordingOf(recording, base);
  const wanted = requestedBy(search);
  if (wanted === null || recordings === null) return null;
  for (let looks = 0; ; looks += 1) {
    try {
      const answer = await get(new URL(wanted.file, recordings.folder), { cache: "no-cache" });
      return answer.ok ? recordingOf(await answer.json(), recordings.folder) : null;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, backoff(looks, { first: 1000, most: 20000 })));
    }
  }
}

/** Seconds from the start, of "?t=90"; null for the recording's own. */
export function startOf(search) {
  const given = new URLSearchParams(search).get("t");
  return given !== null && /^\d{1,7}(\.\d{1,3})?$/.test(given) ? Number(given) : null;
}

/** The part in which that is, of "?t=90&part=2", from 0 and of so many. */
export function partOf(search, count) {
  const given = Number(new URLSearchParams(search).get("part") ?? 1);
  return Number.isInteger(given) && given >= 1 && given <= count ? given - 1 : 0;
}

/** Plays what the page is for, and again whenever the viewer wants it after the end. `play` is playWith's; `worded` brings the texts. */
export async function watchRecording({ config, page, store, video, alarm, play, document, worded, find = findRecording, again = () => true }) {
  const { recordings } = config;
  const recording = await find({ recording: config.recording, recordings, search: page.search, base: page.href });
  if (recording === null) {
    store.set({ status: "missing" });
    return;
  }
  store.set({ recording, title: recording.title || null, poster: recording.poster });
  worded?.then((texts) => offerDownload({ document, recording, texts, store }));
  const start = startOf(page.search);
  let at = start ?? (recording.ended === null ? 0 : null);
  let first = partOf(page.search, recording.parts.length);
  do {
    let timeline = null;
    for (const [part, url] of [...recording.parts.entries()].slice(first)) {
      store.set({ part });
      timeline = await playPart({ url, start: at, store, alarm, play });
      at = null;
      if (store.get().status === "undecodable") return;
    }
    // The bar stays there, and its pictures are those of the last part.
    store.set({ status: "over", paused: true, playlist: recording.parts.at(-1), timeline, position: timeline?.live ?? null });
    await new Promise((resolve) => video.addEventListener("play", resolve, { once: true }));
    // From the start, or from where the bar of the last part was sent.
    const { position } = store.get();
    const sent = timeline !== null && position > timeline.first && position < timeline.live;
    [at, first] = sent ? [position, recording.parts.length - 1] : [null, 0];
  } while (again());
}

/** One playlist to its end, with its last timeline; what fails begins anew where it stood. */
async function playPart({ url, start, store, alarm, play }) {
  let at = start;
  let autoplay = true;
  let failures = 0;
  let last = null;
  const follow = store.subscribe(({ position, timeline }) => {
    if (position !== null) at = position;
    if (timeline !== null) last = timeline;
  });
  try {
    for (;;) {
      store.set({ status: "connecting", playlist: null, following: false, date: null, paused: !autoplay });
      const { reason } = await play({ url, start: at, recorded: true, autoplay, patience: patienceAfter(failures) });
      if (reason === "undecodable") store.set({ status: reason });
      if (reason === "ended" || reason === "undecodable") return last;
      failures += 1;
      const status = store.get().status === "reconnecting" ? "reconnecting" : "connecting";
      store.set({ status, rebuilds: store.get().rebuilds + 1 });
      await alarm.sleep(backoff(failures - 1, { first: 1000, most: 20000 }));
      autoplay = !store.get().paused;
    }
  } finally {
    follow();
  }
}
