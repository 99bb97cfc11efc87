import { describe, expect, it } from "vitest";
import { type KvmPart, kvmParts, type Parts } from "../../../language/src/index.ts";
import {
  caseOf,
  checkDeterminism,
  checkLocalActions,
  claims,
  collectFacts,
  explore,
  guestModel,
  modelCase,
} from "../../src/index.ts";

const stock: Parts = {
  kvm: "today",
  exits: "kvm",
  vmm: "stop",
  guest: "apf",
  server: "none",
  lapic: "kernel",
};
const guestFor = (kvm: KvmPart): Parts["guest"] =>
  kvm === "ready-error" ? "apf-error" : kvm === "inject-ve" ? "ve" : "apf";

describe("the model", () => {
  it("has as many states as when they were last looked at", () => {
    const counts = Object.fromEntries(
      kvmParts.map((kvm) => {
        const parts = { ...stock, kvm, guest: guestFor(kvm) };
        return [
          kvm,
          ["load", "two-victims"].map((situation) => {
            const graph = explore(guestModel(caseOf(situation as "load", parts)).model);
            return graph.states;
          }),
        ];
      }),
    );
    expect(counts).toMatchInlineSnapshot(`
      {
        "error-gfn": [
          1349,
          11581,
        ],
        "error-pending": [
          1349,
          10963,
        ],
        "exit-request": [
          1001,
          8473,
        ],
        "final-efault": [
          480,
          1497,
        ],
        "inject-mce": [
          618,
          2309,
        ],
        "inject-ve": [
          714,
          2309,
        ],
        "legacy-pf": [
          772,
          4854,
        ],
        "memory-fault-exit": [
          856,
          6293,
        ],
        "ready-error": [
          1570,
          11344,
        ],
        "today": [
          856,
          6293,
        ],
        "uniform-efault": [
          1349,
          12275,
        ],
      }
    `);
  });

  it("is deterministic", () => {
    for (const claim of claims) checkDeterminism(guestModel(claim.of).model, 11, 5, 120);
  });

  it("prints its state by name", () => {
    const { model } = guestModel(caseOf("load", stock));
    const state = new Uint8Array(model.stateBytes);
    model.initial(state);
    expect(model.layout.print(state)).toMatchInlineSnapshot(
      `"host.i_size=1 page.cache=1 guest.i_size=1 vcpu.task=255"`,
    );
  });
});

describe("the reduction", () => {
  it("is sound: local steps commute with everybody's and no property sees them", () => {
    let pairs = 0;
    for (const claim of claims) {
      const { model, ctx } = guestModel(claim.of);
      const graph = explore(model);
      const { marks, vm, kernel } = ctx.offsets;
      pairs += checkLocalActions(
        graph,
        (s) => ((s[marks] ?? 0) << 16) | ((s[vm] ?? 0) << 8) | (s[kernel] ?? 0),
      );
    }
    expect(pairs).toBeGreaterThan(1000);
  });

  it("changes no verdict of any claim, and no state is added", () => {
    for (const claim of claims) {
      const full = collectFacts(guestModel(claim.of));
      const reduced = collectFacts(guestModel(claim.of), { reduce: true });
      const reachable = (facts: typeof full.facts): string[] =>
        Object.entries(facts.found).flatMap(([fact, finding]) => (finding === null ? [] : [fact]));
      expect([claim.id, reachable(reduced.facts)]).toEqual([claim.id, reachable(full.facts)]);
      expect(reduced.graph.states).toBeLessThanOrEqual(full.graph.states);
    }
  });
});

describe("a wrong description is a clear error", () => {
  const victim = { name: "victim", vcpu: 0, steps: [{ op: "load", page: 0 }] } as const;
  it.each([
    ["an unknown part", { kvm: "tomorrow" as KvmPart }, /no kvm part is called tomorrow.*one of today/],
    [
      "a page too far",
      { tasks: [{ ...victim, steps: [{ op: "load", page: 7 }] }] as const },
      /touches page 7 of 1/,
    ],
    ["a vCPU too far", { tasks: [{ ...victim, vcpu: 1 }] }, /on vCPU 1/],
    ["a signal that nobody gives", { host: [{ op: "await", name: "x" }] as const }, /nobody signals x/],
    ["two of one name", { tasks: [victim, victim] }, /two tasks of one name/],
    ["a kill of nobody", { kill: "nobody" }, /kill names no task/],
    ["a contradiction", { kvm: "ready-error" as const, lapic: "user" as const }, /needs async page faults/],
    [
      "a memory error too far",
      { host: [{ op: "memory-error", page: 1 }] as const },
      /memory-error of page 1 of 1/,
    ],
    [
      "an NMI of a later guest",
      { kvm: "legacy-pf" as const, nmi: "linux" as const },
      /protocol since 5.8 \(linux\)/,
    ],
    [
      "two pages of one gfn",
      { pages: ["resident", "resident"] as const, gfns: [7n, 7n] },
      /two pages of one gfn/,
    ],
    ["a gfn too few", { pages: ["resident", "resident"] as const, gfns: [7n] }, /1 gfns of 2 pages/],
    ["a growth past the pages", { host: [{ op: "extend", pages: 2 }] as const }, /extend to 2 pages of 1/],
    [
      "a step after counting",
      { tasks: [{ ...victim, steps: [{ op: "count" }, { op: "load", page: 0 }] }] as const },
      /after counting/,
    ],
  ])("%s", (_what, wrong, message) => {
    expect(() => modelCase({ name: "wrong", pages: ["resident"], tasks: [victim], ...wrong })).toThrow(
      message,
    );
  });
});
