/** Sharding, repeating, listing, and merging what was recorded: from outside. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { cli, jsonLines } from "../support/cli.ts";
import { caseFolder } from "../support/folders.ts";

/** Cases of the model alone: they run everywhere. */
const args = ["run", "load-after-truncate", "store-after-truncate", "--engine", "model", "--verbose"];

/** What a report says, without what differs from run to run. */
const stable = (text: string): string => text.replaceAll(/ in [0-9.]+ s\./g, " in some time.");

describe("daxfault report", () => {
  it("renders a recorded run as the run itself did", async () => {
    const file = join(caseFolder(), "run.jsonl");
    const run = await cli([...args, "--json", file]);
    const report = await cli(["report", file]);
    expect(report.code).toBe(run.code);
    expect(report.stdout).toBe(run.stdout);
  });

  it("merges shards into the report of the whole run", async () => {
    const folder = caseFolder();
    const whole = await cli([...args, "--ktap", join(folder, "whole.ktap")]);
    const shards = [1, 2, 3].map((index) => join(folder, `${index}.jsonl`));
    for (const [index, file] of shards.entries()) {
      const { code, stderr } = await cli([...args, "--shard", `${index + 1}/3`, "--json", file]);
      expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    }
    const merged = join(folder, "merged.jsonl");
    const report = await cli(["report", ...shards, "--ktap", join(folder, "merged.ktap"), "--json", merged]);
    expect(report.code).toBe(0);
    const results = (name: string): readonly string[] =>
      readFileSync(join(folder, name), "utf8")
        .split("\n")
        .filter((line) => !line.startsWith("#"));
    expect(results("merged.ktap")).toEqual(results("whole.ktap"));
    expect(stable(report.stdout).split("\n").at(-1)).toBe(stable(whole.stdout).split("\n").at(-1));
    // What was merged is a recorded run like any other.
    expect((await cli(["report", merged])).code).toBe(0);
    const [first = "", , third = ""] = shards;
    const partial = await cli(["report", first, third]);
    expect(partial.code).toBe(2);
    expect(partial.stdout).toContain("This is part of the run only: shard 2 of 3 is missing.");
  });

  it("marks a run that was killed, and refuses what is none", async () => {
    const folder = caseFolder();
    const file = join(folder, "run.jsonl");
    await cli([...args, "--json", file]);
    const text = readFileSync(file, "utf8");
    const cut = join(folder, "cut.jsonl");
    writeFileSync(cut, text.slice(0, text.indexOf('{"type":"score"') - 40));
    const { code, stdout } = await cli(["report", cut]);
    expect(code).toBe(2);
    expect(stdout).toMatch(/part of the run only: 1 of \d+ cases .* it broke off/);
    writeFileSync(cut, "{}\n");
    expect((await cli(["report", cut])).stderr).toContain(`${cut}:1: not a line of daxfault run --json`);
    writeFileSync(cut, "no\n");
    expect(await cli(["report", cut])).toMatchObject({
      code: 64,
      stderr: expect.stringContaining(":1:1: not JSON: invalid symbol"),
    });
    expect((await cli(["report", join(folder, "none")])).stderr).toContain("ENOENT");
  });
});

describe("daxfault run", () => {
  it("--list says what would run, and runs nothing", async () => {
    const text = await cli([...args, "--list"]);
    const records = jsonLines((await cli([...args, "--list", "--json", "-"])).stdout);
    expect(text.code).toBe(0);
    expect(text.stdout.split("\n")).toHaveLength(records.length);
    expect(text.stdout).toContain("load-after-truncate x apf-loop x model");
    expect(records[0]).toMatchObject({ type: "planned", engine: "model", skip: null });
  });

  it("--repeat counts outcomes", async () => {
    const { code, stdout } = await cli([...args, "--proposal", "apf-loop", "--repeat", "3"]);
    expect(code).toBe(0);
    expect(stdout).toContain("2 cases run several times (6 runs): each came out the same every time");
  });

  it.each([
    [["--shard", "0/3"], "--shard: index"],
    [["--shard", "4/3"], "is not a whole number from 1 to 3"],
    [["--shard", "x"], "is not of the form 2/8"],
    [["--shard", "900/1000"], "so this shard is empty"],
    // An output that cannot be written is refused before the machine is looked at, which an empty shard is known by.
    [["--shard", "900/1000", "--html", "/nope/x"], "--html /nope/x: ENOENT"],
    [["--timeout", "0", "--engine", "nosuch"], "--timeout"],
    [["--repeat", "0"], "--repeat"],
    [["--busy", "65"], "--busy"],
    [["--json", "-", "--junit", "-"], "only one format"],
    [["--scenarios", "/nowhere"], "/nowhere"],
  ])("refuses %j", async (more, message) => {
    const { code, stdout, stderr } = await cli([...args, ...more]);
    expect({ code, stdout }).toEqual({ code: 64, stdout: "" });
    expect(stderr).toContain(message);
  });
});
