// The choice of quality: a key that means the same rendition in the next player, and in the next stream.

export const levelKey = ({ height, bitrate }) => `${height || 0}-${bitrate || 0}`;

/** What the rest of the page sees of hls.js's levels. */
export function describeLevels(levels) {
  return Object.freeze(levels.map(describeLevel));
}

export function describeLevel(level) {
  return Object.freeze({ height: level.height || 0, bitrate: level.bitrate || 0 });
}

/** The index of the chosen quality: the very same, else one of its height, else -1 (automatic). */
export function matchLevel(levels, quality) {
  if (quality === "auto") return -1;
  const same = levels.findIndex((level) => levelKey(level) === quality);
  if (same >= 0) return same;
  const height = Number.parseInt(quality, 10);
  return height > 0 ? levels.findIndex((level) => level.height === height) : -1;
}

/** What comes after `current`, and the first again after the last. */
export const nextOf = (list, current) => list[(list.indexOf(current) + 1) % list.length];
