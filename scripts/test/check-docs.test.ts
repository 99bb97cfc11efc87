/** What of a document is a command, and that every document's commands are ones that can be run. */
import { existsSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { commandsOf, documents, verdictOf } from "../check-docs.ts";

describe("commandsOf", () => {
  const text = [
    "Prose with `scripts/daxfault doctor` in it, and `npm run docs`.",
    "```sh",
    "scripts/daxfault run x   # one; exits 3",
    "# a remark",
    "",
    "a | b",
    "```",
    "```",
    "output of `scripts/daxfault nothing`",
    "```",
    "| task | `scripts/daxfault list engines` | exits 0 |",
    "```sh manual",
    "# needs a job system",
    "sbatch job",
    "```",
  ].join("\n");

  it("finds commands in sh fences, prose and tables, with their exit codes", () => {
    const { commands, problems } = commandsOf("x.md", text);
    expect(problems).toEqual([]);
    expect(commands.map(({ line, command, exitCode }) => [line, command, exitCode])).toEqual([
      [1, "scripts/daxfault doctor", 0],
      [3, "scripts/daxfault run x", 3],
      [6, "a | b", 0],
      [11, "scripts/daxfault list engines", 0],
    ]);
  });

  it("wants a reason for what is not run, and one name for the fences", () => {
    expect(commandsOf("x.md", "```sh manual\nls\n```").problems).toHaveLength(1);
    expect(commandsOf("x.md", "```bash\nls\n```").problems).toHaveLength(1);
  });
});

describe("verdictOf", () => {
  const missing = ["/dev/kvm does not exist"];
  it.each([
    [0, "", 0, [], "ok"],
    [3, "", 3, [], "ok"],
    [3, "nothing ran", 0, [], "FAILED"],
    [3, "nothing ran", 0, missing, "skipped"],
    [64, "no case: /dev/kvm does not exist", 0, missing, "skipped"],
    [64, "no such scenario", 0, missing, "FAILED"],
    [1, "/dev/kvm does not exist", 0, missing, "FAILED"],
    ["SIGTERM", "", 0, missing, "FAILED"],
  ] as const)("exit %s, %j, expected %s, missing %j: %s", (code, output, expected, lacks, verdict) => {
    expect(verdictOf({ code, output }, { expected, missing: lacks })).toBe(verdict);
  });
});

describe("the documents", () => {
  it.each(documents("."))("%s shows commands that can be run, or says why not", (file) => {
    const { commands, problems } = commandsOf(file, readFileSync(file, "utf8"));
    expect(problems).toEqual([]);
    for (const { command } of commands) {
      // A placeholder is no command.
      expect(command).not.toMatch(/ [A-Z]{3,}( |$)|\.\.\./);
      const [program = ""] = command.split(" ");
      if (program.startsWith("scripts/")) expect(existsSync(program)).toBe(true);
    }
  });
});
