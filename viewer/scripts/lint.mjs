// Lets Node parse every module of the viewer; the vendored ones are not ours.
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";

let failed = 0;
for (const folder of ["public/js", "scripts", "tests"]) {
  const base = new URL(`../${folder}/`, import.meta.url);
  for (const name of readdirSync(base).filter((file) => /\.m?js$/.test(file))) {
    const path = fileURLToPath(new URL(name, base));
    const { status } = spawnSync(process.execPath, ["--check", path], { stdio: "inherit" });
    if (status !== 0) failed += 1;
  }
}
process.exitCode = failed ? 1 : 0;
