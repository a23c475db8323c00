// What the page says in words of its own. config.json may put others in their place, in any language.

export const defaultTexts = Object.freeze({
  connectingBadge: "Connecting",
  connectingTitle: "Connecting…",
  connectingText: "Getting the stream.",
  startingBadge: "Starting",
  startingTitle: "The stream is starting",
  startingText: "The first picture is on its way.",
  offlineBadge: "Offline",
  offlineTitle: "The stream is offline",
  offlineText: "Leave this page open: it starts by itself.",
  endedBadge: "Ended",
  endedTitle: "The stream has ended",
  endedText: "Thank you for watching.",
  restBadge: "Ended",
  restText: "The stream has ended. This is the rest of it.",
  liveBadge: "Live",
  liveText: "The stream is live.",
  goLive: "Go live",
  behindBadge: "Behind live",
  goneBadge: "Paused",
  goneTitle: "That was too long ago",
  goneText: "Where you paused can no longer be played. It goes on as far back as it can.",
  bufferingBadge: "Buffering",
  bufferingTitle: "One moment…",
  bufferingText: "The next part of the video is on its way.",
  slowBadge: "Buffering",
  slowTitle: "Your connection is slower than the lowest quality",
  slowText: "So the picture has to wait now and then. It goes on by itself.",
  waitingBadge: "Waiting",
  waitingTitle: "One moment…",
  waitingText: "Nothing new has come; it goes on by itself.",
  encoderBadge: "Paused",
  encoderTitle: "The encoder has paused",
  encoderText: "No picture is being sent. It goes on by itself.",
  deliveryBadge: "Interrupted",
  deliveryTitle: "The video cannot be delivered at the moment",
  deliveryText: "Your connection is fine. It goes on by itself.",
  reconnectingBadge: "Reconnecting",
  reconnectingTitle: "Reconnecting…",
  reconnectingText: "There is no answer. Trying again; nothing for you to do.",
  blockedBadge: "Ready",
  blockedTitle: "Ready to play",
  blockedText: "Your browser wants a click before it starts.",
  unsupportedBadge: "Sorry",
  unsupportedTitle: "No player for this browser",
  unsupportedText: "A current version of any browser will do.",
  startsIn: "Starts in", // and how long
  startOver: "Watch from the start",
  watchRecording: "Watch the recording",
  allRecordings: "All recordings",
  watchLive: "To the live page",
  loadingBadge: "Recording",
  loadingTitle: "One moment…",
  loadingText: "Getting the recording.",
  recordedBadge: "Recording",
  recordedText: "The recording is playing.",
  overBadge: "Recording",
  overTitle: "The recording is over",
  overText: "Thank you for watching.",
  watchAgain: "Watch again",
  missingBadge: "Sorry",
  missingTitle: "There is no such recording",
  missingText: "It may have been removed.",
  download: "Download",
  downloadCancel: "Cancel",
  downloadDone: "Saved",
  downloadFailed: "It could not be saved.",
  recordingsTitle: "Recordings",
  untitled: "Recording",
  olderRecordings: "Older recordings",
  noRecordings: "There are no recordings yet.",
  recordingsAway: "The list cannot be had at the moment. Please try again.",
  watching: "watching", // after their number
  share: "Share",
  shareCopied: "Link copied",
  shareFailed: "Copy the address above",
  shareMoment: "Share this moment",
  clip: "Clip",
  clipWhat: "Keep the last half minute",
  clipMaking: "Making the clip…",
  clipMade: "The clip is made.",
  clipWatch: "Watch it",
  clipShort: "There is not enough to make a clip of yet.",
  clipGone: "No clip can be made of that part.",
  clipOften: "That was a clip too many. Please wait a while.",
  clipFailed: "The clip could not be made. Please try again.",
  cast: "Play on a TV",
  missedNotice: "You missed", // and how long
  missedWatch: "Watch it",
  sharingSwitch: "Help carry the stream",
  lowDelayNotice: "Pass video on to other viewers: it comes a few seconds later.",
  sharingNotice: "Viewers who share the video see each other’s network addresses.",
  sharingPeers: "Connected:", // and a number, in the statistics
  sharingTracker: "Nothing is shared for now: the server that introduces viewers to each other is away.",
  sharingSaving: "Nothing is shared: your browser saves data.",
  sharingMobile: "On a mobile connection you receive from other viewers and send them nothing.",
  fallbackNotice: "The usual way to you is interrupted, so this comes straight from the streamer’s own server.",
  fallbackOver: "The usual way is back.",
});

/** Where an operator has worded only what an earlier page called both by, that holds for the newer one too. */
const HEIRS = ["Badge", "Title", "Text"].flatMap((part) => [
  [`ended${part}`, `offline${part}`],
  [`encoder${part}`, `waiting${part}`],
]);
const LONGEST = 300; // characters

/** The defaults, each replaced by what `raw` has under its name, if that is a text. */
export function parseTexts(raw) {
  const given = Object.entries(raw ?? {}).filter(
    ([name, text]) => Object.hasOwn(defaultTexts, name) && typeof text === "string" && text.trim() !== "",
  );
  const texts = given.map(([name, text]) => [name, text.trim().slice(0, LONGEST)]);
  const own = Object.fromEntries(texts);
  for (const [name, older] of HEIRS) if (own[older] !== undefined) own[name] ??= own[older];
  return Object.freeze({ ...defaultTexts, ...own });
}
