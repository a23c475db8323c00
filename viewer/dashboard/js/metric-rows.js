// Keeps the last hour of the service's figures, and asks for what is new.

const MOST = 720; // rows; what the service keeps

/** Rows old and new, without repetition; fewer than before when the service has started anew. */
export function merge(rows, fresh) {
  const newest = rows.at(-1)?.time ?? 0;
  const added = fresh.filter(({ time }) => time > newest);
  const restarted = added.length > 0 && rows.length > 0 && added[0].requests < rows.at(-1).requests;
  return [...(restarted ? [] : rows), ...added].slice(-MOST);
}

/**
 * Asks at `url` every `seconds` and tells `draw({rows, came, ...what stands now})`, `came` by `clock`; or
 * `draw(null)` when there is no whole answer `within` so many seconds: a process that was stopped takes connections.
 */
export async function follow({
  url,
  draw,
  seconds = 2,
  within = 4,
  get = fetch,
  sleep = pause,
  clock = () => performance.now(),
  again = () => true,
}) {
  let rows = [];
  do {
    try {
      const answer = await get(`${url}?since=${rows.at(-1)?.time ?? 0}`, { cache: "no-store", signal: AbortSignal.timeout(1000 * within) });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      const now = await answer.json();
      rows = merge(rows, now.rows);
      draw({ ...now, rows, came: clock() });
    } catch (error) {
      console.warn(error);
      draw(null);
    }
    await sleep(1000 * seconds);
  } while (again());
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
