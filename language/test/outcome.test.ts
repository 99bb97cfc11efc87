import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Observations } from "../src/evidence.ts";
import {
  type Coarsening,
  coarsen,
  comparedStyle,
  exact,
  modelledOnly,
  type Outcome,
  outcomeText,
  outcomeWords,
  parseOutcome,
  parseOutcomeWords,
  recordedStyle,
  sameOutcome,
} from "../src/outcome.ts";
import type { Scenario } from "../src/scenario/scenario.ts";
import {
  type AccessWord,
  accessKinds,
  bystanderStates,
  guestKernelStates,
  type HostWord,
  hostResultKinds,
  parseAccessWord,
  sigbusCode,
  sigsegvCode,
  stopReasons,
  UNOBSERVED,
  type VmmWord,
} from "../src/vocabulary.ts";
import { evidenceWith } from "./support/evidence.ts";

const load = { verb: "load", offset: 0x1000n, size: 8 } as const;

/** Two victims, of which one counts at its end, a task that only counts and is called as the guest's kernel is, two hosts. */
const scenario: Pick<Scenario, "actors"> = {
  actors: {
    victim: { in: "guest-task", steps: [load, { verb: "await", name: "cut" }, load] },
    first: { in: "guest-task", steps: [{ verb: "push", offset: 0n, value: 1n }, load, { verb: "count" }] },
    guest: { in: "guest-task", steps: [{ verb: "count" }] },
    host: {
      in: "host-process",
      through: "file",
      steps: [
        { verb: "truncate", size: 0n },
        { verb: "signal", name: "cut" },
        { verb: "truncate", size: 0x1000n },
      ],
    },
    other: { in: "host-process", through: "file", steps: [{ verb: "unlink" }] },
  },
};

/** Those with a name, and any other int. */
const siCode = fc.oneof(fc.integer({ min: 0, max: 0x80 }), fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }));
const access: fc.Arbitrary<AccessWord> = fc
  .record({
    kind: fc.constantFrom(...accessKinds),
    siCode: fc.option(siCode, { nil: null }),
    errno: fc.constantFrom("EIO", "E2BIG", "4095", UNOBSERVED),
    bytes: fc.nat(4096),
  })
  .map(({ kind, siCode, errno, bytes }): AccessWord => {
    switch (kind) {
      case "sigbus":
        return { kind, code: siCode === null ? UNOBSERVED : sigbusCode(siCode) };
      case "sigsegv":
        return { kind, code: siCode === null ? UNOBSERVED : sigsegvCode(siCode) };
      case "errno":
        return { kind, errno };
      case "short":
        return { kind, bytes };
      default:
        return { kind };
    }
  });
const host: fc.Arbitrary<HostWord> = fc.oneof(
  fc.record({
    kind: fc.constant("denied" as const),
    errno: fc.constantFrom("EPERM", "EAGAIN", UNOBSERVED),
  }),
  fc.record({ kind: fc.constant("killed" as const), signal: fc.constantFrom("SIGBUS", "SIGSEGV") }),
  fc.record({
    kind: fc.constantFrom(...hostResultKinds.filter((kind) => kind !== "denied" && kind !== "killed")),
  }),
);
const vmm: fc.Arbitrary<VmmWord> = fc.oneof(
  fc.record({ kind: fc.constantFrom("running" as const, "looping" as const, "waiting" as const) }),
  fc.record({ kind: fc.constant("stopped" as const), reason: fc.constantFrom(...stopReasons) }),
  fc.record({ kind: fc.constant("killed" as const), signal: fc.constantFrom("SIGBUS", "SIGKILL") }),
);
const bystander = fc.constantFrom(...bystanderStates);
const machine: fc.Arbitrary<Pick<Outcome, "vmm" | "guestKernel">> = fc.oneof(
  fc.record({
    vmm: fc.array(vmm, { minLength: 1, maxLength: 3 }),
    guestKernel: fc.constantFrom(...guestKernelStates),
  }),
  fc.constant({ vmm: null, guestKernel: null }),
);
const outcomes: fc.Arbitrary<Outcome> = fc
  .record({
    accesses: fc.record({
      victim: fc.record({ "load#1": access, "load#2": access }),
      first: fc.record({ "push#1": access, "load#1": access }),
      guest: fc.constant({}),
    }),
    host: fc.record({
      host: fc.record({ "truncate#1": host, "truncate#2": host }),
      other: fc.record({ "unlink#1": host }),
    }),
    bystanders: fc.record({ first: bystander, guest: bystander }),
    machine,
  })
  .map(({ machine: ends, ...rest }) => ({ ...rest, ...ends }));

const styles = [
  ["as a run records it", recordedStyle],
  ["as compare prints it", comparedStyle],
] as const;

describe("the text of an outcome", () => {
  it.each(styles)("is read back, %s", (_name, style) => {
    fc.assert(
      fc.property(outcomes, (outcome) => {
        expect(parseOutcome(outcomeText(outcome, style), scenario)).toEqual(outcome);
        expect(parseOutcomeWords(outcomeWords(outcome, style), scenario)).toEqual(outcome);
      }),
    );
  });

  const seen: Observations = {
    accesses: {
      victim: {
        "load#2": { kind: "sigbus", code: UNOBSERVED },
        "load#1": { kind: "value", value: 5n },
      },
      counter: {},
    },
    host: {
      host: {
        "truncate#1": { kind: "delayed", ms: 12.5 },
        "ftruncate#1": { kind: "denied", errno: "EPERM" },
      },
    },
    vmm: [
      { kind: "stopped", reason: "efault", at: null },
      { kind: "looping", faultsPerSecond: 22_134, at: null },
    ],
    guestKernel: "oops",
    bystanders: { counter: "starved" },
  };

  it("has no figures, and is sorted in the record of a run", () => {
    expect(outcomeText(seen, recordedStyle)).toBe(
      "victim.load#1 value; victim.load#2 sigbus(unobserved); host.ftruncate#1 denied(EPERM); " +
        "host.truncate#1 delayed; counter starved; VMM stopped(efault), looping; guest kernel oops",
    );
  });

  it("has what is compared only, in the scenario's order, where it is compared with the model", () => {
    expect(outcomeText(coarsen(seen, modelledOnly), comparedStyle)).toBe(
      "victim.load#2 sigbus, victim.load#1 value, host.truncate#1 delayed, host.ftruncate#1 denied; " +
        "VMM looping; guest oops; counter starved",
    );
  });

  it("has neither VMM nor guest kernel where there is none", () => {
    const native: Outcome = { ...seen, vmm: null, guestKernel: null, host: {}, bystanders: {} };
    expect(outcomeText(native, recordedStyle)).toBe("victim.load#1 value; victim.load#2 sigbus(unobserved)");
    expect(outcomeText({ ...native, accesses: {} }, comparedStyle)).toBe("");
  });
});

describe("parseOutcome", () => {
  const text =
    "victim.load#1 value, victim.load#2 hung, first.push#1 value, first.load#1 zero, host.truncate#1 done, " +
    "host.truncate#2 done, other.unlink#1 not-reached; VMM looping; guest alive; first progress; guest starved";

  it("takes a whole outcome", () => {
    expect(parseOutcome(text, scenario)?.bystanders).toEqual({ first: "progress", guest: "starved" });
    expect(parseOutcome("", { actors: {} })).toEqual({
      accesses: {},
      host: {},
      vmm: null,
      guestKernel: null,
      bystanders: {},
    });
  });

  it.each([
    ["a step that the scenario has not", "load#2 hung", "load#7 hung"],
    ["an actor that the scenario has not", "other.unlink#1", "another.unlink#1"],
    ["a step that is missing", "victim.load#2 hung, ", ""],
    ["a bystander that is missing", "; first progress", ""],
    ["a word of the host's for an access", "load#2 hung", "load#2 delayed"],
    ["a word of an access for the host", "unlink#1 not-reached", "unlink#1 hung"],
    ["figures", "load#1 value", "load#1 value(0x5)"],
    ["an si_code that there is not", "load#2 hung", "load#2 sigbus(BUS_NONE)"],
    ["an si_code of another signal", "load#2 hung", "load#2 sigsegv(BUS_ADRERR)"],
    ["a short count without its bytes", "load#2 hung", "load#2 short"],
    ["a VMM in no known state", "VMM looping", "VMM sleeping"],
    ["a guest kernel in no known state", "guest alive", "guest asleep"],
    ["a bystander in no known state", "guest starved", "guest idle"],
    ["a VMM without a guest kernel", "; guest alive", ""],
    ["a step twice", "victim.load#2 hung", "victim.load#2 hung, victim.load#2 zero"],
    ["a sentence", "VMM looping", "the VMM was seen to loop"],
    ["an empty part", "VMM looping", ""],
  ])("refuses %s", (_name, from, to) => {
    expect(text).toContain(from);
    expect(parseOutcome(text.replace(from, to), scenario)).toBeNull();
  });
});

describe("sameOutcome", () => {
  const outcome: Outcome = evidenceWith().observations;
  const withAccess = (word: AccessWord): Outcome => ({
    ...outcome,
    accesses: { victim: { "load#1": word } },
  });
  const withHost = (word: HostWord): Outcome => ({ ...outcome, host: { host: { "truncate#1": word } } });
  const withVmm = (...history: readonly VmmWord[]): Outcome => ({ ...outcome, vmm: history });

  it("is equality of everything but figures and order", () => {
    fc.assert(
      fc.property(outcomes, outcomes, (a, b) => {
        const [left, right] = [a, b].map((one) => outcomeText(one, recordedStyle));
        expect(sameOutcome(a, b)).toBe(left === right);
        expect(
          sameOutcome(a, { ...a, accesses: Object.fromEntries(Object.entries(a.accesses).reverse()) }),
        ).toBe(true);
      }),
    );
  });

  it.each<readonly [string, keyof Coarsening, Outcome, Outcome]>([
    [
      "the si_code",
      "siCode",
      withAccess({ kind: "sigbus", code: "BUS_ADRERR" }),
      withAccess({ kind: "sigbus", code: UNOBSERVED }),
    ],
    [
      "which signal killed",
      "sigsegv",
      withAccess({ kind: "sigsegv", code: "SEGV_ACCERR" }),
      withAccess({ kind: "killed" }),
    ],
    [
      "the errno",
      "errno",
      withHost({ kind: "denied", errno: "EPERM" }),
      withHost({ kind: "denied", errno: "EAGAIN" }),
    ],
    [
      "the history",
      "history",
      withVmm({ kind: "stopped", reason: "efault" }, { kind: "running" }),
      withVmm({ kind: "running" }),
    ],
  ])("leaves out %s only where that is declared", (_name, only, a, b) => {
    expect(sameOutcome(a, b)).toBe(false);
    expect(sameOutcome(a, b, modelledOnly)).toBe(true);
    expect(sameOutcome(a, b, { ...exact, [only]: true })).toBe(true);
    expect(sameOutcome(a, b, { ...modelledOnly, [only]: false })).toBe(false);
  });

  it("leaves out the si_code of both signals", () => {
    const [a, b] = (["SEGV_ACCERR", "SI_KERNEL"] as const).map((code) =>
      withAccess({ kind: "sigsegv", code }),
    );
    if (a === undefined || b === undefined) throw new Error("no outcomes");
    expect(sameOutcome(a, b)).toBe(false);
    expect(sameOutcome(a, b, { ...exact, siCode: true })).toBe(true);
  });

  it("knows different words apart, however coarse", () => {
    const words = accessKinds.map((kind) => parseAccessWord(kind === "short" ? "short(4)" : kind));
    for (const [i, a] of words.entries()) {
      for (const [j, b] of words.entries()) {
        if (a === null || b === null) throw new Error(`${accessKinds[i]} or ${accessKinds[j]} is no word`);
        expect(sameOutcome(withAccess(a), withAccess(b))).toBe(i === j);
        // The model's word for what SIGSEGV does to a task.
        const isDeath = [a, b].every(({ kind }) => kind === "killed" || kind === "sigsegv");
        expect(sameOutcome(withAccess(a), withAccess(b), modelledOnly)).toBe(i === j || isDeath);
      }
    }
    const stops = [
      ...stopReasons.map((reason) => withVmm({ kind: "stopped", reason })),
      withVmm({ kind: "looping" }),
    ];
    for (const [i, a] of stops.entries()) {
      for (const [j, b] of stops.entries()) expect(sameOutcome(a, b, modelledOnly)).toBe(i === j);
    }
    expect(sameOutcome({ ...outcome, guestKernel: "oops" }, outcome, modelledOnly)).toBe(false);
    expect(sameOutcome({ ...outcome, bystanders: { counter: "starved" } }, outcome, modelledOnly)).toBe(
      false,
    );
  });
});
