/** Real kernels' tracepoints through the model: fixtures/traces. An order that the model does not have is a defect of one of them. */
import { readdirSync, readFileSync } from "node:fs";
import { beforeAll, describe, expect, it } from "vitest";
import type { Check } from "../../../kvm-model/src/index.ts";
import { type KvmPart, type KvmTrace, recordedProposal } from "../../../language/src/index.ts";
import type { RecordedTrace, TraceFile } from "../../src/cli/trace-record-main.ts";
import { modelledOn } from "../../src/compare/compare.ts";
import { type Order, orderOf } from "../../src/compare/order.ts";
import { loadScenarios } from "../../src/fixtures.ts";
import { packagePath } from "../../src/paths.ts";

const scenarios = new Map(loadScenarios().map((scenario) => [scenario.id, scenario]));
const folder = packagePath("fixtures/traces");
type Trace = RecordedTrace & { readonly kvm: KvmPart };

/** Only of scenarios that still are what was run. */
const traces: readonly Trace[] = readdirSync(folder)
  .map((file) => JSON.parse(readFileSync(`${folder}/${file}`, "utf8")) as TraceFile)
  .flatMap(({ kvm, traces: recorded }) => recorded.map((one) => ({ ...one, kvm })))
  .filter((one) => scenarios.get(one.scenario)?.hash === one.scenarioHash);

const ofLines = (lines: readonly string[]): KvmTrace => ({ kind: "trace", events: [], lines, cut: 0 });

function order(
  one: Trace,
  {
    lines = one.lines,
    without = [],
    kvm = one.kvm,
  }: { lines?: readonly string[]; without?: readonly Check[]; kvm?: KvmPart } = {},
): Order {
  const scenario = scenarios.get(one.scenario);
  if (scenario === undefined) throw new Error(`no ${one.scenario}`);
  const named = recordedProposal(one.proposal);
  if (named === null) throw new Error(`no proposal ${one.proposal}`);
  const { proposal } = modelledOn(kvm, named);
  return orderOf(scenario, proposal, { interpretsKernelMode: false }, ofLines(lines), {
    tracesSptes: one.tellsMappings,
    more: { without },
  });
}

function traceOf(scenario: string, proposal: string, kvm: KvmPart = "today"): Trace {
  const found = traces.find(
    (one) => one.scenario === scenario && one.proposal === proposal && one.kvm === kvm,
  );
  if (found === undefined) throw new Error(`fixtures/traces has no ${scenario} x ${proposal}`);
  return found;
}

const loop = traceOf("hang-without-apf", "apf-loop");

describe("the order of a kernel's tracepoints", () => {
  /** Of each trace, searched once. */
  const orders = new Map<Trace, Order>();
  beforeAll(() => {
    for (const one of traces) orders.set(one, order(one));
  }, 120_000);
  const orderOfTrace = (one: Trace): Order => orders.get(one) ?? order(one);

  it("has something to compare, of more than one kernel", () => {
    expect(new Set(traces.map(({ kernel }) => kernel)).size).toBeGreaterThan(1);
    expect(traces.filter((one) => orderOfTrace(one).kind === "followed").length).toBeGreaterThan(60);
  });

  it("is one that the model has", () => {
    const different = traces.flatMap((one) => {
      const found = orderOfTrace(one);
      return found.kind === "diverges" ? [{ ...one, found, lines: one.lines.slice(0, found.line + 1) }] : [];
    });
    expect(different).toEqual([]);
  });

  it("is the model's for a guest's guest: the shadow MMU has no tracepoint for an SPTE", () => {
    const nested = traces.filter(({ scenario }) => scenario === "load-in-nested-guest");
    expect(nested.map(({ tellsMappings }) => tellsMappings)).toEqual(nested.map(() => false));
    expect(nested.map((one) => [one.proposal, order(one).kind])).toEqual(
      nested.map(({ proposal }) => [proposal, "followed"]),
    );
    const [looping] = nested.filter(({ proposal }) => proposal === "apf-guest");
    const at = looping?.lines.findIndex((line) => line.includes("kvm_async_pf_ready")) ?? -1;
    const lines = looping?.lines.toSpliced(at, 1);
    expect(looping && lines && order(looping, { lines }).kind).toBe("diverges");
  });

  it("is held against the loop's every turn: a line that is left out shows at once", () => {
    const at = loop.lines.findIndex((line) => line.includes("kvm_async_pf_not_present"));
    const lines = loop.lines.toSpliced(at, 1);
    expect(order(loop, { lines })).toMatchObject({
      kind: "diverges",
      // Behind it the worker's line, whose place is chance and which is not compared.
      line: at + 1,
      observed: "kvm_async_pf_ready vcpu 0 page 0",
      instead: ["kvm_async_pf_not_present vcpu 0 page 0"],
    });
  });

  it("has all pages of a huge mapping in one line", () => {
    const huge = traces.filter(({ lines }) => lines.some((line) => / level 2 .*new_spte \w+8a5$/.test(line)));
    expect(huge.map((one) => [one.scenario, one.kvm, order(one).kind])).toEqual([
      ["hang-without-apf", "final-efault", "followed"],
    ]);
    const [one] = huge;
    const isZap = (line: string): boolean => / level 2 old_spte \w+8a5 /.test(line);
    const lines = one?.lines.filter((line) => !isZap(line));
    expect(one && lines && order(one, { lines }).kind).toBe("diverges");
  });

  it("shows two lines that have changed places", () => {
    const at = loop.lines.findIndex((line) => line.includes("kvm_try_async_get_page"));
    const [asked, told] = [loop.lines[at] as string, loop.lines[at + 1] as string];
    expect(order(loop, { lines: loop.lines.toSpliced(at, 2, told, asked) })).toMatchObject({
      kind: "diverges",
      line: at,
    });
  });

  it("takes the worker's line anywhere: it is written after the page's entry is done", () => {
    const at = loop.lines.findIndex((line) => line.includes("kvm_async_pf_completed"));
    const [completed, ready] = [loop.lines[at] as string, loop.lines[at + 1] as string];
    expect(ready).toContain("kvm_async_pf_ready");
    expect(order(loop, { lines: loop.lines.toSpliced(at, 2, ready, completed) }).kind).toBe("followed");
  });

  it("does not take silence for agreement", () => {
    expect(order(loop, { lines: [] })).toMatchObject({ kind: "none" });
    const worker = loop.lines.filter((line) => line.includes("kvm_async_pf_completed"));
    expect(order(loop, { lines: worker })).toMatchObject({ kind: "none" });
  });

  it("does not guess at a line that it does not know", () => {
    const lines = [...loop.lines, "node-1 [000] ..... 1.5: kvm_new_thing: gpa 0x40001000"];
    expect(order(loop, { lines })).toMatchObject({ kind: "none" });
  });
});

describe("a patched kernel's trace", () => {
  const patched = traceOf("load-after-truncate", "apf-loop", "final-efault");

  it("is one of the model of its patch, and none of a stock kernel's", () => {
    expect(order(patched).kind).toBe("followed");
    expect(order(patched, { kvm: "today" })).toMatchObject({
      kind: "diverges",
      observed: "kvm_userspace_exit vcpu 0 EFAULT",
      instead: expect.arrayContaining(["kvm_try_async_get_page vcpu 0 page 0"]),
    });
  });

  it("is told from the patches that end the loop elsewhere", () => {
    for (const kvm of ["uniform-efault", "error-gfn", "error-pending"] as const) {
      expect(order(patched, { kvm }).kind).toBe("diverges");
    }
  });
});

/** Model without a check that KVM has, and the case whose trace then is none of its. */
const noticed: readonly (readonly [Check, string, string])[] = [
  ["zap-on-truncate", "hang-without-apf", "apf-loop"],
  ["i-size-test", "hang-without-apf", "apf-loop"],
  ["fast-gup-cleared", "hang-without-apf", "apf-loop"],
  ["gfn-hash-cleared", "hang-without-apf", "apf-loop"],
  ["ready-kicks", "hang-without-apf", "apf-loop"],
  ["worker-completes", "hang-without-apf", "apf-loop"],
  ["lapic-test", "load-after-truncate", "efault-exit"],
  ["vma-test", "load-after-truncate", "pf-injection-no-apf"],
  ["gfn-hash-lookup", "load-of-failing-page", "apf-loop"],
];

describe("a model that is wrong is found out by a real kernel's trace", () => {
  for (const [check, scenario, proposal] of noticed) {
    it(`without ${check}, by ${scenario} x ${proposal}`, () => {
      const one = traceOf(scenario, proposal);
      expect(order(one).kind).toBe("followed");
      expect(order(one, { without: [check] }).kind).toBe("diverges");
    });
  }
});
