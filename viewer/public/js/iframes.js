// What an I-frame playlist says, and the picture in the bytes that it names. Pure.

const PACKET = 188; // bytes of a transport packet
const PES_HEAD = 9; // bytes before the optional ones
const SPS = 7; // the NAL unit of H.264 that says which profile and level it takes

/** The address of the I-frame playlist of what is played: as the multivariant playlist has it, or beside an only one. */
export function iframesOf(text, base) {
  const named = /^#EXT-X-I-FRAME-STREAM-INF:.*\bURI="([^"]+)"/m.exec(text);
  if (named !== null) return new URL(named[1], base).href;
  return /^#EXT-X-STREAM-INF:/m.test(text) ? null : new URL("iframes.m3u8", base).href;
}

/**
 * {frames, ended}: of each key frame its address, its `first` and `last` byte, the address of its `map` (null without),
 * and from `date` to `end` what it stands for, in ms since the epoch.
 */
export function readIframes(text, base) {
  const frames = [];
  let date = NaN;
  let duration = 0;
  let range = null;
  let map = null;
  for (const line of text.split(/\r?\n/)) {
    const [, tag, value] = /^#(EXT[A-Z-]*):(.*)/.exec(line) ?? [];
    if (tag === "EXTINF") duration = 1000 * parseFloat(value);
    else if (tag === "EXT-X-PROGRAM-DATE-TIME") date = Date.parse(value);
    else if (tag === "EXT-X-MAP") map = new URL(/URI="([^"]+)"/.exec(value)?.[1] ?? "", base).href;
    else if (tag === "EXT-X-BYTERANGE") range = value.split("@").map(Number);
    else if (line !== "" && !line.startsWith("#")) {
      const [length, first] = range ?? [];
      const end = date + duration;
      const known = Number.isSafeInteger(first + length) && Number.isFinite(end);
      const url = new URL(line, base).href;
      if (known) frames.push(Object.freeze({ url, first, last: first + length - 1, map, date, end }));
      date = end;
      range = null;
    }
  }
  return Object.freeze({ frames, ended: /^#EXT-X-ENDLIST/m.test(text) });
}

/** The key frame for a time, or the one before, if that is just over; else null. */
export function frameAt(frames, date) {
  const frame = frames.findLast((candidate) => candidate.date <= date);
  return frame !== undefined && date < 2 * frame.end - frame.date ? frame : null;
}

const pidAt = (bytes, at) => ((bytes[at + 1] & 0x1f) << 8) | bytes[at + 2];

/** {codec, data}, as WebCodecs wants it, of the H.264 picture that these transport packets begin with; else null. */
export function keyFrameIn(bytes) {
  const parts = [];
  for (let at = 0; at + PACKET <= bytes.length; at += PACKET) {
    if (bytes[at] !== 0x47) return null;
    if (pidAt(bytes, at) !== pidAt(bytes, 0) || !(bytes[at + 3] & 0x10)) continue;
    let from = at + 4 + (bytes[at + 3] & 0x20 ? 1 + bytes[at + 4] : 0);
    if (bytes[at + 1] & 0x40) from += PES_HEAD + bytes[from + PES_HEAD - 1];
    parts.push(bytes.subarray(Math.min(from, at + PACKET), at + PACKET));
  }
  const data = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let end = 0;
  for (const part of parts) {
    data.set(part, end);
    end += part.length;
  }
  const codec = codecOf(data);
  return codec === null ? null : { codec, data };
}

const hex = (bytes) => [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");

function codecOf(data) {
  for (let at = 0; at + 6 < data.length; at += 1) {
    if (data[at] === 0 && data[at + 1] === 0 && data[at + 2] === 1 && (data[at + 3] & 0x1f) === SPS) {
      return `avc1.${hex(data.subarray(at + 4, at + 7))}`;
    }
  }
  return null;
}

const find = (bytes, text, from = 0) => {
  const wanted = [...text].map((letter) => letter.charCodeAt(0));
  return bytes.findIndex((_, index) => index >= from && wanted.every((code, offset) => bytes[index + offset] === code));
};

const decimal = (number) => String(number).padStart(2, "0");

/** Of HEVC, as ISO 14496-15 (annex E) has it: profile, compatibility, tier and level, constraints. */
function hevc(name, box) {
  const flags = [...new DataView(box.buffer, box.byteOffset + 2).getUint32(0).toString(2).padStart(32, "0")].reverse();
  const constraints = [...box.subarray(6, 12)].map((byte) => `.${byte.toString(16).toUpperCase()}`).join("");
  const profile = `${["", "A", "B", "C"][box[1] >> 6]}${box[1] & 0x1f}.${parseInt(flags.join(""), 2).toString(16).toUpperCase()}`;
  return `${name}.${profile}.${box[1] & 0x20 ? "H" : "L"}${box[12]}${constraints.replace(/(\.0)+$/, "")}`;
}

/** Of AV1, by profile, level, tier and depth. */
function av1(name, [, profile, flags]) {
  const depth = flags & 0x40 ? (flags & 0x20 ? 12 : 10) : 8;
  return `${name}.${profile >> 5}.${decimal(profile & 0x1f)}${flags & 0x80 ? "H" : "M"}.${decimal(depth)}`;
}

const avc = (name, box) => `${name}.${hex(box.subarray(1, 4))}`;
const vp9 = (name, box) => `${name}.${decimal(box[4])}.${decimal(box[5])}.${decimal(box[6] >> 4)}`;

// Sample entries, the box in each that describes its decoder, and how the codec is written (RFC 6381).
const ENTRIES = [
  ["avc1", "avcC", avc],
  ["avc3", "avcC", avc],
  ["hvc1", "hvcC", hevc],
  ["hev1", "hvcC", hevc],
  ["av01", "av1C", av1],
  ["vp09", "vpcC", vp9],
];

/** {codec, description} of the decoder, as WebCodecs wants it, for fragments of MP4 with this map; null if unknown. */
export function decoderOf(header) {
  for (const [name, kind, codecOfBox] of ENTRIES) {
    const entry = find(header, name);
    const box = entry < 0 ? -1 : find(header, kind, entry);
    if (box < 0) continue;
    const size = new DataView(header.buffer, header.byteOffset + box - 4).getUint32(0);
    const description = header.slice(box + 4, box - 4 + size);
    return { codec: codecOfBox(name, description), description };
  }
  return null;
}

/** The picture with which a fragment of MP4 ends that is cut behind it; else null. */
export function pictureInFragment(bytes) {
  const media = find(bytes, "mdat");
  if (media < 0) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let begin = -1; // of the pictures: other tracks begin before them, or behind what is there
  const moof = bytes.subarray(0, media);
  for (let run = find(moof, "trun"); run >= 0; run = find(moof, "trun", run + 4)) {
    const offset = view.getUint32(run + 4) & 1 ? view.getUint32(run + 12) : -1;
    if (offset < bytes.length) begin = Math.max(begin, offset);
  }
  return begin < media ? null : bytes.subarray(begin);
}
