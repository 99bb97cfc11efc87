/** The user's surroundings are no defect of daxfault: one message with what is wrong and what to do, exit code 64. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { supportOf, thisMachine } from "../../src/machine.ts";
import { cli } from "../support/cli.ts";
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
