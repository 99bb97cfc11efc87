/** The model on the command line: what it says can be replayed, and reality is held against it. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { isLong } from "../../../sys/test/support/long.ts";
import { supportOf, thisMachine } from "../../src/machine.ts";
import type { ScoreRecord } from "../../src/report/records.ts";
import { cli, jsonLines } from "../support/cli.ts";
import { caseFolder } from "../support/folders.ts";

type PropertyLine = {
  readonly type: string;
  readonly proposal: string;
  readonly property: string;
  readonly holds: string;
  readonly states: number;
  readonly exhaustiveness: { readonly kind: string };
  readonly replay: string | null;
};

/** One of each answer; all of them in the long form. */
const compared = isLong
  ? []
  : [
      "efault-exit",
      "apf-guest",
      "pf-injection",
      "mce-injection",
      "remap-zero",
      "lease-kernel",
      "uniform-efault",
    ];

describe("daxfault explore", () => {
  it("finds the endless loop by itself and gives a command that tells it step by step", async () => {
    const { code, stdout } = await cli(["explore", "apf-loop", "--json", "-"]);
    expect(code).toBe(0);
    const lines = jsonLines(stdout) as unknown as readonly PropertyLine[];
    const terminates = lines.find(({ property }) => property === "terminates");
    expect(terminates).toMatchObject({ holds: "partly", exhaustiveness: { kind: "exhaustive" } });
    const words = terminates?.replay?.split(" ").slice(1) ?? [];
    const story = await cli(words);
    expect(story.code).toBe(0);
    expect(story.stdout).toContain("truncat");
    expect(story.stdout).toContain("round and round");
  });

  it("agrees with run in every cell: proposal by proposal, property by property", {
    timeout: 120_000,
  }, async () => {
    const explored = jsonLines(
      (await cli(["explore", ...compared, "--json", "-"])).stdout,
    ) as unknown as readonly PropertyLine[];
    const only = compared.flatMap((id) => ["--proposal", id]);
    const ran = await cli(["run", "--engine", "model", ...only, "--json", "-"]);
    expect(ran.code).toBe(0);
    const scores = jsonLines(ran.stdout) as unknown as readonly (ScoreRecord & { type: string })[];
    const ofRun = scores
      .filter(({ type, model }) => type === "score" && model !== null)
      .map(({ proposal, property, model }) => `${proposal} ${property} ${model?.holds}`);
    const ofExplore = explored
      .filter(({ holds }) => holds !== "unknown")
      .map(({ proposal, property, holds }) => `${proposal} ${property} ${holds}`);
    expect(ofExplore.length).toBeGreaterThan(isLong ? 400 : 80);
    expect([...ofRun].sort()).toEqual([...ofExplore].sort());
  });

  it.each([
    [["pf-copy-from-user"], ["pf-copy-from-user"]],
    [
      ["wake*", "ack"],
      ["ack", "wake-all"],
    ],
  ])("--claims decides those that are named: %j", async (names, decided) => {
    const { code, stdout } = await cli(["explore", ...names, "--claims", "--json", "-"]);
    expect(code).toBe(0);
    expect(jsonLines(stdout).map(({ id }) => id)).toEqual(decided);
  });

  it.each([
    [["--claims", "fenze"], 'no claim "fenze"; nearest: fence'],
    [["--claims", "--scenario", "load-after-truncate"], "--claims takes no --scenario"],
    [["--claims", "--replay", "1"], "--claims takes no --replay"],
    [["apf-guest", "--replay", "1", "--json", "-"], "leave out --json"],
    [["apf-guest", "--mermaid"], "--mermaid needs --replay"],
    [["apf-guest", "--no-timer"], "--no-timer needs --replay"],
  ])("%j is refused, and no part of it ignored", async (args, message) => {
    const { code, stdout, stderr } = await cli(["explore", ...args]);
    expect({ code, stdout }).toEqual({ code: 64, stdout: "" });
    expect(stderr).toContain(message);
  });

  it("gives the command that runs what is not for the model", async () => {
    const id = "backend-read-after-truncate";
    for (const replay of [[], ["--replay", "1"]]) {
      const { code, stderr } = await cli(["explore", "native", "-s", id, ...replay]);
      expect(code).toBe(64);
      expect(stderr).toContain(`${id} is not for the model: a device's access`);
      expect(stderr).toContain(`; run it: daxfault run ${id} --proposal native`);
    }
    const { code, stderr } = await cli(["explore", "native", "-s", "load-after-unmap"]);
    expect(code).toBe(64);
    expect(stderr).toContain("load-after-unmap is not for native: vmm is a VMM; without a VM there is none");
    expect(stderr).not.toContain("run it");
  });

  it("says that a scenario is about no proposal with a VM, and exits with a code of its own", async () => {
    const path = join(caseFolder(), "mine.json");
    const actors = { victim: { in: "guest-task", steps: ["load 0 8"] } };
    const mine = { id: "mine", purpose: "Of processes.", backing: { size: "1MiB" }, actors, witness: [] };
    writeFileSync(path, JSON.stringify({ ...mine, proposals: ["native"], properties: ["terminates"] }));
    const { code, stderr } = await cli(["explore", "--scenario", path]);
    expect(code).toBe(64);
    expect(stderr).toContain("is about no proposal with a VM");
    expect((await cli(["explore", "native", "--scenario", path])).code).toBe(0);
  });

  it("finds no endless loop where the error is final", async () => {
    const { stdout } = await cli(["explore", "efault-exit", "--json", "-"]);
    const lines = jsonLines(stdout) as unknown as readonly PropertyLine[];
    expect(lines.find(({ property }) => property === "terminates")).toMatchObject({ holds: "yes" });
  });

  it.each([
    [["explore", "nosuch"], /no proposal "nosuch"/u],
    [["explore", "apf-loop", "--scenario", "nosuch"], /nosuch/u],
    [["explore", "apf-loop", "--scenario", "load", "--replay", "9/9/9"], /is not enabled there/u],
    [["explore", "apf-loop", "--scenario", "load", "--replay", "x"], /x/u],
    [["explore", "--max-states", "none"], /none/u],
  ])("refuses %j with a usage error that names it", async (args, message) => {
    const { code, stderr } = await cli(args);
    expect(stderr).toMatch(message);
    expect(code).toBe(64);
  });
});

const native = supportOf(thisMachine(), ["steps"]);

describe.skipIf(native.kind === "no")("daxfault compare", () => {
  it("allows what a real run saw, and names what no order of events explains", async () => {
    const folder = caseFolder();
    const recorded = join(folder, "recorded.jsonl");
    await cli(["run", "load-after-truncate", "--engine", "process", "--json", recorded]);
    const honest = await cli(["compare", recorded]);
    expect(honest.stdout).toContain("0 are not");
    expect(honest.code).toBe(0);

    const forged = join(folder, "forged.jsonl");
    writeFileSync(forged, readFileSync(recorded, "utf8").replaceAll("sigbus(BUS_ADRERR)", "zero"));
    const caught = await cli(["compare", forged]);
    expect(caught.stdout).toContain("NOT ALLOWED");
    expect(caught.stdout).toMatch(/victim\.load#1 +value +value\n/);
    expect(caught.stdout).toMatch(/victim\.load#2 +zero +sigbus {3}<- first difference/);
    expect(caught.stdout).toMatch(/daxfault explore native --scenario load-after-truncate --replay \S+/);
    expect(caught.code).toBe(1);
  });

  it("fails where an erratum is in force and is not seen, and tells what only one engine can take", async () => {
    const folder = caseFolder();
    const recorded = join(folder, "recorded.jsonl");
    const scenarios = ["load-after-truncate", "load-behind-short-read"];
    const engines = ["--engine", "process", "--engine", "kvm"];
    const env = { DAXFAULT_NO_KVM: "1" };
    await cli(["run", ...scenarios, ...engines, "--json", recorded], { env });
    const honest = await cli(["compare", recorded]);
    expect(honest.stdout).toContain("1 cases not supported by the model:\n  1 x the model has no READ");
    expect(honest.stdout).toMatch(
      /cases that only the model can run:\n {2}\d+ x kvm: DAXFAULT_NO_KVM=1 says so/,
    );
    const gone = join(folder, "gone.jsonl");
    const verdict = /"verdict":\{"kind":"pass","reason":"[^"]*"\}/;
    const other =
      '"verdict":{"kind":"xpass","reason":"erratum pvm is in force here but is not seen: remove it"}';
    writeFileSync(gone, readFileSync(recorded, "utf8").replace(verdict, other));
    const caught = await cli(["compare", gone]);
    expect(caught.stdout).toContain("ERRATUM GONE  erratum pvm is in force here");
    expect(caught.code).toBe(1);
  });

  it("refuses a file that is no recorded run", async () => {
    const { code, stderr } = await cli(["compare", join(caseFolder(), "missing.jsonl")]);
    expect(stderr).toContain("missing.jsonl");
    expect(code).toBe(64);
  });
});
