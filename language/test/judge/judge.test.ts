import { describe, expect, it } from "vitest";
import type { MachineName, RunResult } from "../../src/evidence.ts";
import type { Erratum, Expectation } from "../../src/judge/expectations.ts";
import { judge } from "../../src/judge/judge.ts";
import type { Scenario } from "../../src/scenario/scenario.ts";
import type { Verdict } from "../../src/verdict.ts";
import { proposalOf, scenarioWith } from "../support/cases.ts";
import {
  type Changes,
  evidenceResult,
  evidenceWith,
  expectationWith,
  natures,
  place,
  qemuGuest,
  vmFacts,
} from "../support/evidence.ts";

type Input = {
  readonly scenario?: Partial<Scenario>;
  readonly proposal?: string;
  readonly engine?: keyof typeof natures;
  readonly machine?: MachineName;
  readonly expectation?: Expectation | null;
  readonly errata?: readonly Erratum[];
  readonly result?: RunResult;
  readonly evidence?: Changes;
};

function verdict(input: Input = {}): Verdict {
  const engine = input.engine ?? "kvm";
  return judge({
    scenario: scenarioWith({
      witness: [{ subject: "victim", label: "load#1", is: "value" }],
      ...input.scenario,
    }),
    proposal: proposalOf(input.proposal ?? "efault-exit"),
    engine,
    nature: natures[engine],
    machine: input.machine ?? "here",
    expectation: input.expectation === undefined ? expectationWith() : input.expectation,
    errata: input.errata ?? [],
    result: input.result ?? evidenceResult(input.evidence),
  });
}

const loop: Changes = {
  observations: {
    vmm: [{ kind: "looping", faultsPerSecond: 22_000, at: place }],
    accesses: { victim: { "load#1": { kind: "value", value: 1n }, "load#2": { kind: "hung" } } },
  },
};
const ran: Changes = {
  observations: {
    vmm: [{ kind: "running" }],
    accesses: { victim: { "load#1": { kind: "value", value: 1n }, "load#2": { kind: "zero" } } },
  },
};
const unseen = { "load#1": { kind: "not-reached" }, "load#2": { kind: "not-reached" } } as const;
const mmio: Changes = {
  attestation: { kvmBackend: "kvm_pvm" },
  observations: { vmm: [{ kind: "stopped", reason: "mmio", at: place }] },
};

const erratum: Erratum = {
  id: "pvm",
  reason: "interpreted",
  when: { kvmBackend: "kvm_pvm" },
  scenarios: ["load-*"],
  proposals: ["*"],
  engine: "kvm",
  outcomes: [
    { vmm: ["stopped(mmio)"], accesses: { "victim.last": "killed" }, host: {}, bystanders: {}, events: {} },
  ],
  link: "https://example.org",
  owner: "vmm",
};

/** The ends of a model's case. */
const endingIn = (...ends: readonly Changes[]): Changes => ({
  attestation: { engine: "model", kvmBackend: null, capabilities: {}, windowBytes: null },
  exhaustiveness: { kind: "exhaustive", states: 9 },
  ends: ends.map((changes, index) => {
    const { observations, counts } = evidenceWith(changes);
    const facts = { exitElsewhere: false, metLostPage: true, nmi: (counts.nmi ?? 0) > 0 };
    return { observations, facts, token: `way ${index}` };
  }),
});

describe("a model's case", () => {
  it("passes if every way to end is as expected", () => {
    const evidence = endingIn({}, {});
    expect(verdict({ engine: "model", evidence })).toMatchObject({ kind: "pass" });
  });

  it("fails by the gravest of its ends, and says how many there are", () => {
    expect(verdict({ engine: "model", evidence: endingIn({}, loop) })).toMatchObject({
      kind: "fail",
      reason: expect.stringContaining("(1 of 2 ways to end)"),
    });
  });

  it("has other stories only where an NMI may also not come", () => {
    const witness = [{ subject: "guest", label: "nmi", is: "seen" }] as const;
    const evidence = endingIn(loop, { counts: { nmi: 1 } });
    expect(verdict({ engine: "model", scenario: { nmi: "saved", witness }, evidence }).kind).toBe("pass");
    const premise = [{ subject: "victim", label: "load#1", is: "zero" }] as const;
    expect(
      verdict({ engine: "model", scenario: { witness: premise }, evidence: endingIn({}, loop) }).kind,
    ).toBe("fail");
  });
});

describe("judge", () => {
  it("passes what is as expected, with its witnesses", () => {
    expect(verdict()).toEqual({ kind: "pass", reason: "as test rule 1 expects" });
  });

  it("fails what deviates, and says in what", () => {
    expect(verdict({ evidence: loop })).toEqual({
      kind: "fail",
      reason: "test rule 1: VMM looping, expected stopped(efault); victim.load#2 is hung, expected killed",
    });
  });

  it.each([
    [
      "an access that no rule lists and that is no value",
      { accesses: { victim: unseen } },
      "load#1 is not-reached",
    ],
    [
      "a host step that was held up",
      { host: { host: { "truncate#1": { kind: "delayed", ms: 1900 } } } },
      "delayed(1900.0)",
    ],
    [
      "a host step that was denied",
      { host: { host: { "truncate#1": { kind: "denied", errno: "EPERM" } } } },
      "denied(EPERM), expected done",
    ],
    [
      "a VMM where none is expected to change",
      { vmm: [{ kind: "running" }, { kind: "running" }] },
      "VMM running, running",
    ],
  ] as const)("fails %s", (_what, observations, message) => {
    const result = verdict({ evidence: { observations } as Changes });
    expect(result.kind).toBe("fail");
    expect(result.reason).toContain(message);
  });

  it.each([
    ["stopped(efault)|looping", ["looping", "stopped"], "pass"],
    ["stopped(efault)|looping", ["stopped"], "pass"],
    ["stopped(efault)|looping", ["running", "stopped"], "fail"],
    ["stopped(efault)|looping", ["looping", "looping", "stopped"], "fail"],
    ["stopped(efault)", ["looping", "stopped"], "fail"],
  ] as const)("where %s is expected, takes the history %j for a %s", (expected, kinds, kind) => {
    const states = {
      looping: { kind: "looping", faultsPerSecond: 22_000, at: place },
      running: { kind: "running" },
      stopped: { kind: "stopped", reason: "efault", at: place },
    } as const;
    const outcome = { ...expectationWith().outcome, vmm: [expected] };
    const result = verdict({
      expectation: expectationWith({ outcome }),
      evidence: { observations: { vmm: kinds.map((one) => states[one]) } },
    });
    expect(result.kind).toBe(kind);
  });

  it("compares a bystander where it is expected to be something", () => {
    const outcome = { ...expectationWith().outcome, bystanders: { counter: "starved" } };
    const result = verdict({
      expectation: expectationWith({ outcome }),
      evidence: { observations: { bystanders: { counter: "progress" } } },
    });
    expect(result.reason).toContain("counter is progress, expected starved");
  });

  it("compares figures where a word has them", () => {
    const outcome = {
      ...expectationWith().outcome,
      accesses: { "victim.load#1": "value(0x5)", "victim.last": "killed" },
    };
    expect(verdict({ expectation: expectationWith({ outcome }) }).kind).toBe("fail");
  });
});

describe("evidence of a booted kernel", () => {
  const machine = "kernel:debian:6.1";
  const inside = { kernel: "6.1.0-56-amd64", vm: vmFacts };

  it("is judged like any other", () => {
    expect(verdict({ machine, evidence: { attestation: inside } }).kind).toBe("pass");
    expect(verdict({ machine, evidence: { attestation: inside, ...loop } }).kind).toBe("fail");
  });

  it.each([
    ["the machine itself", { ...inside, vm: null }, "of the machine itself, not in a VM"],
    [
      "another kernel that was asked for",
      { ...inside, vm: { ...vmFacts, kernel: "debian:6.12" } },
      "not kernel:debian:6.1",
    ],
    [
      "another kernel than the image's",
      { ...inside, kernel: "6.12.1" },
      "is 6.12.1, its image is of 6.1.0-56-amd64",
    ],
    ["another boot", { ...inside, vm: { ...vmFacts, bootId: "b-2" } }, "not the one of this boot"],
    ["another engine inside", { ...inside, engine: "process" }, "ran on engine process, not kvm"],
  ] as const)("from %s proves nothing", (_what, attestation, message) => {
    const result = verdict({ machine, evidence: { attestation } });
    expect(result).toMatchObject({ kind: "inconclusive", cause: "wrong-engine" });
    expect(result.reason).toContain(message);
  });

  it("is not taken for the machine's own", () => {
    expect(verdict({ evidence: { attestation: inside } })).toMatchObject({ cause: "wrong-engine" });
  });

  it("that is only a crash of the kernel is a failure, and what it cannot run is skipped", () => {
    const message = "the kernel died: Oops";
    expect(verdict({ machine, result: { kind: "kernel-crash", message } })).toEqual({
      kind: "fail",
      reason: message,
    });
    expect(verdict({ machine, result: { kind: "unsupported", message } })).toEqual({
      kind: "skip",
      reason: message,
    });
  });
});

describe("the VMM of a Linux guest", () => {
  const { qemu, ...own } = qemuGuest;
  const inQemu = (changes: Partial<NonNullable<typeof qemu>>) =>
    qemu === undefined ? own : { ...own, qemu: { ...qemu, ...changes } };
  const seen = (engine: "kvm" | "linux-qemu" | "linux-qemu-tcg", guest: typeof qemuGuest) =>
    verdict({ engine, evidence: { attestation: { engine, guest } } });

  it("is the one that was asked for", () => {
    expect(seen("linux-qemu", qemuGuest).kind).toBe("pass");
    expect(seen("kvm", own).kind).toBe("pass");
  });

  it.each([
    ["linux-qemu", own, "no QEMU is attested"],
    ["kvm", qemuGuest, "ran in QEMU, which nobody asked for"],
    ["linux-qemu", inQemu({ accelerator: "tcg" }), "QEMU's accelerator was tcg, not kvm"],
    ["linux-qemu-tcg", qemuGuest, "QEMU's accelerator was kvm, not tcg"],
    ["linux-qemu", inQemu({ daxWindowBytes: null }), "the guest has found no DAX window"],
  ] as const)("%s: another one proves nothing", (engine, guest, message) => {
    const result = seen(engine, guest);
    expect(result).toMatchObject({ kind: "inconclusive", cause: "wrong-engine" });
    expect(result.reason).toContain(message);
  });

  it("has no async page faults to attest where nothing is KVM's", () => {
    const emulated = { engine: "linux-qemu-tcg", lapic: "kernel", apfEnabled: null } as const;
    const attestation = { ...emulated, kvmBackend: null, guest: inQemu({ accelerator: "tcg" }) };
    expect(
      verdict({ engine: "linux-qemu-tcg", proposal: "lease-kernel", evidence: { attestation } }).kind,
    ).toBe("pass");
  });
});

describe("the attestation comes first", () => {
  it.each([
    ["another engine", { engine: "process" }, "ran on engine process, not kvm"],
    ["another APIC", { lapic: "kernel" }, "APIC in kernel, not in user"],
    ["async page faults on", { apfEnabled: true }, "async page faults are on in the guest"],
    ["a mount nobody asked for", { transport: "libfuse" }, "a mount (libfuse) nobody asked for"],
    ["no window", { windowBytes: null }, "there was no DAX window"],
    ["no backend", { kvmBackend: null }, "no KVM backend is attested"],
    ["other pages", { pageSize: 16384 }, "page size 16384, not 4096"],
  ] as const)("%s proves nothing, whatever was seen", (_what, attestation, message) => {
    for (const observations of [{}, loop.observations ?? {}]) {
      const result = verdict({ evidence: { attestation, observations } });
      expect(result).toMatchObject({ kind: "inconclusive", cause: "wrong-engine" });
      expect(result.reason).toContain(message);
    }
  });

  it("asks for the mount that the scenario uses", () => {
    const { victim, host } = scenarioWith({}).actors;
    if (victim === undefined || host?.in !== "host-process") throw new Error("no such actors");
    const scenario = { actors: { victim, host: { ...host, through: "mount" } } } as const;
    expect(verdict({ scenario })).toMatchObject({ cause: "wrong-engine", reason: "no FUSE mount was used" });
    expect(verdict({ scenario, evidence: { attestation: { transport: "libfuse" } } }).kind).toBe("pass");
  });

  it("asks for async page faults where the proposal's guest enables them", () => {
    const attestation = { lapic: "kernel", apfEnabled: null } as const;
    expect(verdict({ proposal: "apf-guest", evidence: { attestation } })).toMatchObject({
      cause: "wrong-engine",
      reason: "async page faults are off in the guest",
    });
  });
});

describe("the evidence of a model", () => {
  const attestation = { engine: "model", kvmBackend: null, windowBytes: null, transport: null } as const;
  const modelled = (input: Input = {}) =>
    verdict({ engine: "model", evidence: { attestation, counts: {} }, ...input }).kind;

  it("attests neither mount nor window nor backend", () => {
    const { victim, host } = scenarioWith({}).actors;
    if (victim === undefined || host?.in !== "host-process") throw new Error("no such actors");
    const actors = { victim, host: { ...host, through: "mount" } } as const;
    expect(modelled({ scenario: { actors, layout: "dax-window" } })).toBe("pass");
  });

  it("is not asked for events", () => {
    const outcome = { ...expectationWith().outcome, events: { "apf-ready": "seen" } } as const;
    expect(modelled({ expectation: expectationWith({ outcome }) })).toBe("pass");
  });

  it("shows a backing that begins on disk", () => {
    const witness = [{ subject: "backing", label: "swap-out", is: "seen" }] as const;
    expect(modelled({ scenario: { witness } })).toBe("pass");
  });
});

describe("witnesses", () => {
  const missing = { scenario: { witness: [{ subject: "victim", label: "load#1", is: "zero" }] } };

  it("block a pass", () => {
    expect(verdict(missing)).toEqual({
      kind: "inconclusive",
      cause: "vacuous",
      reason: "not seen: victim.load#1 is zero",
    });
  });

  it("do not block a counterexample", () => {
    expect(verdict({ ...missing, evidence: loop }).kind).toBe("fail");
  });

  it("block an improvement and a known deviation: both rest on the run having meant something", () => {
    const expectation = expectationWith({ better: ["running"] });
    expect(verdict({ ...missing, expectation, evidence: ran }).kind).toBe("inconclusive");
    expect(verdict({ ...missing, errata: [erratum], evidence: mmio }).kind).toBe("inconclusive");
  });

  it.each([
    ["host", "truncate#1", "done", true],
    ["kvm", "KVM_CAP_MEMORY_FAULT_INFO", "1", true],
    ["kvm", "KVM_CAP_MEMORY_FAULT_INFO", "0", false],
    ["kvm", "KVM_CAP_MCE", "0", true],
    ["guest", "apf", "off", true],
    ["guest", "apf", "on", false],
    // Nothing was paged out, and the case says so instead of passing.
    ["backing", "swap-out", "seen", false],
    ["backing", "swap-out", "none", true],
  ] as const)("%s.%s is %s: %s", (subject, label, is, seen) => {
    expect(verdict({ scenario: { witness: [{ subject, label, is }] } }).kind).toBe(
      seen ? "pass" : "inconclusive",
    );
  });
});

it("a backing was swapped out where the trace says so", () => {
  const witness = [{ subject: "backing", label: "swap-out", is: "seen" }];
  expect(verdict({ scenario: { witness }, evidence: { counts: { "swap-out": 1 } } }).kind).toBe("pass");
});

describe("events that are expected", () => {
  const outcome = expectationWith().outcome;
  const expecting = (events: typeof outcome.events) => expectationWith({ outcome: { ...outcome, events } });

  it("must have been seen, or must not", () => {
    const evidence = { counts: { "apf-not-present": 2 } } as const;
    expect(verdict({ expectation: expecting({ "apf-not-present": "seen" }), evidence }).kind).toBe("pass");
    expect(verdict({ expectation: expecting({ "apf-not-present": "none" }), evidence })).toEqual({
      kind: "fail",
      reason: "test rule 1: 2 events apf-not-present, expected none",
    });
    expect(verdict({ expectation: expecting({ "apf-ready": "seen" }), evidence })).toMatchObject({
      kind: "fail",
      reason: "test rule 1: 0 events apf-ready, expected some",
    });
  });
});

describe("better than expected", () => {
  const defect = { id: "endless-loop", text: "It loops.", source: "here" };
  const expectation = expectationWith({
    outcome: { vmm: ["looping"], accesses: { "victim.last": "hung" }, host: {}, bystanders: {}, events: {} },
    better: ["running", "stopped(efault)"],
    defect,
  });

  it("seeing the defect that is expected is a pass", () => {
    expect(verdict({ expectation, evidence: loop }).kind).toBe("pass");
  });

  it("not seeing it is an xpass that says so", () => {
    for (const evidence of [ran, {}]) {
      const result = verdict({ expectation, evidence });
      expect(result.kind).toBe("xpass");
      expect(result.reason).toContain("endless-loop is not seen");
    }
  });

  it("another deviation is a failure", () => {
    const evidence: Changes = {
      observations: { vmm: [{ kind: "stopped", reason: "triple-fault", at: null }] },
    };
    expect(verdict({ expectation, evidence }).kind).toBe("fail");
  });
});

describe("errata", () => {
  it("in force and seen: a known deviation", () => {
    expect(verdict({ errata: [erratum], evidence: mmio })).toEqual({
      kind: "xfail",
      reason: "pvm: interpreted",
    });
  });

  it("in force and not seen: the entry has to go", () => {
    const result = verdict({ errata: [erratum], evidence: { attestation: { kvmBackend: "kvm_pvm" } } });
    expect(result).toMatchObject({
      kind: "xpass",
      reason: expect.stringContaining("erratum pvm"),
      erratum: "pvm",
    });
  });

  it("in force, and something else is seen: a failure", () => {
    const evidence = { ...loop, attestation: { kvmBackend: "kvm_pvm" } };
    expect(verdict({ errata: [erratum], evidence }).kind).toBe("fail");
  });

  it("not in force on another backend, or for another scenario or kernel", () => {
    const elsewhere = { ...mmio, attestation: { kvmBackend: "kvm_amd" } };
    expect(verdict({ errata: [erratum], evidence: elsewhere }).kind).toBe("fail");
    expect(verdict({ errata: [{ ...erratum, scenarios: ["store-*"] }], evidence: mmio }).kind).toBe("fail");
    expect(verdict({ errata: [{ ...erratum, when: { kernel: "5." } }], evidence: mmio }).kind).toBe("fail");
    expect(verdict({ errata: [{ ...erratum, when: { kernel: "6.18" } }], evidence: mmio }).kind).toBe(
      "xfail",
    );
  });
});

describe("no evidence, no expectation, no capability", () => {
  it("a time-out, an engine's error and a busy machine are told apart", () => {
    expect(verdict({ result: { kind: "timeout", message: "m" } })).toEqual({
      kind: "inconclusive",
      cause: "timeout",
      reason: "m",
    });
    expect(verdict({ result: { kind: "engine-error", message: "m" } })).toMatchObject({
      cause: "engine-error",
    });
    expect(verdict({ result: { kind: "busy", message: "m" } })).toEqual({
      kind: "inconclusive",
      cause: "busy",
      reason: "m",
    });
    expect(verdict({ result: { kind: "emulator-defect", message: "m" } })).toEqual({
      kind: "inconclusive",
      cause: "emulator-defect",
      reason: "m",
    });
  });

  it("nothing expected proves nothing", () => {
    expect(verdict({ expectation: null })).toMatchObject({ kind: "inconclusive", cause: "vacuous" });
    const witness = { subject: "victim", label: "load#1", is: "hung" };
    expect(verdict({ expectation: null, scenario: { witness: [witness] } }).reason).toMatch(
      /no expectation .*; not seen: victim.load#1 is hung$/,
    );
  });

  it("a scenario whose capability this KVM lacks is skipped", () => {
    expect(verdict({ scenario: { needs: ["KVM_CAP_MCE"] } })).toEqual({
      kind: "skip",
      reason: "this KVM has no KVM_CAP_MCE",
    });
    expect(verdict({ scenario: { needs: ["KVM_CAP_MEMORY_FAULT_INFO"] } }).kind).toBe("pass");
  });
});
