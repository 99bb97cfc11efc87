import { describe, expect, it } from "vitest";
import type { ObservedCase, ObservedFile } from "../../src/compare/observed.ts";
import { causes, symptomsText } from "../../src/compare/symptoms.ts";
import { loadScenarios } from "../../src/fixtures.ts";

const scenarios = loadScenarios();

function observed(scenario: string, proposal: string, vmm: string, last: string): ObservedCase {
  const facts = { history: vmm, exitAt: null, wasRecalled: false, nmi: false, hostMs: null };
  const words = { steps: { "victim.load#1": last }, bystanders: {}, vmm, guestKernel: "alive" };
  const engine = "kernel:debian:6.12";
  return {
    scenario,
    scenarioHash: "",
    proposal,
    engine,
    kvmBackend: "kvm_amd",
    words,
    verdict: "pass",
    facts,
  };
}

const recordings = (...cases: ObservedCase[]): ReadonlyMap<string, ObservedFile> =>
  new Map([["a-kernel", { about: "", cases }]]);

const linesOf = (text: string, scenario: string): readonly string[] =>
  text.split("\n").filter((line) => line.includes(`\`${scenario}\` on`));
const lineOf = (text: string, scenario: string): string => linesOf(text, scenario)[0] ?? "none";

describe("the page of symptoms", () => {
  it("has causes that are scenarios", () => {
    const ids = scenarios.map(({ id }) => id);
    expect(causes.map(({ scenario }) => scenario).filter((id) => !ids.includes(id))).toEqual([]);
  });

  it("puts causes under what was recorded of them, not under what is expected", () => {
    const text = symptomsText(
      scenarios,
      recordings(
        observed("load-after-truncate", "efault-exit", "stopped(efault)", "killed"),
        observed("load-after-server-killed", "efault-exit", "waiting", "hung"),
      ),
    );
    expect(lineOf(text, "load-after-truncate")).toContain("Bad address");
    expect(lineOf(text, "load-after-server-killed")).toContain("a vCPU sleeps");
    expect(text).toContain("Not recorded so far: `load-of-private-page-after-truncate` (L0)");
  });

  it("takes the guest that people run, and another kind beside it where that looks different", () => {
    const loops = observed("load-after-truncate", "apf-loop", "looping", "hung");
    const sleeps = observed("load-after-truncate", "apf-guest", "running", "hung");
    const other = symptomsText(scenarios, recordings(loops));
    expect(lineOf(other, "load-after-truncate")).toContain("burns a core");
    expect(lineOf(other, "load-after-truncate")).not.toContain("no async page faults");
    const both = symptomsText(scenarios, recordings(loops, sleeps));
    const [usual, second] = linesOf(both, "load-after-truncate");
    expect(usual).toContain("one task of the guest sleeps for ever");
    expect(second).toMatch(/burns a core.*guest has no async page faults/);
    const alike = observed("load-after-truncate", "apf-guest", "looping", "hung");
    expect(linesOf(symptomsText(scenarios, recordings(loops, alike)), "load-after-truncate")).toHaveLength(1);
  });

  it("leaves out what was not as expected, and kernels with patches", () => {
    const failed = {
      ...observed("load-after-truncate", "efault-exit", "looping", "hung"),
      verdict: "fail",
    } as const;
    expect(lineOf(symptomsText(scenarios, recordings(failed)), "load-after-truncate")).toBe("none");
    const patches = [{ name: "final-efault", sha256: "" }];
    const kernel = { release: "", kvmBackend: "kvm_amd", origin: null, accelerator: null, patches } as const;
    const cases = [observed("load-after-truncate", "apf-guest", "stopped(efault)", "killed")];
    const patched = new Map([["patched", { about: "", kernels: [kernel], cases }]]);
    expect(lineOf(symptomsText(scenarios, patched), "load-after-truncate")).toBe("none");
  });
});
