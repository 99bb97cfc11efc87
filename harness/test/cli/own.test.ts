/** The user's own scenarios and proposals: begun by `daxfault new`, used like built-in ones, refused with file and line. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { supportOf, thisMachine } from "../../src/machine.ts";
import { cli, jsonLines } from "../support/cli.ts";
import { caseFolder } from "../support/folders.ts";

const native = supportOf(thisMachine(), ["steps"]).kind === "yes" ? ["process"] : [];

function edit(path: string, from: string, to: string): void {
  const text = readFileSync(path, "utf8");
  expect(text).toContain(from);
  writeFileSync(path, text.replace(from, to));
}

describe("daxfault new", () => {
  it("begins a scenario that runs, with its expectations, and never overwrites", async () => {
    const cwd = caseFolder();
    const made = await cli(["new", "scenario", "mine/my-case.json"], { cwd });
    expect(made).toMatchObject({ code: 0, stdout: "mine/my-case.json\nmine/kinds/my-case.json" });
    const again = await cli(["new", "scenario", "mine/my-case.json"], { cwd });
    expect(again).toMatchObject({ code: 64, stderr: "daxfault: mine/my-case.json is there already" });
    const args = ["run", "my-case", "--scenarios", "mine", "--engine", "model", ...native];
    const { code, stdout } = await cli(args, { cwd });
    expect(stdout).toContain("my-case");
    expect(code).toBe(0);
    const listed = await cli(["list", "scenarios", "--scenarios", "mine", "--json", "-"], { cwd });
    expect(jsonLines(listed.stdout).map(({ id }) => id)).toContain("my-case");
    // The recorded case says how to run it again.
    const lines = jsonLines((await cli([...args, "--json", "-"], { cwd })).stdout);
    expect(lines.find(({ type }) => type === "case")?.replay).toContain(
      "run my-case --scenarios mine --proposal",
    );
  });

  it("begins a proposal whose column of the scorecard is decided by what the model shows", async () => {
    const cwd = caseFolder();
    await cli(["new", "proposal", "my-way.json"], { cwd });
    const args = ["run", "load-after-truncate", "--proposals", "my-way.json", "-p", "my-way", "--json", "-"];
    const { code, stdout } = await cli([...args, "-e", "model"], { cwd });
    expect(code).toBe(2);
    const lines = jsonLines(stdout);
    expect(lines.find(({ type }) => type === "case")).toMatchObject({
      proposal: "my-way",
      verdict: { cause: "vacuous" },
      replay: "daxfault run load-after-truncate --proposals my-way.json --proposal my-way --engine model",
    });
    const terminates = lines.find(({ type, property }) => type === "score" && property === "terminates");
    expect(terminates).toMatchObject({
      proposal: "my-way",
      holds: "yes",
      by: "model",
      model: { exhaustive: true },
    });
  });

  it.each([
    [["new", "scenario", "x"], "the file's name is the id and .json"],
    [["new", "scenario", "My.json"], "the file's name is the id and .json"],
    [["new", "case", "x.json"], "is invalid"],
  ])("refuses %j", async (args, message) => {
    const cwd = caseFolder();
    expect(await cli(args, { cwd })).toMatchObject({ code: 64, stderr: expect.stringContaining(message) });
    expect(existsSync(join(cwd, "x.json"))).toBe(false);
  });
});

/** The commands that a text prints, as arguments. */
function commandsIn(text: string): readonly (readonly string[])[] {
  return [...text.matchAll(/daxfault (explore .*)/g)].map(([, words = ""]) => words.trim().split(" "));
}

const scenario = (id: string): string =>
  JSON.stringify({
    id,
    purpose: "x",
    backing: { size: "4MiB" },
    actors: {
      victim: { in: "guest-task", steps: ["load 0x1000 8", "signal touched", "await cut", "load 0x1000 8"] },
      host: { in: "host-process", steps: ["await touched", "truncate 0", "signal cut"] },
    },
    witness: ["victim.load#1 is value"],
    properties: ["terminates"],
  });
const family = scenario("{size}-cut")
  .replace('"purpose"', '"each":{"size":{"all":"truncate 0","half":"truncate 2MiB"}},"purpose"')
  .replace('"truncate 0","signal', '"{size}","signal');
const myWay = {
  id: "my-way",
  title: "A VMM that fences, with a guest that has no async page faults.",
  kvm: "today",
  exits: "fence",
  vmm: "inject-pf",
  guest: "unaware",
  server: "none",
  lapic: "kernel",
};

describe("the user's own scenario and proposal, in the model", () => {
  it("are compared as they were recorded, and the printed command shows the nearest end", async () => {
    const cwd = caseFolder();
    writeFileSync(join(cwd, "mine.json"), scenario("mine"));
    writeFileSync(join(cwd, "way.json"), JSON.stringify(myWay));
    const args = ["run", "mine.json", "--proposals", "way.json", "-p", "my-way", "native", "-e", "model"];
    await cli([...args, ...native, "--json", "run.jsonl"], { cwd });
    const honest = await cli(["compare", "run.jsonl"], { cwd });
    expect(honest.stderr).toBe("");
    expect(honest.stdout).toContain(`${native.length} observations are among`);
    expect(honest.stdout).toContain("2 of the recorded cases are the model's own");
    expect(honest.code).toBe(native.length > 0 ? 0 : 3);
    const text = readFileSync(join(cwd, "run.jsonl"), "utf8");
    const forged = text.replaceAll(/"load#2":"[^"]*"\},?/g, (found) =>
      found.replace(/:".*"/, ':"stale(0x1)"'),
    );
    expect(forged).not.toBe(text);
    writeFileSync(join(cwd, "forged.jsonl"), forged);
    const caught = await cli(["compare", "forged.jsonl"], { cwd });
    expect(caught.code).toBe(1);
    const commands = commandsIn(caught.stdout);
    expect(commands.map((words) => words[1])).toEqual(expect.arrayContaining(["my-way", "native"]));
    for (const words of commands) {
      const story = await cli(words, { cwd });
      expect(story.stderr).toBe("");
      expect(story.stdout).toContain("truncat");
    }
  });

  it("are explored from their files, scenario by scenario of a family, and each path can be replayed", async () => {
    const cwd = caseFolder();
    writeFileSync(join(cwd, "family.json"), family);
    writeFileSync(join(cwd, "way.json"), JSON.stringify(myWay));
    const args = ["explore", "my-way", "--scenario", "family.json", "--proposals", "way.json"];
    const { code, stdout } = await cli(args, { cwd });
    expect(code).toBe(0);
    expect(stdout).toContain("all-cut x my-way");
    expect(stdout).toContain("half-cut x my-way");
    const [words = []] = commandsIn(stdout).filter((one) => one.join(" ").includes("half-cut"));
    expect(words.join(" ").replaceAll("'", "")).toContain(
      "--scenario family.json#half-cut --proposals way.json",
    );
    const story = await cli(
      words.map((word) => word.replaceAll("'", "")),
      { cwd },
    );
    expect(story).toMatchObject({ code: 0, stderr: "" });
    const several = await cli([...args, "--replay", "1"], { cwd });
    expect(several).toMatchObject({ code: 64, stderr: expect.stringContaining("the file has 2") });
    const missing = await cli(["explore", "--scenario", "family.json#hlf-cut"], { cwd });
    expect(missing).toMatchObject({
      code: 64,
      stderr: 'daxfault: family.json: no scenario "hlf-cut" in it; nearest: all-cut, half-cut',
    });
    const one = await cli(["run", "family.json#half-cut", "-p", "native", "--list"], { cwd });
    expect(one.stdout).toContain("half-cut");
    expect(one.stdout).not.toContain("all-cut");
  });

  it("is a column of the guards where the proposal has one", async () => {
    const cwd = caseFolder();
    writeFileSync(join(cwd, "way.json"), JSON.stringify({ ...myWay, id: "my-guard", server: "sealed" }));
    const args = ["guards", "--guard", "my-guard", "--proposals", "way.json"];
    const { stderr } = await cli(args, { cwd, env: { DAXFAULT_NO_KVM: "1" } });
    expect(stderr).not.toContain("no guard");
    expect(stderr).toContain("DAXFAULT_NO_KVM=1");
  });
});

describe("a mistake in a file of the user's", () => {
  it("is named with file, line and member", async () => {
    const cwd = caseFolder();
    const scenario = join(cwd, "mine/my-case.json");
    await cli(["new", "scenario", scenario]);
    await cli(["new", "proposal", join(cwd, "my-way.json")]);
    const line = (path: string, text: string): number =>
      readFileSync(path, "utf8")
        .split("\n")
        .findIndex((one) => one.includes(text)) + 1;
    edit(scenario, '["load 0x1000 8"', '["lod 0x1000 8"');
    const verb = await cli(["run", "--scenarios", "mine"], { cwd });
    expect(verb.code).toBe(64);
    expect(verb.stderr).toContain(
      `mine/my-case.json:${line(scenario, "lod")}: actors.victim.steps[0]: unknown verb "lod"`,
    );
    edit(scenario, "lod", "load");
    edit(scenario, '"size": "4MiB"', '"size": "4MiB" "kind"');
    expect((await cli(["run", "mine/my-case.json"], { cwd })).stderr).toMatch(
      new RegExp(`mine/my-case.json:${line(scenario, '"kind" }')}:\\d+: not JSON: comma expected`),
    );
    edit(scenario, '"4MiB" "kind"', '"4MiB"');
    const kinds = join(cwd, "mine/kinds/my-case.json");
    edit(kinds, "victim.last lost", "victm.last lost");
    expect((await cli(["run", "--scenarios", "mine"], { cwd })).stderr).toContain(
      `kinds/my-case.json:${line(kinds, "victm")}: "@loops", for my-case: there is no actor "victm"; nearest: victim`,
    );
    edit(kinds, "victm", "victim");
    const proposal = join(cwd, "my-way.json");
    edit(proposal, '"vmm": "stop"', '"vmm": "stopp"');
    expect((await cli(["run", "--proposals", "my-way.json"], { cwd })).stderr).toContain(
      `my-way.json:${line(proposal, "stopp")}: vmm: Invalid option`,
    );
    edit(proposal, '"my-way"', '"apf-loop"');
    edit(proposal, "stopp", "stop");
    expect((await cli(["run", "--proposals", "my-way.json"], { cwd })).stderr).toContain(
      'two proposals are called "apf-loop"',
    );
  });
});
