// Where in the window the viewer is, and whether by choice: who chose a place or paused stays there.
import { createCatchUp, isAtLive, isGone } from "./catch-up.js";
import { createPace } from "./pace.js";
import { createRebufferPolicy } from "./rebuffer-policy.js";
import { dateAt, positionAt, timelineOf } from "./timeline.js";
import { bufferAhead } from "./player-health.js";

const WORTH = 5; // seconds that were missed and are worth an offer
const OFFERED = 60000; // ms
// Seconds further back than live viewers at which somebody who follows is behind, and from which on no longer.
const [FAR, NEAR] = [15, 10];

/** For one player. `tick` moves the picture where it has to and returns what is new for the state. */
export function createPlace({ video, store, pace = createPace(video) }) {
  const catchUp = createCatchUp();
  const rebuffering = createRebufferPolicy();
  const { following: followed, date: left } = store.get(); // how the last player was left
  let returning = left !== null;
  let offeredAt = null;
  let holds = false;

  /** A new player begins at live: back to a chosen place, or an offer of what was missed meanwhile. */
  function comeBack(player, timeline) {
    const was = positionAt(timeline.anchors, left);
    if (was === null) return {};
    const from = Math.max(was, timeline.first);
    if (followed) return offer(timeline, from, video.currentTime);
    if (from < timeline.live) player.seek(from);
    return {};
  }

  function offer({ anchors }, from, to) {
    const date = dateAt(anchors, from);
    return to - from < WORTH || date === null ? {} : { missed: Object.freeze({ seconds: to - from, date }) };
  }

  function isOver(missed, { anchors, first }, now) {
    offeredAt ??= now;
    return now - offeredAt > OFFERED || positionAt(anchors, missed.date) + missed.seconds < first;
  }

  return Object.freeze({
    /** Whether the player is still on its way to where the last one was left. */
    isReturning: () => returning,
    /** The picture stands still for want of video. */
    stall: (now) => rebuffering.stall(now),
    /** The picture waits until there is more video. */
    isHolding: () => holds,
    /** `facts` as a player tells them, `now` in ms; `fresh` says that the playlists grow. */
    tick({ player, facts, playing, fresh, now }) {
      const { start, sync, anchors, targetDuration, whole = false } = facts;
      const timeline = timelineOf({ start, live: sync, anchors, margin: whole ? 0 : 1.5 * targetDuration });
      if (timeline === null || video.readyState < 1) return {};
      const { following, missed, kept, replay, position: before, date: known, behind, speed } = store.get();
      const { currentTime: position, paused } = video;
      const buffer = bufferAhead(video);
      if (returning && (playing || !followed)) {
        returning = false;
        return { timeline, ...comeBack(player, timeline) };
      }
      if (returning) return { timeline };

      const atLive = isAtLive(facts);
      const room = facts.latency + position - timeline.first;
      holds = rebuffering.holds({ ...facts, paused, fresh, buffer, room });
      const slow = facts.slow || holds || rebuffering.isUneven(now);
      const { rate, jump } = catchUp({ ...facts, now, following, paused, playing, fresh, slow, buffer, room });
      pace.set(!facts.gentle ? 1 : holds ? 0 : rate, following ? 1 : speed);
      const jumps = jump && position < timeline.live;
      if (jumps) player.goLive();
      if (jumps && slow) rebuffering.stall(now);
      const left = !whole && !following && isGone({ position, buffer, start: timeline.start });
      const elsewhere = left && kept !== null && replay === null; // a longer playlist has it
      // The stream itself is ahead of its recording; once it is over, what is played in its place has all of it.
      const caughtUp = replay !== null && facts.live && position >= timeline.live;
      if ((elsewhere && !paused) || caughtUp) {
        store.set({ replay: caughtUp ? null : Object.freeze([kept]) });
        player.renew(); // who comes back to the date
        return {};
      }
      const gone = left && !elsewhere;
      if (gone && !paused) player.seek(timeline.first);
      const follows = following || (!whole && playing && !paused && atLive);
      if (missed === null) offeredAt = null;
      else if (isOver(missed, timeline, now)) store.set({ missed: null });
      return {
        timeline,
        position,
        // The window may have left the place, and what tells its time.
        date: position === before && known !== null ? known : dateAt(timeline.anchors, position),
        behind: isBehind({ follows, behind, atLive, position, timeline, facts }),
        following: follows,
        gone: gone && paused,
        ...(jumps ? offer(timeline, position, timeline.live) : {}),
        ...(follows ? { speed: 1 } : {}),
      };
    },
  });
}

/** Who follows is live until much is missing; who chose a place is behind as soon as it is another one. */
function isBehind({ follows, behind, atLive, position, timeline, facts }) {
  if (follows) return facts.live && facts.latency - facts.target > (behind ? NEAR : FAR);
  return facts.live ? !atLive : position < timeline.live - facts.targetDuration;
}
