// The operator's colours, made legible: on dark and on light, with text on top.

const WHITE = [255, 255, 255];
const BLACK = [0, 0, 0];
const READABLE = 4.5; // contrast of text, WCAG 2.2 criterion 1.4.3
const grounds = Object.freeze({ light: "#f2f2f7", dark: "#1b1b26" }); // of style.css, the harder ones to read on

const parse = (hex) => [1, 3, 5].map((at) => Number.parseInt(hex.slice(at, at + 2), 16));
const format = (rgb) => `#${rgb.map((part) => Math.round(part).toString(16).padStart(2, "0")).join("")}`;
const mix = (from, to, share) => from.map((part, at) => part + (to[at] - part) * share);

/** Relative luminance, 0 to 1 (WCAG 2.2, "relative luminance"). */
function luminance(rgb) {
  const [red, green, blue] = rgb.map((part) => {
    const value = part / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

export function contrast(color, other) {
  const [low, high] = [color, other].map((hex) => luminance(parse(hex))).sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}

/** White or black, whichever reads better on `hex`. */
export const textOn = (hex) => (contrast(hex, "#ffffff") >= contrast(hex, "#000000") ? "#ffffff" : "#000000");

/** `hex`, moved towards white or black as far as it takes to be read on `ground`. */
export function readableOn(hex, ground) {
  const target = textOn(ground) === "#ffffff" ? WHITE : BLACK;
  for (let share = 0; share < 1; share += 0.05) {
    const color = format(mix(parse(hex), target, share));
    if (contrast(color, ground) >= READABLE) return color;
  }
  return format(target);
}

/** The custom properties that style.css builds on. */
export function themeOf({ accent, live }) {
  return {
    "--accent": accent,
    "--on-accent": textOn(accent),
    "--accent-on-light": readableOn(accent, grounds.light),
    "--accent-on-dark": readableOn(accent, grounds.dark),
    "--live": live,
    "--on-live": textOn(live),
  };
}

/** Set through the CSSOM, which a policy without 'unsafe-inline' allows. */
export function applyTheme(root, colors) {
  for (const [name, value] of Object.entries(themeOf(colors))) root.style.setProperty(name, value);
}
