// The accent colour of a poster: the one that most of its vivid pixels share.

const SIZE = 32; // pixels of the picture as it is looked at
const HUES = 24;
const LEAST = 0.02; // of all pixels: fewer are a detail, and not what the poster looks like

/** `#rrggbb` of RGBA bytes; null for a picture without colours. */
export function accentOf(bytes) {
  const sums = Array.from({ length: HUES }, () => [0, 0, 0, 0]); // weight, red, green, blue
  for (let at = 0; at + 3 < bytes.length; at += 4) {
    const [red, green, blue] = bytes.slice(at, at + 3);
    const most = Math.max(red, green, blue);
    const chroma = most - Math.min(red, green, blue);
    const weight = (chroma / 255) ** 2;
    if (chroma < 40) continue;
    const sum = sums[Math.floor((hueOf(red, green, blue, most, chroma) * HUES) / 6) % HUES];
    [weight, weight * red, weight * green, weight * blue].forEach((part, index) => (sum[index] += part));
  }
  const [weight, ...parts] = sums.reduce((best, sum) => (sum[0] > best[0] ? sum : best));
  if (weight < (LEAST * bytes.length) / 4) return null;
  return `#${parts.map((part) => Math.round(part / weight).toString(16).padStart(2, "0")).join("")}`;
}

/** 0 to 6. */
function hueOf(red, green, blue, most, chroma) {
  if (most === red) return ((green - blue) / chroma + 6) % 6;
  if (most === green) return (blue - red) / chroma + 2;
  return (red - green) / chroma + 4;
}

/** The same of the picture at an address; null where it cannot be had, or its host does not let it be looked at. */
export async function accentAt(address, document) {
  try {
    const picture = Object.assign(document.createElement("img"), { crossOrigin: "anonymous", src: address });
    await picture.decode();
    const canvas = Object.assign(document.createElement("canvas"), { width: SIZE, height: SIZE });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(picture, 0, 0, SIZE, SIZE);
    return accentOf(context.getImageData(0, 0, SIZE, SIZE).data);
  } catch {
    return null;
  }
}
