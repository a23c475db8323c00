// What is asked of the service in the operator's name. The token stays in this tab, and goes to the service alone.

const PLACE = "broadcaster-token";
const WITHIN = 180_000; // ms; the service may have to wait for the bucket

/** What the operator is told in place of what was asked for. */
export class Complaint extends Error {}

export function createApi({ get = fetch, storage = sessionStorage, base = "../api/" } = {}) {
  const token = () => storage.getItem(PLACE);
  return Object.freeze({
    knows: () => token() !== null,
    remember: (given) => storage.setItem(PLACE, given.trim()),
    /** The answer's JSON; raises a Complaint that says why there is none, another Error when it may come later. */
    async ask(method, path, body) {
      const headers = { Authorization: `Bearer ${token() ?? ""}` };
      const options = { method, headers, body: body && JSON.stringify(body), cache: "no-store", signal: AbortSignal.timeout(WITHIN) };
      const answer = await get(base + path, options).catch(() => {
        throw new Error("the service does not answer");
      });
      if (answer.ok) return answer.json();
      if (answer.status === 401) storage.removeItem(PLACE);
      const told = (await answer.json().catch(() => null))?.error ?? `the service answers ${answer.status}`;
      throw answer.status >= 500 ? new Error(told) : new Complaint(told);
    },
  });
}
