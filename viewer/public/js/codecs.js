// Which codecs this browser can decode, and their names.

const NAMES = Object.freeze({
  avc1: "H.264", avc3: "H.264", hvc1: "HEVC", hev1: "HEVC", dvh1: "HEVC", dvhe: "HEVC", av01: "AV1", vp09: "VP9",
  mp4a: "AAC", "ac-3": "AC-3", "ec-3": "E-AC-3",
});

const nameOf = (codec) => NAMES[codec.split(".")[0].toLowerCase()] ?? codec;

/** Whether Media Source Extensions take this codec, as hls.js needs it. */
function canAppend(codec) {
  const { ManagedMediaSource, MediaSource } = globalThis;
  const isSupported = (kind) => (ManagedMediaSource ?? MediaSource).isTypeSupported(`${kind}/mp4;codecs="${codec}"`);
  return isSupported("video") || isSupported("audio");
}

/**
 * Of `lists`, each a CODECS attribute, the names of the codecs that this browser cannot decode: "HEVC, AC-3"; "" for
 * none. `canDecode` says whether it can decode one.
 */
export function undecodableIn(lists, canDecode = canAppend) {
  const codecs = lists.flatMap((list) => list.split(",")).map((codec) => codec.trim());
  return [...new Set(codecs.filter((codec) => codec !== "" && !canDecode(codec)).map(nameOf))].join(", ");
}

/** The same for a browser that plays HLS in `video` by itself; also "" if it can decode one of the lists. */
export function unplayableIn(lists, video) {
  const canPlay = (codec) => ["video", "audio"].some((kind) => video.canPlayType(`${kind}/mp4;codecs="${codec}"`) !== "");
  return lists.every((list) => undecodableIn([list], canPlay) !== "") ? undecodableIn(lists, canPlay) : "";
}

/** The codecs of the video in an initialization segment of MP4 (an ArrayBuffer), as a CODECS attribute without profiles. */
export function codecsOfMap(map) {
  const text = new TextDecoder("latin1").decode(map);
  return Object.keys(NAMES).filter((name) => name !== "mp4a" && text.includes(name)).join(",");
}
