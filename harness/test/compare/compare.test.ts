/** Recorded cases against the model, and against each other. */
import { describe, expect, it } from "vitest";
import type { KvmPart, KvmTrace, Outcome, Proposal, Scenario } from "../../../language/src/index.ts";
import { proposalOf } from "../../../language/test/support/cases.ts";
import { evidenceWith, vmFacts } from "../../../language/test/support/evidence.ts";
import {
  type CaseComparison,
  compareCases,
  compareRuns,
  modelledOn,
  summarize,
} from "../../src/compare/compare.ts";
import { type Recorded, RecordingError, recordedCases } from "../../src/compare/recorded.ts";
import { caseTexts, runTexts, summaryTexts } from "../../src/compare/text.ts";
import { loadScenarios } from "../../src/fixtures.ts";
import { resultWith } from "../support/results.ts";

const today = new Map(loadScenarios().map(({ id, hash }) => [id, hash]));
const scenario = loadScenarios().find(({ id }) => id === "load-after-truncate") as Scenario;
const definition = { scenario, proposal: proposalOf("efault-exit"), argument: scenario.id };

const stopped: Outcome = {
  accesses: { victim: { "load#1": { kind: "value" }, "load#2": { kind: "killed" } } },
  host: { host: { "truncate#1": { kind: "done" } } },
  vmm: [{ kind: "stopped", reason: "efault" }],
  guestKernel: "alive",
  bystanders: {},
};
const zeros: Outcome = {
  ...stopped,
  accesses: { victim: { "load#1": { kind: "value" }, "load#2": { kind: "zero" } } },
};

function recorded(changes: Partial<Recorded> = {}): Recorded {
  return {
    scenario: scenario.id,
    scenarioHash: scenario.hash,
    proposal: "efault-exit",
    definition,
    isReal: true,
    isLinuxGuest: false,
    engine: "kvm",
    kvmBackend: "kvm_amd",
    outcome: stopped,
    verdict: "pass",
    facts: { history: "running", exitAt: "access", wasRecalled: false, nmi: false, hostMs: null },
    kernel: { release: "6.12.1", kvmBackend: "kvm_amd", origin: null, accelerator: null },
    traced: null,
    goneErratum: null,
    ...changes,
  };
}

const compared = (...observed: readonly Recorded[]): readonly CaseComparison[] => [
  ...compareCases(observed, { today, kvm: null }),
];
const quiet = { all: false };

describe("a recorded case and the model", () => {
  it("agree where the observation is one of the ends", () => {
    const [one] = compared(recorded());
    expect(one?.outcome).toMatchObject({ kind: "same", unseen: [], divergence: null, replay: null });
    expect(one === undefined ? [] : caseTexts(one, quiet)).toEqual([]);
  });

  it("differ where it is none: the first difference, and the command that shows the nearest end", () => {
    const [one] = compared(recorded({ outcome: zeros }));
    expect(one?.outcome).toMatchObject({
      kind: "positive",
      boundedBy: null,
      divergence: {
        rows: [
          { what: "victim.load#1", observed: "value", allowed: "value" },
          { what: "victim.load#2", observed: "zero", allowed: "killed" },
        ],
      },
      replay: expect.stringMatching(
        /^daxfault explore efault-exit --scenario load-after-truncate --replay \S+$/,
      ),
    });
    expect(one === undefined ? [] : caseTexts(one, quiet)).toEqual([
      "NOT ALLOWED   load-after-truncate x efault-exit (kvm)",
      "  step           observed  model, its only end\n" +
        "  victim.load#1  value     value\n" +
        "  victim.load#2  zero      killed   <- first difference",
      expect.stringMatching(/^ {2}daxfault explore /),
    ]);
    expect(one === undefined ? [] : caseTexts(one, { all: true })[0]).toBe(
      "not seen      load-after-truncate x efault-exit (kvm): victim.load#1 value, victim.load#2 killed, " +
        "host.truncate#1 done; VMM stopped(efault); guest alive",
    );
  });

  it("have nothing to say to each other where the proposal has a part that there is not today", () => {
    const proposal = { ...definition.proposal, vmm: "shout" } as unknown as Proposal;
    const [one] = compared(recorded({ proposal: "own", definition: { ...definition, proposal } }));
    const reason = 'own has a part that there is not today: vmm "shout"';
    expect(one?.outcome).toEqual({ kind: "unsupported", reason });
    expect(one === undefined ? [] : caseTexts(one, { all: true })).toEqual([
      `only kvm      load-after-truncate x own (kvm): ${reason}`,
    ]);
  });

  it.each([
    ["own.json", null],
    ["load-after-truncate --scenarios mine", null],
    ["own.json --proposals way.json", { ...definition.proposal, id: "way" }],
  ])("are compared in the text that was recorded: %s, whose replay it names", (argument, proposal) => {
    const own = { ...scenario, hash: "000000000000" };
    const used = proposal ?? definition.proposal;
    const [one] = compared(
      recorded({ outcome: zeros, definition: { scenario: own, proposal: used, argument } }),
    );
    expect(one?.outcome).toMatchObject({
      kind: "positive",
      replay: expect.stringContaining(`daxfault explore ${used.id} --scenario ${argument} --replay `),
    });
  });

  it("have nothing to say where the proposal's guest understands a report that Linux does not", () => {
    const fault = { ...definition, proposal: proposalOf("pf-injection") };
    const outcomeOf = (isLinuxGuest: boolean) =>
      compared(recorded({ definition: fault, proposal: "pf-injection", isLinuxGuest }))[0]?.outcome;
    expect(outcomeOf(true)).toEqual({ kind: "unsupported", reason: expect.stringContaining("a Linux") });
    expect(outcomeOf(false)?.kind).toBe("positive");
    const [stop] = compared(recorded({ isLinuxGuest: true }));
    expect(stop?.outcome.kind).toBe("same");
  });

  it("have no command where the id stands for another text today, or the name for another proposal", () => {
    const older = { ...definition, scenario: { ...scenario, hash: "000000000000" } };
    const other = { ...definition, proposal: { ...definition.proposal, guest: "ve" as const } };
    for (const changed of [older, other]) {
      const [one] = compared(recorded({ outcome: zeros, definition: changed }));
      expect(one?.outcome).toMatchObject({ kind: "positive", replay: null });
    }
  });

  it("are compared in the order of tracepoints only where there are any", () => {
    const { attestation } = evidenceWith();
    const trace: KvmTrace = { kind: "none", reason: "not permitted" };
    const [one] = compared(recorded({ traced: { attestation, kvmTrace: trace } }));
    expect(one?.order).toEqual({
      trace,
      order: { kind: "none", reason: "no tracepoints: not permitted" },
      replay: null,
    });
    expect(compared(recorded())[0]?.order).toBeNull();
  });
});

describe("modelledOn", () => {
  it("puts what the kernel has built in in the place of a stock kernel", () => {
    const loop = proposalOf("apf-loop");
    expect(modelledOn(null, loop)).toMatchObject({ proposal: { kvm: "today" }, preset: "apf-loop" });
    expect(modelledOn("final-efault", loop)).toMatchObject({ proposal: { kvm: "final-efault" } });
    expect(modelledOn("final-efault", proposalOf("native"))).toMatchObject({
      proposal: { kvm: "none" },
      preset: "native",
    });
    const own = { ...loop, id: "own", exits: "fence" as const };
    expect(modelledOn(null, own)).toEqual({ proposal: own, preset: "own" });
  });

  it("takes the user's word for another KVM than the record's", () => {
    const recordedOn = proposalOf("final-efault");
    expect(modelledOn("error-gfn", recordedOn, "final-efault")).toMatchObject({
      proposal: { kvm: "error-gfn" },
      preset: "error-gfn",
    });
    expect(modelledOn("error-gfn", proposalOf("exit-request"), "final-efault")).toMatchObject({
      proposal: { kvm: "exit-request" },
    });
  });

  it("is chosen by what the record says that the kernel was built with", () => {
    const loop = proposalOf("apf-guest");
    const one = recorded({ proposal: loop.id, definition: { ...definition, proposal: loop } });
    const kindOf = (kvm: KvmPart | undefined, named: KvmPart | null = null) => {
      const kernel = kvm === undefined ? one.kernel : { ...one.kernel, kvm };
      const [found] = compareCases([{ ...one, kernel }], { today, kvm: named });
      return found?.outcome.kind;
    };
    expect(kindOf(undefined)).toBe("positive");
    expect(kindOf("final-efault")).toBe("same");
    expect(kindOf("final-efault", "memory-fault-exit")).toBe("positive");
    const attested = evidenceWith();
    const vm = { ...vmFacts, kvm: "final-efault", patches: [{ name: "x", sha256: "0".repeat(64) }] } as const;
    const evidence = { ...attested, attestation: { ...attested.attestation, vm } };
    const [read] = recordedCases([resultWith({ evidence })]).observed;
    expect(read?.kernel).toMatchObject({ kvm: "final-efault", patches: vm.patches });
  });
});

describe("the summary", () => {
  const unknown = { ...definition.proposal, vmm: "shout" } as unknown as Proposal;
  const skipped = (id: string, proposal: Proposal, reason: string) => ({
    scenario: id,
    definition: { ...definition, proposal },
    proposal: "efault-exit",
    engine: "kvm",
    reason,
  });
  const cases = [
    recorded({ goneErratum: "erratum a" }),
    recorded({ goneErratum: "erratum a", proposal: "own", definition: { ...definition, proposal: unknown } }),
    recorded({ engine: "model", isReal: false }),
    recorded({ outcome: zeros }),
  ];
  const summary = summarize(compared(...cases), {
    observed: cases,
    skipped: [
      skipped("load-after-truncate", definition.proposal, "no KVM"),
      skipped("gone", unknown, "no KVM"),
    ],
  });

  it("counts each case once, and each erratum", () => {
    expect(summary.counts).toEqual({ same: 1, own: 1, positive: 1, bounded: 0, unsupported: 1, negative: 1 });
    expect(summary.onlyModel.map((one) => one.scenario)).toEqual(["load-after-truncate"]);
    expect(summary.goneErrata).toEqual(["erratum a"]);
  });

  it("has the reasons with their number, and the counts last", () => {
    expect(summaryTexts(summary, quiet)).toEqual([
      "1 cases not supported by the model:",
      '  1 x own has a part that there is not today: vmm "shout"',
      "1 cases that only the model can run:",
      "  1 x no KVM",
      "ERRATUM GONE  erratum a",
      "1 of the recorded cases are the model's own: no observations, and not counted below.",
      "1 observations are among what the model allows, 1 are not; 0 not decided (search bounded), " +
        "1 not for the model; 1 allowed ends were not seen.",
    ]);
    expect(summaryTexts(summary, { all: true })[0]).toBe(
      "only model    load-after-truncate x efault-exit (not kvm): no KVM",
    );
  });
});

describe("two recorded runs", () => {
  it("differ case by case; a case of one of them only is left out", () => {
    const left = [recorded(), recorded({ proposal: "pf-injection" }), recorded({ engine: "process" })];
    const right = [recorded({ outcome: zeros }), recorded({ proposal: "pf-injection" })];
    const found = compareRuns(left, right);
    expect(found.compared).toBe(2);
    expect(found.differences.map(({ id }) => id.proposal)).toEqual(["efault-exit"]);
    expect(runTexts(found)).toEqual([
      expect.stringMatching(
        /^DIFFERENT {5}load-after-truncate x efault-exit \(kvm\)\n {2}first .*killed.*\n {2}second .*zero/,
      ),
      "2 cases compared, 1 differ.",
    ]);
  });

  it("are not compared where they are of two texts of a scenario", () => {
    expect(() => compareRuns([recorded()], [recorded({ scenarioHash: "000000000000" })])).toThrow(
      RecordingError,
    );
  });
});

describe("recordedCases", () => {
  it("takes what was observed and what was skipped, and leaves out what came to nothing", () => {
    const xpass = { kind: "xpass", reason: "erratum pvm is gone", erratum: "pvm" } as const;
    const { observed, skipped } = recordedCases([
      resultWith({ verdict: xpass }),
      resultWith({ verdict: { kind: "xpass", reason: "better than it was" } }),
      resultWith({ verdict: { kind: "skip", reason: "no KVM" } }),
      resultWith({ evidence: null, verdict: { kind: "inconclusive", cause: "timeout", reason: "too long" } }),
    ]);
    expect(observed.map(({ goneErratum }) => goneErratum)).toEqual(["erratum pvm is gone", null]);
    expect(skipped).toMatchObject([
      { scenario: "load-after-truncate", proposal: "efault-exit", engine: "kvm", reason: "no KVM" },
    ]);
  });
});
