/** What counts as a bad end, and that each of them can be repeated. */
import { describe, expect, it } from "vitest";
import { parseAsked } from "../check-ends.ts";
import { attackOf, attackProblem } from "../ends/children.ts";
import type { Command } from "../ends/commands.ts";
import { endProblem, killOf, wasDone } from "../ends/kills.ts";
import { defectIn, type End } from "../ends/trial.ts";

const endWith = (changes: Partial<End>): End => ({
  code: 0,
  signal: null,
  stdout: "",
  stderr: "",
  tookMs: 100,
  ...changes,
});

const run: Command = { name: "run", args: ["run"], leaves: /^$/ };
const server: Command = { ...run, name: "serve", isServer: true };
const undisturbed = { spanMs: 1000, end: endWith({ stdout: "3 pass in 1.5 s\n" }) };

describe("the arguments", () => {
  it.each([
    [[], { kills: 400, seed: 7, only: null, names: ["kills", "children", "stdio", "surroundings"] }],
    [["40", "kills"], { kills: 40, seed: 7, only: null, names: ["kills"] }],
    [["--seed", "3", "--only", "12", "kills"], { kills: 400, seed: 3, only: 12, names: ["kills"] }],
  ])("%j", (args, expected) => {
    expect(parseAsked(args, 7)).toEqual(expected);
  });

  it.each([[["0"]], [["kill"]], [["--only", "3"]], [["--seed", "x"]], [["--wrong"]], [["constructor"]]])(
    "%j are refused",
    (args) => {
      expect(parseAsked(args, 7)).toBeNull();
    },
  );
});

describe("a kill", () => {
  const kill = { command: run, signal: "SIGTERM", to: "process", at: 0.5 } as const;

  it("depends on seed and index alone", () => {
    expect(killOf(5, 17)).toEqual(killOf(5, 17));
    expect(killOf(5, 17).at).not.toBe(killOf(6, 17).at);
    expect(attackOf(5, 3)).toEqual(attackOf(5, 3));
  });

  it("meets every command with every signal", () => {
    const list = [run, server];
    const met = new Set(
      Array.from({ length: 8 }, (_, index) => killOf(1, index, list)).map(
        ({ command, signal }) => `${command.name} ${signal}`,
      ),
    );
    expect(met.size).toBe(8);
  });

  it.each([
    ["the signal's exit code", endWith({ code: 143 }), null],
    ["an end by the signal", endWith({ code: null, signal: "SIGTERM" }), null],
    ["complete output, with other figures", endWith({ stdout: "3 pass in 22.7 s\n" }), null],
    ["a zero without complete output", endWith({ stdout: "" }), /exit code 0, and not all was done/],
    ["another signal's exit code", endWith({ code: 130 }), /exit code 130/],
    ["exit code 70", endWith({ code: 70 }), /exit code 70/],
    ["no end", null, /no end within/],
    [
      "a stack",
      endWith({ code: 143, stderr: "Error: x\n    at run (file:///a/b.js:1:2)\n" }),
      /a defect in its output: at run/,
    ],
  ])("with %s", (_what, end, problem) => {
    const found = endProblem(kill, undisturbed, end);
    if (problem === null) expect(found).toBeNull();
    else expect(found).toMatch(problem);
  });

  it("of a server is as asked once the mount was reported, and not before", () => {
    const none = { spanMs: 1000, end: null };
    expect(wasDone(server, none, endWith({ stdout: '{"type":"ready"}\n' }))).toBe(true);
    expect(wasDone(server, none, endWith({}))).toBe(false);
  });
});

describe("a child that was killed or stopped", () => {
  const kind = { entry: "mapper-main", named: /process of /, commands: ["run"] };
  it.each([
    ["was done with its work", endWith({}), null],
    ["is named", endWith({ code: 2, stdout: "process of victim: killed by SIGKILL" }), null],
    ["is named nowhere", endWith({ code: 2 }), /named nowhere/],
    ["becomes a finding of the kernel's", endWith({ code: 1 }), /exit code 1/],
    ["is a defect", endWith({ code: 70 }), /exit code 70/],
    ["hangs its command", null, /no end/],
  ])("%s", (_what, end, problem) => {
    const found = attackProblem({ kind }, endWith({}), end);
    if (problem === null) expect(found).toBeNull();
    else expect(found).toMatch(problem);
  });
});

it.each(["daxfault: this is a defect of daxfault: x", "daxfault run: defect: process 1 does not die"])(
  "our own fault is seen: %s",
  (stderr) => {
    expect(defectIn(endWith({ code: 2, stderr }))).toContain("a defect in its output");
  },
);
