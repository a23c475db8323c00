// Reads a list of playlists as JSON, and writes what hls-parser, in its strict mode, has against each of them.
import { parse, setOptions } from "../../viewer/node_modules/hls-parser/index.js";

setOptions({ strictMode: true });
let input = "";
for await (const part of process.stdin) input += part;
const complaints = JSON.parse(input).map((text) => {
  try {
    parse(text);
    return null;
  } catch (error) {
    return error.message;
  }
});
process.stdout.write(JSON.stringify(complaints.filter(Boolean)));
