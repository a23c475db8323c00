// Which codecs this browser can decode, and their names.

const NAMES = Object.freeze({
  avc1: "H.264", avc3: "H.264", hvc1: "HEVC", hev1: "HEVC", dvh1: "HEVC", dvhe: "HEVC", av01: "AV1", vp09: "VP9",
  mp4a: "AAC", "ac-3": "AC-3", "ec-3": "E-AC-3",
});

const nameOf = (codec) => NAMES[codec.split(".")[0].toLowerCase()] ?? codec;

function canDecode(codec) {
  const { ManagedMediaSource, MediaSource } = globalThis;
  const isSupported = (kind) => (ManagedMediaSource ?? MediaSource).isTypeSupported(`${kind}/mp4;codecs="${codec}"`);
  return isSupported("video") || isSupported("audio");
}

/** Of `lists`, each a CODECS attribute, the names of the codecs that this browser cannot decode: "HEVC, AC-3"; "" for none. */
export function undecodableIn(lists) {
  const codecs = lists.flatMap((list) => list.split(",")).map((codec) => codec.trim());
  return [...new Set(codecs.filter((codec) => codec !== "" && !canDecode(codec)).map(nameOf))].join(", ");
}
