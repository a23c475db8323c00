// One part of a file to its address. XMLHttpRequest tells how many bytes have left, which fetch does not.

const STALL = 20_000; // ms in which no bytes leave
const ANSWER = 60_000; // ms for the answer to a part that is there

/** Its ETag without quotes, null where the bucket does not show it; raises an Error, and with `signal` an AbortError. */
export function putPart({ url, part, signal, progress, make = () => new XMLHttpRequest() }) {
  return new Promise((resolve, reject) => {
    const request = make();
    let timer = null;
    const stop = () => request.abort();
    const within = (ms) => {
      clearTimeout(timer);
      timer = setTimeout(stop, ms);
    };
    const finish = (settle, value) => {
      clearTimeout(timer);
      signal.removeEventListener("abort", stop);
      settle(value);
    };
    request.open("PUT", url);
    request.upload.addEventListener("progress", ({ loaded }) => {
      within(loaded < part.size ? STALL : ANSWER);
      progress(loaded);
    });
    request.addEventListener("load", () => {
      const { status } = request;
      if (status === 200) finish(resolve, request.getResponseHeader("ETag")?.replaceAll('"', "") ?? null);
      else finish(reject, new Error(`the bucket answers ${status}`));
    });
    request.addEventListener("error", () => finish(reject, new Error("the bucket cannot be reached")));
    request.addEventListener("abort", () => finish(reject, signal.aborted ? signal.reason : new Error("no bytes get through")));
    signal.addEventListener("abort", stop);
    within(STALL);
    request.send(part);
  });
}
