// What the operator asks of the service. The token is asked for once and stays in this tab; it goes into a header, which
// no other site's page can make a browser send, and never into an address.

const PLACE = "broadcaster-token";
const WITHIN = 15_000; // ms
const SERVER = 500; // and above: the same may be done later

/** Why something was not done, in words for the operator; `again`: trying it later may help. */
export class Complaint extends Error {
  constructor(text, { again = false } = {}) {
    super(text);
    this.again = again;
  }
}

/** `onForgotten` is called when there is no token any more. */
export function createApi({ get = fetch, storage = sessionStorage, base = "../api/", onForgotten = () => {} } = {}) {
  let token = storage.getItem(PLACE);

  function forget() {
    token = null;
    storage.removeItem(PLACE);
    onForgotten();
  }

  return Object.freeze({
    knows: () => token !== null,
    forget,
    remember(given) {
      token = given.trim();
      storage.setItem(PLACE, token);
    },
    /** The answer's JSON `within` so many ms, null without one; raises a Complaint that says what to do. */
    async ask(method, path, body, within = WITHIN) {
      const headers = { Authorization: `Bearer ${token}` };
      const options = { method, headers, body: JSON.stringify(body), cache: "no-store", signal: AbortSignal.timeout(within) };
      let answer;
      try {
        answer = await get(base + path, options);
      } catch (error) {
        // What no header can hold was never a token.
        if (error instanceof TypeError && !/^[\x21-\x7e]+$/.test(token)) return refuse();
        throw new Complaint("The service does not answer: is it running? Nothing was changed, as far as is known.", { again: true });
      }
      if (answer.status === 401) return refuse();
      const told = await answer.json().catch(() => null);
      if (answer.ok) return told;
      if (answer.status === 404) throw new Complaint("It is not there any more.");
      const why = told?.error ?? `the service answers ${answer.status}; its log says more`;
      throw new Complaint(sentence(why), { again: answer.status >= SERVER });
    },
  });

  function refuse() {
    forget();
    throw new Complaint("This is not the service's token. Copy it from the file again, as it is there now.");
  }
}

const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}.`;
