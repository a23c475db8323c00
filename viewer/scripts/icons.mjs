// Draws favicon.svg, a rounded square and a path of straight lines, as PNG pictures for home screens.
import { deflateSync } from "node:zlib";

const SAMPLES = 4; // in each direction of a pixel, so that edges are smooth

/** The shapes of the drawing, whose view is `size` wide. */
function shapes(svg) {
  const [, size] = /viewBox="0 0 (\d+) \d+"/.exec(svg);
  const [, radius, ground] = /<rect [^>]*rx="(\d+)" fill="(#\w{6})"/.exec(svg);
  const [, path, colour] = /<path d="M([^"]+)z" fill="(#\w{3,6})"/.exec(svg);
  const corners = [];
  for (const [, command, numbers] of `L${path}`.matchAll(/([LlHhVv])([^LlHhVv]+)/g)) {
    const [a, b] = numbers.trim().match(/-?[\d.]+/g).map(Number);
    const [x, y] = corners.at(-1) ?? [0, 0];
    if (command === "h") corners.push([x + a, y]);
    else if (command === "v") corners.push([x, y + a]);
    else if (command === "L") corners.push([a, b]);
    else throw new Error(`the icon has a command ${command}, which is not drawn`);
  }
  return { size: Number(size), radius: Number(radius), ground: rgb(ground), colour: rgb(colour), corners };
}

const rgb = (text) => (text.length === 4 ? [...text.slice(1)].map((digit) => digit + digit) : text.slice(1).match(/../g)).map((hex) => parseInt(hex, 16));

function isInside(corners, x, y) {
  let inside = false;
  corners.forEach(([ax, ay], index) => {
    const [bx, by] = corners.at(index - 1);
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) inside = !inside;
  });
  return inside;
}

function isInSquare({ size, radius }, x, y) {
  const [dx, dy] = [x, y].map((at) => Math.max(radius - at, at - (size - radius), 0));
  return Math.hypot(dx, dy) <= radius;
}

/** The check sum of PNG (ISO 3309); Node has it since 20.15. */
function crc32(bytes) {
  let sum = -1;
  for (const byte of bytes) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit += 1) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  }
  return ~sum >>> 0;
}

function chunk(name, data) {
  const body = Buffer.concat([Buffer.from(name), data]);
  const frame = Buffer.alloc(8);
  frame.writeUInt32BE(data.length, 0);
  frame.writeUInt32BE(crc32(body), 4);
  return Buffer.concat([frame.subarray(0, 4), body, frame.subarray(4)]);
}

/** The drawing as a PNG of so many pixels; `full` has no round corners, for systems that cut their own. */
export function icon(svg, pixels, { full = false } = {}) {
  const drawn = shapes(svg);
  const rows = Buffer.alloc(pixels * (pixels * 4 + 1));
  const step = drawn.size / pixels / SAMPLES;
  for (let row = 0; row < pixels; row += 1) {
    for (let column = 0; column < pixels; column += 1) {
      let [ground, shape] = [0, 0];
      for (let sample = 0; sample < SAMPLES * SAMPLES; sample += 1) {
        const x = (column * SAMPLES + (sample % SAMPLES) + 0.5) * step;
        const y = (row * SAMPLES + Math.floor(sample / SAMPLES) + 0.5) * step;
        if (full || isInSquare(drawn, x, y)) ground += 1;
        if (isInside(drawn.corners, x, y)) shape += 1;
      }
      const part = ground ? shape / ground : 0;
      const colours = drawn.ground.map((value, index) => Math.round(value + (drawn.colour[index] - value) * part));
      rows.set([...colours, Math.round((255 * ground) / SAMPLES ** 2)], row * (pixels * 4 + 1) + 1 + column * 4);
    }
  }
  const head = Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 8, 6, 0, 0, 0]);
  head.writeUInt32BE(pixels, 0);
  head.writeUInt32BE(pixels, 4);
  const signature = Buffer.from([137, 80, 78, 71, 13, 10, 26, 10]);
  return Buffer.concat([signature, chunk("IHDR", head), chunk("IDAT", deflateSync(rows, { level: 9 })), chunk("IEND", Buffer.alloc(0))]);
}
