/** The C reproducer: what it can tell, that it compiles without a warning, and that it shows the defect on /dev/kvm. */
import { execFileSync, spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { proposals, type Scenario, stepText } from "../../../language/src/index.ts";
import { scenarioWith } from "../../../language/test/support/cases.ts";
import { loadExpectations, loadScenarios } from "../../src/fixtures.ts";
import { supportOf, thisMachine } from "../../src/machine.ts";
import { linearize } from "../../src/repro/linear.ts";
import { generateReproducer } from "../../src/repro/reproducer.ts";
import { isAboutProposal } from "../../src/run/plan.ts";
import type { CaseResult } from "../../src/run/result.ts";
import { caseFolder } from "../support/folders.ts";
import { executionOf, resultWith } from "../support/results.ts";

const scenarios = loadScenarios();
const expectations = loadExpectations();

function hasGcc(): boolean {
  return spawnSync("gcc", ["--version"], { stdio: "ignore" }).status === 0;
}
const gcc = hasGcc() ? "" : " (skipped: there is no gcc)";
const kvm = supportOf(thisMachine(), ["kvm"]);
const onKvm = gcc !== "" ? gcc : kvm.kind === "no" ? ` (skipped: ${kvm.reason})` : "";

/** The result of a case in which its defect was seen. */
function shown(scenario: Scenario, proposal: string): CaseResult {
  const expectation = expectations.find(scenario, { id: proposal, kvm: "today" });
  const result = resultWith({ proposal, expectation });
  return { ...result, planned: { ...result.planned, scenario, argument: scenario.id } };
}

function scenarioOf(id: string): Scenario {
  const scenario = scenarios.find((one) => one.id === id);
  if (scenario === undefined) throw new Error(`no scenario ${id}`);
  return scenario;
}

function sourceOf(id: string, proposal: string): string {
  const made = generateReproducer(shown(scenarioOf(id), proposal), "0.1.0");
  if (made.kind === "none") throw new Error(`${id} x ${proposal}: ${made.reason}`);
  return made.text;
}

/** All cases with a defect, those that the generator refuses included. */
const defective = scenarios.flatMap((scenario) =>
  proposals
    .filter((proposal) => proposal.kvm !== "none" && isAboutProposal(scenario, proposal))
    .map((proposal) => shown(scenario, proposal.id))
    .filter(({ expectation }) => expectation?.defect != null),
);

describe("linearize", () => {
  it("follows the signals", () => {
    const result = linearize(scenarioWith({}));
    if (result.kind === "none") throw new Error(result.reason);
    expect(result.linear.accesses.map(stepText)).toEqual(["load 0x1000 8", "load 0x1000 8"]);
    expect([...result.linear.host].map(([after, actions]) => [after, actions.map(stepText)])).toEqual([
      [1, ["truncate 0"]],
    ]);
    expect(result.linear.leftOut).toEqual([]);
  });

  it("leaves out what waits for the vCPU to be stuck, and says so", () => {
    const result = linearize(scenarioOf("load-resumed-after-regrow"));
    expect(result.kind === "linear" && result.linear.leftOut.join(" ")).toMatch(
      /host: its last 3 steps.*vmm/,
    );
  });

  it("finds no order among several victims", () => {
    expect(linearize(scenarioOf("two-victims-and-an-innocent"))).toMatchObject({ kind: "none" });
  });

  it("makes no program of a task that runs in a guest's guest", () => {
    const result = linearize(scenarioOf("load-in-nested-guest"));
    expect(result).toMatchObject({ kind: "none", reason: /^victim runs in a guest's guest/ });
  });
});

describe("generateReproducer", () => {
  it("makes a program, or says in a sentence why not", () => {
    const made = defective.map((result) => generateReproducer(result, "0.1.0"));
    expect(made.filter(({ kind }) => kind === "source").length).toBeGreaterThanOrEqual(15);
    for (const one of made) if (one.kind === "none") expect(one.reason).toMatch(/\w+ \w+/);
  });

  it("makes one of what a booted kernel showed, too: its defect is KVM's", () => {
    const here = shown(scenarioOf("hang-without-apf"), "apf-loop");
    const inside = { ...here, planned: { ...here.planned, machine: "kernel:debian:6.1" as const } };
    expect(generateReproducer(inside, "0.1.0").kind).toBe("source");
    const process = { ...here, planned: { ...here.planned, ...executionOf("process") } };
    expect(generateReproducer(process, "0.1.0")).toMatchObject({ kind: "none", reason: /runs no KVM/ });
  });

  it("makes none where no defect of a kernel was seen", () => {
    const clean = resultWith({ scenario: scenarioOf("load-after-truncate") });
    expect(generateReproducer(clean, "0")).toMatchObject({ kind: "none", reason: /no defect/ });
    const modelled = shown(scenarioOf("hang-without-apf"), "apf-loop");
    const planned = { ...modelled.planned, ...executionOf("model") };
    expect(generateReproducer({ ...modelled, planned }, "0")).toMatchObject({ reason: /runs no KVM/ });
  });

  it("lets no text of a scenario out of its comment", () => {
    const scenario = { ...scenarioOf("hang-without-apf"), purpose: "*/ #error out /*" };
    const made = generateReproducer(shown(scenario, "apf-loop"), "0");
    expect(made.kind === "source" && made.text.indexOf("*/")).toBeGreaterThan(
      made.kind === "source" ? made.text.indexOf("The same case:") : 0,
    );
  });
});

describe.skipIf(gcc !== "")(`the program${gcc}`, () => {
  it("compiles without a warning, for every case that has one", () => {
    const folder = caseFolder();
    // The NVDIMM layout maps the same file: the same program but for its comment.
    const distinct = defective.filter(({ planned }) => !planned.scenario.id.startsWith("nvdimm/"));
    const files = distinct.flatMap((result, index) => {
      const made = generateReproducer(result, "0.1.0");
      if (made.kind === "none") return [];
      const name = `${index}.c`;
      writeFileSync(join(folder, name), made.text);
      return [name];
    });
    const flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-c"];
    expect(() => execFileSync("gcc", [...flags, ...files], { cwd: folder, stdio: "pipe" })).not.toThrow();
  });
});

/** Compiles and runs; exit code and output. */
function runProgram(source: string): { readonly code: number | null; readonly text: string } {
  const folder = caseFolder();
  writeFileSync(join(folder, "reproducer.c"), source);
  execFileSync("gcc", ["-O2", "-o", "reproducer", "reproducer.c"], { cwd: folder });
  const { status, stdout } = spawnSync("./reproducer", { cwd: folder, encoding: "utf8", timeout: 20_000 });
  return { code: status, text: stdout };
}

describe.skipIf(onKvm !== "")(`on /dev/kvm${onKvm}`, () => {
  it.each([
    ["hang-without-apf", "apf-loop", "faults for ever"],
    ["memory-fault-cap-without-exit", "efault-exit", "does not say which page"],
  ])("%s x %s exits 0 where this kernel has the defect", (id, proposal, words) => {
    const { code, text } = runProgram(sourceOf(id, proposal));
    // A kernel without the defect exits 1, which the scenario's own test then reports as xpass.
    expect([0, 1]).toContain(code);
    expect(text).toContain(code === 0 ? words : "the defect does not show");
  });

  it("exits 1 where the host does nothing, and 2 where there is no KVM", () => {
    const source = sourceOf("hang-without-apf", "apf-loop");
    const harmless = source.replace(/must\(ftruncate\(file, 0\), "ftruncate"\);/, "");
    expect(harmless).not.toBe(source);
    expect(runProgram(harmless)).toMatchObject({ code: 1 });
    const blind = runProgram(source.replaceAll('"/dev/kvm"', '"/dev/none"'));
    expect(blind).toEqual({ code: 2, text: "cannot tell: /dev/none: No such file or directory\n" });
  });
});
