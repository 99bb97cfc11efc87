/**
 * `npm ci` of packages in tarballs beside the project, without network: thousands of small files unpacked, links in .bin,
 * scripts run; then again over what is there, which npm first renames and removes.
 */
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { command, complaint, type Effort, type Place, type Suite } from "./suite.ts";

/** Packages, and files of each. */
const AMOUNT: Readonly<Record<Effort, { packages: number; files: number }>> = {
  whole: { packages: 10, files: 40 },
  short: { packages: 3, files: 5 },
};

/** One package in so many has a script that npm runs: starting one costs more than unpacking ten. */
const SCRIPT_EACH = 5;

const CHECK = `
const { readFileSync } = require("node:fs");
const names = Object.keys(require("./package.json").dependencies);
for (const [at, name] of names.entries()) {
  if (require(name) !== at) throw new Error(name + " exports " + require(name));
  if (at % ${SCRIPT_EACH} === 0 && readFileSync("node_modules/" + name + "/installed", "utf8") !== name) throw new Error(name + ": its script has not run");
}
console.log("checked " + names.length);
`;

type Tarball = { readonly name: string; readonly integrity: string; readonly hasInstallScript: boolean };

/** A package's tarball in `project`, made below `beside`. */
async function tarball(
  { beside, project }: { beside: string; project: string },
  at: number,
  place: Place,
): Promise<Tarball> {
  const name = `package-${at}`;
  const base = join(beside, name);
  const root = join(base, "package");
  mkdirSync(join(root, "lib/deep"), { recursive: true });
  const { files } = AMOUNT[place.effort];
  for (let i = 0; i < files; i += 1) {
    writeFileSync(
      join(root, i % 2 === 0 ? "lib" : "lib/deep", `file-${i}.js`),
      `// ${"x".repeat(i * 211)}\n`,
    );
  }
  writeFileSync(join(root, "index.js"), `module.exports = ${at};\n`);
  writeFileSync(join(root, "run.js"), `#!/usr/bin/env node\nconsole.log("${name} runs");\n`);
  const hasInstallScript = at % SCRIPT_EACH === 0;
  const install = `node -e "require('fs').writeFileSync('installed','${name}')"`;
  const manifest = {
    name,
    version: "1.0.0",
    bin: { [name]: "run.js" },
    scripts: hasInstallScript ? { install } : {},
  };
  writeFileSync(join(root, "package.json"), JSON.stringify(manifest));
  const path = join(project, `${name}.tgz`);
  await command("tar", ["-czf", path, "-C", base, "package"], { cwd: beside, signal: place.signal });
  const integrity = `sha512-${createHash("sha512").update(readFileSync(path)).digest("base64")}`;
  return { name, integrity, hasInstallScript };
}

/** package.json and its lock. */
function writeProject(project: string, tarballs: readonly Tarball[]): void {
  const dependencies = Object.fromEntries(tarballs.map(({ name }) => [name, `file:${name}.tgz`]));
  const about = { name: "project", version: "1.0.0", dependencies };
  writeFileSync(join(project, "package.json"), JSON.stringify(about));
  const packages = tarballs.map(({ name, integrity, hasInstallScript }) => {
    const bin = { [name]: "run.js" };
    const entry = { version: "1.0.0", resolved: `file:${name}.tgz`, integrity, hasInstallScript, bin };
    return [`node_modules/${name}`, entry] as const;
  });
  const lock = { ...about, lockfileVersion: 3, requires: true };
  const all = { "": about, ...Object.fromEntries(packages) };
  writeFileSync(join(project, "package-lock.json"), JSON.stringify({ ...lock, packages: all }));
  writeFileSync(join(project, "check.js"), CHECK);
}

async function run(place: Place): Promise<readonly string[]> {
  const { folder, beside, effort, signal } = place;
  const project = join(folder, "project");
  mkdirSync(project);
  const tarballs: Tarball[] = [];
  for (let i = 0; i < AMOUNT[effort].packages; i += 1) {
    tarballs.push(await tarball({ beside, project }, i, place));
  }
  writeProject(project, tarballs);
  const where = { cwd: project, signal };
  const quiet = [
    "--offline",
    "--no-audit",
    "--no-fund",
    "--no-update-notifier",
    "--loglevel=error",
    "--logs-max=0",
  ];
  // npm 11.16 asks for leave; before, the word means nothing.
  const scripts = ["--dangerously-allow-all-scripts"];
  const install = ["npm", "ci", ...quiet, "--cache", join(folder, "cache"), ...scripts];
  const last = tarballs.at(-1)?.name ?? "";
  const steps: readonly (readonly [string, readonly string[]])[] = [
    ["ci", install],
    ["check", ["node", "check.js"]],
    ["bin", [join(project, "node_modules/.bin", last)]],
    ["ci again", install],
    ["check again", ["node", "check.js"]],
  ];
  const complaints: string[] = [];
  for (const [title, args] of steps) complaints.push(...(await complaint(title, args, where)));
  return complaints.map((text) => text.replaceAll(folder, "").replaceAll(beside, ""));
}

export const npm: Suite = { name: "npm ci", needs: ["npm", "node", "tar"], isAboutContent: false, run };
