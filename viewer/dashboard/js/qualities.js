// Each quality in a line of a table.
import { make } from "./row.js";
import { duration, megabits, whole } from "./format.js";

export function drawQualities(find, { table, health }) {
  find("qualities").parentElement.parentElement.hidden = table.length === 0 || health.stream !== "live";
  find("qualities").replaceChildren(
    ...table.map(({ quality, bitrate, age, waiting, gaps }) => {
      const cells = [megabits(bitrate), age === null ? "–" : `${duration(age)} ago`, whole(waiting), whole(gaps)];
      return make("tr", {}, make("th", { scope: "row" }, quality), ...cells.map((text) => make("td", {}, text)));
    }),
  );
}
