// Lets Node parse every module of the viewer, and keeps them short; the vendored ones are not ours.
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const LONGEST = 150; // lines of a module of the page

let failed = 0;
for (const folder of ["public/js", "dashboard/js", "scripts", "tests"]) {
  const base = new URL(`../${folder}/`, import.meta.url);
  for (const name of readdirSync(base, { recursive: true }).filter((file) => /\.m?js$/.test(file))) {
    const path = fileURLToPath(new URL(name, base));
    const { status } = spawnSync(process.execPath, ["--check", path], { stdio: "inherit" });
    const lines = readFileSync(path, "utf8").split("\n").length - 1;
    const long = folder.endsWith("/js") && lines > LONGEST;
    if (long) console.error(`${folder}/${name} has ${lines} lines, ${LONGEST} are enough`);
    if (status !== 0 || long) failed += 1;
  }
}
process.exitCode = failed ? 1 : 0;
