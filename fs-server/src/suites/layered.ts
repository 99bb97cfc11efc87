/** Suites of programs that ask much of what lies below them: a database with two writers, a package manager, overlayfs. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { command, complaint, type Place, type Suite, type Where } from "./suite.ts";

const ROWS = { whole: 300, short: 30 } as const;

/** Two processes that insert, each row a transaction, in WAL mode: locks and a shared mapping of the -shm file. */
export const sqlite: Suite = {
  name: "sqlite with two writers",
  needs: ["sqlite3"],
  run: async ({ folder, effort, signal }) => {
    const where = { cwd: folder, signal };
    const ask = (sql: string): Promise<{ code: number | string; output: string }> =>
      command("sqlite3", ["-cmd", ".timeout 60000", "db", sql], where);
    const mode = await ask("PRAGMA journal_mode=WAL; CREATE TABLE t(who, n)");
    const rows = ROWS[effort];
    const insert = (who: number): string =>
      Array.from(
        { length: rows },
        (_, n) => `BEGIN IMMEDIATE; INSERT INTO t VALUES(${who}, ${n}); COMMIT;`,
      ).join("");
    const written = await Promise.all([insert(1), insert(2)].map(ask));
    const found = await ask("SELECT who, count(*), sum(n) FROM t GROUP BY who; PRAGMA integrity_check");
    const sum = (rows * (rows - 1)) / 2;
    return [
      ...(mode.output.trim() === "wal" ? [] : [`no WAL: ${mode.output.trim()}`]),
      ...written.filter(({ code }) => code !== 0).map(({ output }) => `a writer ends with ${output.trim()}`),
      ...(found.output.trim() === `1|${rows}|${sum}\n2|${rows}|${sum}\nok`
        ? []
        : [`the table has ${found.output.trim()}`]),
    ];
  },
};

const PACKAGES = { whole: 25, short: 4 } as const;

/** `npm ci` of packages that were packed beside: many small files, renames, links to programs. */
export const npm: Suite = {
  name: "npm ci",
  needs: ["npm"],
  run: async ({ folder, beside, effort, signal }) => {
    const dependencies: Record<string, string> = {};
    for (let i = 0; i < PACKAGES[effort]; i += 1) {
      const name = `package-${i}`;
      const own = join(beside, name);
      mkdirSync(join(own, "lib"), { recursive: true });
      const text = { name, version: "1.0.0", bin: { [name]: "./run.js" } };
      writeFileSync(join(own, "package.json"), JSON.stringify(text));
      writeFileSync(join(own, "run.js"), `#!/usr/bin/env node\nconsole.log(require("./lib/0.js"));\n`);
      for (let file = 0; file < 20; file += 1) {
        writeFileSync(join(own, "lib", `${file}.js`), `module.exports = ${i * 100 + file};\n`);
      }
      dependencies[name] = `file:../${name}-1.0.0.tgz`;
    }
    const where = { cwd: beside, signal };
    const own = Object.keys(dependencies).map((name) => `./${name}`);
    const offline = ["--offline", "--no-audit", "--no-fund", "--cache", join(beside, "cache")];
    const app = join(folder, "app");
    mkdirSync(app);
    writeFileSync(join(app, "package.json"), JSON.stringify({ name: "app", version: "1.0.0", dependencies }));
    return [
      ...(await complaint("pack", ["npm", "pack", "--silent", "--pack-destination", folder, ...own], where)),
      ...(await complaint("install", ["npm", "install", ...offline], { cwd: app, signal })),
      ...(await complaint("ci", ["npm", "ci", ...offline], { cwd: app, signal })),
      ...(await complaint("run", ["sh", "-c", 'test "$(node_modules/.bin/package-3)" = 300'], {
        cwd: app,
        signal,
      })),
    ];
  },
};

/** What is done in the merged folder, and how its outcome is told. */
const WORK = `set -e
cat old/file >/dev/null; echo more >> old/file; chmod 640 old/other; rm old/gone; mkdir new; echo x > new/file
mv old/moved new/moved; ln new/file new/link; rm -r tree; mkdir tree; ln -s old/file sym; truncate -s 3 old/short
touch -d @1000 old/times; mv new renamed`;
const TOLD =
  "find . -mindepth 1 \\( -type f -printf '%P %s %m %n\\n' -o -type l -printf '%P %l\\n' -o -printf '%P %m\\n' \\) | sort; " +
  "find . -type f | sort | xargs md5sum; stat -c %Y old/times";

async function makeLower(lower: string, where: Where): Promise<readonly string[]> {
  const names = "file other gone moved short times";
  const script = `mkdir -p ${lower}/old ${lower}/tree/deep && cd ${lower} && for n in ${names}; do echo content of $n > old/$n; done; echo y > tree/deep/z`;
  return await complaint("lower", ["sh", "-c", script], where);
}

async function layered(
  title: string,
  { lower, upper, merged }: { readonly lower: string; readonly upper: string; readonly merged: string },
  where: Where,
): Promise<readonly string[]> {
  const options = `lowerdir=${lower},upperdir=${upper}/up,workdir=${upper}/work`;
  const plain = `${merged}-plain`;
  const made = [
    ...(await makeLower(lower, where)),
    ...(await makeLower(plain, where)),
    ...(await complaint(title, ["mkdir", "-p", `${upper}/up`, `${upper}/work`, merged], where)),
  ];
  const mounted = await command("mount", ["-t", "overlay", "overlay", "-o", options, merged], where);
  if (mounted.code !== 0) return [...made, `${title}: cannot be mounted`];
  try {
    const outcomes: string[] = [];
    for (const cwd of [merged, plain]) {
      const { code, output } = await command("sh", ["-c", `${WORK}; ${TOLD}`], { ...where, cwd });
      outcomes.push(`${code} ${output}`);
    }
    const [found, expected] = outcomes;
    return found === expected ? made : [...made, `${title}: differs from a plain folder`];
  } finally {
    await command("umount", ["-l", merged], { ...where, signal: new AbortController().signal });
  }
}

/** overlayfs with the judged file system as its lower, and as its upper layer. */
export const overlay: Suite = {
  name: "overlayfs",
  needs: ["mount", "setpriv"],
  run: async ({ folder, beside, signal }: Place) => {
    if (process.geteuid?.() !== 0) return ["needs root to mount"];
    const where = { cwd: beside, signal };
    const [below, above] = [join(beside, "merged-below"), join(beside, "merged-above")];
    return [
      ...(await layered(
        "as lower layer",
        { lower: join(folder, "lower"), upper: join(beside, "upper"), merged: below },
        where,
      )),
      ...(await layered(
        "as upper layer",
        { lower: join(beside, "lower"), upper: join(folder, "upper"), merged: above },
        where,
      )),
    ];
  },
};
