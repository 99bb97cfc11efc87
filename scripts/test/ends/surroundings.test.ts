import { describe, expect, it } from "vitest";
import {
  type Command,
  commands,
  judgeEnd,
  type Surrounding,
  scriptOf,
  trialsOf,
} from "../../ends/surroundings.ts";

const command: Command = { name: "run", words: "run x", code: 0, seconds: 10, usesFolder: true };
const fatal: Surrounding = { name: "no room", setup: "cd /", kind: "fatal", says: /no room.*Next:/ };
const end = (code: number | null, text = "", seconds = 1) => ({ code, text, seconds });
const judged = (kind: Surrounding["kind"], ...ended: Parameters<typeof end>): string | null =>
  judgeEnd({ surrounding: { ...fatal, kind }, command }, end(...ended));

describe("an end", () => {
  it.each([
    ["as ever, in harmless surroundings", judged("harmless", 0), null],
    [
      "another one, in harmless surroundings",
      judged("harmless", 64, "no room. Next:"),
      "exit 64 instead of 0",
    ],
    ["refused with a message", judged("fatal", 64, "no room. Next: make some"), null],
    ["nothing ran", judged("harmful", 3, "no room. Next: make some"), null],
    ["refused without one", judged("fatal", 64, "error"), "exit 64 without a message that says"],
    ["as ever, although nothing can have been done", judged("fatal", 0), "cannot have been done"],
    ["as ever, where that may be", judged("harmful", 0), null],
    ["a defect", judged("harmful", 70, "no room. Next:"), "exit 70"],
    ["a code of no row", judged("harmful", 1, "no room. Next:"), "exit 1 is in no row"],
    ["a signal", judged("harmful", 134), "killed by signal 6"],
    ["a hang", judged("harmful", null), "it does not end"],
    ["late", judged("harmless", 0, "", 16), "it took 16.0 s of 10 s"],
    ["a stack", judged("harmful", 64, "x\n    at f (file:///a/b.js:1:2)\n"), "a stack"],
  ])("%s", (_what, problem, expected) => {
    if (expected === null) expect(problem).toBeNull();
    else expect(problem).toContain(expected);
  });

  it("may be later on a slow machine", () => {
    expect(judgeEnd({ surrounding: { ...fatal, kind: "harmless" }, command }, end(0, "", 25), 2)).toBeNull();
  });

  it("of a command that does not use what is lacking is as ever", () => {
    const unused: Surrounding = { ...fatal, uses: () => false };
    expect(judgeEnd({ surrounding: unused, command }, end(0))).toBeNull();
  });
});

describe("trials", () => {
  it("are scripts that become daxfault", () => {
    expect(scriptOf({ ...fatal, prefix: "nice", more: () => ">/dev/full" }, command)).toBe(
      'set -e\ncd /\nexec nice "$NODE" "$MAIN" run x >/dev/full',
    );
  });

  it("have names of their own, and the short form is a part of the long one", () => {
    const titles = (isShort: boolean): readonly string[] =>
      trialsOf(isShort, null).map((trial) => `${trial.surrounding.name}: ${trial.command.name}`);
    const long = titles(false);
    expect(new Set(long).size).toBe(long.length);
    expect(titles(true).filter((title) => !long.includes(title))).toEqual([]);
    expect(trialsOf(false, null).map(({ command: one }) => one.name)).toEqual(
      expect.arrayContaining(commands.map(({ name }) => name)),
    );
  });
});
