// What this page has got and from whom, for the operator's sums: how many bytes, and for how long. Nobody's name.

const EVERY = 30000; // ms
const LOOK = 5000; // ms

/** Reports what is new every half a minute and when the page is left. */
export function createBeacon({ url, store, send = sendBeacon, now = () => performance.now(), page = window }) {
  let sent = store.get().bytes;
  let seconds = 0;
  let since = now();

  function look() {
    const { status, paused } = store.get();
    if (status === "live" && !paused) seconds += (now() - since) / 1000;
    since = now();
  }

  function report() {
    look();
    const { bytes } = store.get();
    const news = {
      httpBytes: bytes.bucket - sent.bucket,
      p2pBytes: bytes.peers - sent.peers,
      uploadedBytes: bytes.uploaded - sent.uploaded,
      seconds: Math.round(seconds),
    };
    if (Object.values(news).every((value) => value === 0)) return;
    if (!send(url, JSON.stringify(news))) return; // the next one carries it
    sent = bytes;
    seconds -= news.seconds;
  }

  setInterval(look, LOOK);
  setInterval(report, EVERY);
  page.addEventListener("pagehide", report);
}

const sendBeacon = (url, text) => navigator.sendBeacon(url, text);
