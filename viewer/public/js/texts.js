// What the page says in words of its own. config.json may put others in their place, in any language.

export const defaultTexts = Object.freeze({
  connectingBadge: "Connecting",
  connectingTitle: "Connecting…",
  connectingText: "Getting the stream.",
  offlineBadge: "Offline",
  offlineTitle: "The stream is offline",
  offlineText: "Leave this page open: it starts by itself.",
  liveBadge: "Live",
  liveText: "The stream is live.",
  bufferingBadge: "Buffering",
  bufferingTitle: "One moment…",
  bufferingText: "The connection is slow; the stream goes on soon.",
  waitingBadge: "Paused",
  waitingTitle: "The stream is paused",
  waitingText: "Waiting for it; it goes on by itself.",
  reconnectingBadge: "Reconnecting",
  reconnectingTitle: "Connection lost",
  reconnectingText: "Trying again; nothing for you to do.",
  blockedBadge: "Ready",
  blockedTitle: "Ready to play",
  blockedText: "Your browser wants a click before it starts.",
  unsupportedBadge: "Sorry",
  unsupportedTitle: "No player for this browser",
  unsupportedText: "A current version of any browser will do.",
  lowDelayNotice: "As close to live as it goes. Nothing is shared.",
  sharingNotice: "Viewers who share the video see each other’s network addresses.",
  sharingPeers: "Connected:", // and a number
  sharingTracker: "Nothing is shared for now: the server that introduces viewers to each other is away.",
  sharingMetered: "Nothing is shared: your connection is metered, or saves data.",
  fallbackNotice: "The usual way to you is interrupted, so this comes straight from the streamer’s own server.",
  fallbackOver: "The usual way is back.",
});

const LONGEST = 300; // characters

/** The defaults, each replaced by what `raw` has under its name, if that is a text. */
export function parseTexts(raw) {
  const given = Object.entries(raw ?? {}).filter(
    ([name, text]) => Object.hasOwn(defaultTexts, name) && typeof text === "string" && text.trim() !== "",
  );
  const texts = given.map(([name, text]) => [name, text.trim().slice(0, LONGEST)]);
  return Object.freeze({ ...defaultTexts, ...Object.fromEntries(texts) });
}
