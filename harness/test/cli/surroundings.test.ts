/** The user's surroundings are no defect of daxfault: one message with what is wrong and what to do, exit code 64. */

import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { execa } from "execa";
import { describe, expect, it } from "vitest";
import { isLong } from "../../../sys/test/support/long.ts";
import { supportOf, thisMachine } from "../../src/machine.ts";
import { builtPath } from "../../src/paths.ts";
import { DESCRIPTORS_MIN } from "../../src/surroundings.ts";
import { cli, cliProcess } from "../support/cli.ts";
import { caseFolder } from "../support/folders.ts";

const run = ["run", "load-after-truncate", "-p", "native"];

describe("a temporary folder", () => {
  it.each([
    ["that is missing", () => join(caseFolder(), "none"), "there is no such folder (ENOENT)"],
    [
      "that is a file",
      () => {
        const path = join(caseFolder(), "file");
        writeFileSync(path, "");
        return path;
      },
      "it is no folder (ENOTDIR)",
    ],
    ["on a read-only file system", () => "/proc/self", "(ENOENT)"],
    ["whose path is too long", () => `/tmp/${"x".repeat(4000)}`, "its path is too long (ENAMETOOLONG)"],
  ])("%s", async (_what, folder, message) => {
    const TMPDIR = folder();
    const { code, stderr } = await cli([...run, "-e", "model"], { env: { TMPDIR } });
    expect(stderr).toContain("temporary folder");
    expect(stderr).toContain(message);
    expect(stderr).toContain("Next: set TMPDIR to a folder that this user can write");
    expect(stderr).not.toContain("defect");
    expect(code).toBe(64);
  });

  it("that is missing, by a relative path, is no defect", async () => {
    const { code, stderr } = await cliProcess(["list", "engines"], { env: { TMPDIR: "none/of/these" } });
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  });

  it.skipIf(supportOf(thisMachine(), ["steps"]).kind === "no")(
    "may have letters outside ASCII: its processes are recognised, and the run ends",
    async () => {
      const TMPDIR = join(caseFolder(), "\u{fc}n\u{ef} \u{e7}\u{f8}d\u{e9}");
      mkdirSync(TMPDIR);
      const { code, stderr } = await cli([...run, "-e", "process"], { env: { TMPDIR } });
      expect(stderr).toBe("");
      expect(code).toBe(0);
    },
  );
});

const isRoot = process.getuid?.() === 0;
const daxfault = builtPath("harness/src/cli/bin.ts");

/** Runs daxfault at the end of a shell script, in a mount namespace of its own. */
async function shell(script: string): Promise<{ readonly code: number | undefined; readonly text: string }> {
  const lines = `set -e\n${script.replaceAll("daxfault", '"$0" "$1"')}`;
  const words = isRoot ? ["unshare", "-m", "--propagation", "private"] : ["env"];
  const result = await execa("env", [...words, "bash", "-c", lines, process.execPath, daxfault], {
    cwd: caseFolder(),
    reject: false,
    all: true,
  });
  return { code: result.exitCode, text: result.all };
}

/** Several processes, one after the other. */
const SHELL_BOUND_MS = 90_000;

const model = "run load-after-truncate -p apf-loop -e model";
const processes = "run load-after-truncate -p native -e process";

function encoded(source: string): string {
  return `data:text/javascript;base64,${Buffer.from(source).toString("base64")}`;
}

/** A module that has Node say which modules it loads: `module URL`. */
const SAY_MODULES = encoded(`import { register } from "node:module";
register("${encoded(`import { writeSync } from "node:fs";
export function load(url, context, next) {
  writeSync(1, "module " + url + "\\n");
  return next(url, context);
}`)}");`);

describe("limits", { timeout: SHELL_BOUND_MS }, () => {
  it.each([16, 32, 64, DESCRIPTORS_MIN - 1])("of %i descriptors are refused at once", async (limit) => {
    const { code, text } = await shell(`ulimit -n ${limit}\nexec daxfault ${model}`);
    // With fewer than some 20 Node does not start.
    if (limit > 20) expect(text).toContain(`may have ${limit} descriptors (ulimit -n)`);
    expect(text).not.toContain("defect");
    if (limit > 20) expect(code).toBe(64);
  });

  it.runIf(isLong)(`of ${DESCRIPTORS_MIN} are enough, however many modules Node opens at once`, async () => {
    const { code, text } = await shell(
      `ulimit -n ${DESCRIPTORS_MIN}\nNODE_OPTIONS="--import ${SAY_MODULES}" exec daxfault ${model}`,
    );
    expect(code).toBe(0);
    const modules = text.split("\n").filter((line) => line.startsWith("module file:"));
    expect(modules.length).toBeGreaterThan(100);
    // The rest is for what runs while the last ones are loaded.
    expect(modules.length).toBeLessThan(DESCRIPTORS_MIN - 128);
  });
});

describe("a working directory that is gone", { timeout: SHELL_BOUND_MS }, () => {
  it("is named", async () => {
    const { code, text } = await shell(
      `mkdir w; cd w; rmdir ../w\nexec daxfault repro hang-without-apf -e model`,
    );
    expect(text).toContain("the working directory does not exist any more");
    expect(code).toBe(64);
  });
});

describe.skipIf(supportOf(thisMachine(), ["mmap-io"]).kind === "no")(
  "without PATH",
  { timeout: SHELL_BOUND_MS },
  () => {
    it.runIf(isLong)("programs are found in the standard places", async () => {
      const { code, text } = await shell(`unset PATH\nexec daxfault ${processes}`);
      expect(text).toContain("1 pass");
      expect(code).toBe(0);
    });
  },
);

describe.skipIf(!isRoot)("a namespace", { timeout: SHELL_BOUND_MS }, () => {
  it.runIf(isLong).each([
    ["without /proc", "mkdir p; mount --bind p /proc", "", "/proc is not mounted"],
    ["of PIDs with the old /proc", ":", "unshare -fp ", "/proc is that of another PID namespace"],
  ])("%s", async (_what, setup, prefix, message) => {
    const { code, text } = await shell(`${setup}\nexec ${prefix}daxfault ${model}`);
    expect(text).toContain(message);
    expect(text).toContain("Next: mount -t proc proc /proc");
    expect(code).toBe(64);
  });

  it.runIf(isLong)("with a temporary folder that has room for two folders only", async () => {
    const { code, text } = await shell(
      `mkdir t; mount -t tmpfs -o nr_inodes=3 none t\nTMPDIR=$PWD/t exec daxfault ${model}`,
    );
    expect(text).toContain("ENOSPC");
    expect(text).toContain("Next: free some there; temporary files lie in");
    expect(code).toBe(64);
  });
});

describe("a cache", () => {
  // Without apt nothing of it is asked for.
  it.skipIf(!existsSync("/usr/bin/apt-get"))(
    "of kernels that cannot be written is no defect, and the message says what to do",
    async () => {
      const path = join(caseFolder(), "file");
      writeFileSync(path, "");
      const { code, stderr } = await cliProcess(["kernels"], { env: { XDG_CACHE_HOME: path } });
      expect(code).not.toBe(70);
      expect(stderr).toMatch(/the cache cannot be written: ENOTDIR.*\(XDG_CACHE_HOME names another place\)/);
    },
  );
});
