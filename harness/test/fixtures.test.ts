/** The expectations of the project: complete, unambiguous, nothing dead. */
import { describe, expect, it } from "vitest";
import {
  accessesOf,
  answerOf,
  type EngineName,
  ExpectationTable,
  guestActors,
  isAbout,
  kvmParts,
  matchesGlob,
  outcomeWords,
  type Proposal,
  propertyIds,
  proposalOn,
  proposals,
  recordedStyle,
  type Scenario,
} from "../../language/src/index.ts";
import { proposalOf } from "../../language/test/support/cases.ts";
import { supportsPair, supportsProposal } from "../src/engines/kvm/plan.ts";
import { supportsLinux } from "../src/engines/linux/plan.ts";
import { allowedEnds } from "../src/engines/model/allowed.ts";
import { hardware } from "../src/engines/model/translate.ts";
import {
  loadDocumented,
  loadErrata,
  loadExpectations,
  loadLinuxExceptions,
  loadScenarios,
} from "../src/fixtures.ts";
import { isAboutProposal } from "../src/run/plan.ts";

const scenarios = loadScenarios();
const expectations = loadExpectations();

/** Every case that an engine of some machine can run, decided by data alone. */
const cases = scenarios.flatMap((scenario) =>
  proposals
    .filter((proposal) => isAboutProposal(scenario, proposal))
    .flatMap((proposal) => {
      const isNative = proposal.kvm === "none";
      const steps = guestActors(scenario).flatMap(([, actor]) => actor.steps);
      const actors = Object.values(scenario.actors).map((actor) => actor.in);
      const nativeCan =
        !steps.some(({ verb }) => verb === "fetch") &&
        !actors.includes("vmm") &&
        !actors.includes("guest-kernel");
      if (isNative && !nativeCan) return [];
      // What a KVM would do that has the proposal: said of the model today, of a kernel once there is one.
      const canKvm = [
        supportsProposal(isNative ? proposal : { ...proposal, kvm: "today" }),
        supportsPair(scenario, proposal),
      ];
      const isNested = guestActors(scenario).some(([, actor]) => actor.in === "guest-task" && actor.nested);
      const isKvms = !canKvm.some(({ kind }) => kind === "no");
      // System calls on files: no other guest has them.
      const isLinuxs = !isKvms && supportsLinux(scenario, proposal).kind === "yes";
      if (!isNative && !isNested && !isKvms && !isLinuxs) return [];
      const engine: EngineName = isNative ? "process" : isNested ? "model" : isKvms ? "kvm" : "linux";
      return [{ scenario, proposal, name: { scenario: scenario.id, proposal: proposal.id, engine } }];
    }),
);

describe("fixtures/kinds-linux-guest", () => {
  const exceptions = loadLinuxExceptions();
  const linuxCases = scenarios.flatMap((scenario) =>
    proposals
      .filter((proposal) => isAboutProposal(scenario, proposal))
      .filter((proposal) => supportsLinux(scenario, proposal).kind === "yes")
      .map((proposal) => ({ scenario, proposal })),
  );

  it("and fixtures/kinds expect something of every case that a Linux guest can run", () => {
    expect(linuxCases.length).toBeGreaterThan(300);
    for (const { scenario, proposal } of linuxCases) {
      const found =
        exceptions.find(scenario, proposal, proposal.vmm) ??
        expectations.find(scenario, proposal, proposal.vmm);
      expect(found, `${scenario.id} x ${proposal.id}`).not.toBeNull();
    }
  });

  it("has no row that no case needs, and none that says what its row says without it", () => {
    const needed = new Set<unknown>();
    for (const { scenario, proposal } of linuxCases) {
      const found = exceptions.locate(scenario, proposal, proposal.vmm);
      if (found === null) continue;
      const own = exceptions.find(scenario, proposal, proposal.vmm)?.outcome;
      if (
        JSON.stringify(own) === JSON.stringify(expectations.find(scenario, proposal, proposal.vmm)?.outcome)
      )
        continue;
      needed.add(found.cell);
    }
    for (const cell of exceptions.rows.flatMap(({ cells }) => cells)) {
      expect(needed.has(cell), `${cell.place}: ${cell.key}`).toBe(true);
    }
  });
});

describe("fixtures/kinds", () => {
  /** Throws where two rows, or two cells, match equally well. */
  const located = cases.flatMap(({ scenario, proposal }) => {
    const found = expectations.locate(scenario, proposal);
    return found === null ? [] : [{ scenario, proposal, found }];
  });

  it("expects something of every case that can run, unambiguously", () => {
    for (const { scenario, proposal } of cases) {
      expect(expectations.find(scenario, proposal), `${scenario.id} x ${proposal.id}`).not.toBeNull();
    }
  });

  it("has no row, no pattern and no word of a key that no case needs", () => {
    for (const row of expectations.rows) {
      for (const pattern of row.scenarios) {
        const isUsed = located.some(({ found }) => found.row === row && found.pattern === pattern);
        expect(isUsed, `${row.place}: ${pattern}`).toBe(true);
      }
      for (const cell of row.cells) {
        const own = located.filter(({ found }) => found.cell === cell);
        const read = located.filter(({ found }) => found.read === cell);
        expect(own.length + read.length, `${cell.place}: ${cell.key}`).toBeGreaterThan(0);
        for (const id of cell.selector.ids) {
          expect(
            own.some(({ proposal }) => matchesGlob(id, proposal.id)),
            `${cell.place}: ${id}`,
          ).toBe(true);
        }
        for (const answer of cell.selector.answers) {
          const isUsed =
            own.some(({ proposal }) => answerOf(proposal.id) === answer) ||
            read.some(({ found }) => found.answer === answer);
          expect(isUsed, `${cell.place}: @${answer}`).toBe(true);
        }
      }
    }
  });

  it("writes out no exception that says what the row says without it", () => {
    const textOf = (one: ExpectationTable, scenario: Scenario, proposal: Proposal): string => {
      const expectation = one.find(scenario, proposal);
      return JSON.stringify({ ...expectation, rule: "" });
    };
    for (const row of expectations.rows) {
      for (const cell of row.cells) {
        const without = new ExpectationTable([
          { ...row, cells: row.cells.filter((other) => other !== cell) },
        ]);
        const isNeeded = located
          .filter(({ found }) => found.cell === cell)
          .some(
            ({ scenario, proposal }) =>
              textOf(expectations, scenario, proposal) !== textOf(without, scenario, proposal),
          );
        expect(isNeeded, `${cell.place}: ${cell.key}`).toBe(true);
      }
    }
  });

  it("expects a VMM where there is one", () => {
    for (const { scenario, proposal } of cases) {
      const expectation = expectations.find(scenario, proposal);
      expect(expectation?.outcome.vmm !== undefined, expectation?.rule).toBe(proposal.kvm !== "none");
    }
  });

  it("expects of the guest of apf-loop on a KVM with a proposal what the model says, or nothing", () => {
    const scenario = scenarios.find(({ id }) => id === "hang-without-apf");
    if (scenario === undefined) throw new Error("no hang-without-apf");
    const loop = proposalOf("apf-loop");
    const asked = kvmParts.filter((kvm) => proposalOn(kvm, loop) !== loop);
    expect(asked).toHaveLength(7);
    for (const kvm of asked) {
      const proposal = proposalOn(kvm, loop);
      const allowed = allowedEnds(scenario, proposal, hardware);
      const ends =
        allowed.kind === "unsupported"
          ? []
          : allowed.ends.map(({ outcome }) => outcomeWords(outcome, recordedStyle));
      const expected = expectations.find(scenario, proposal)?.outcome;
      expect(ends, kvm).toMatchObject([
        { vmm: expected?.vmm?.[0], steps: { "victim.load#2": expected?.accesses["victim.last"] } },
      ]);
    }
  });

  it("names only actors and steps that the scenarios have", () => {
    for (const { scenario, proposal } of cases) {
      const outcome = expectations.find(scenario, proposal)?.outcome;
      for (const key of Object.keys(outcome?.accesses ?? {})) {
        const [actorName, label] = key.split(".");
        const actor = guestActors(scenario).find(([id]) => matchesGlob(actorName ?? "", id))?.[1];
        const labels = actor === undefined ? [] : accessesOf(actor).map((access) => access.label);
        expect(["last", ...labels], `${scenario.id}: ${key}`).toContain(label);
        expect(labels.length, `${scenario.id}: ${key}`).toBeGreaterThan(0);
      }
      for (const key of Object.keys(outcome?.bystanders ?? {})) expect(scenario.actors).toHaveProperty(key);
    }
  });

  /** One case for each kind of cell: what only a run on /dev/kvm would notice is noticed here. */
  it.each([
    ["two-victims-and-an-innocent", "native", "first.last sigbus; second.last sigbus"],
    ["two-victims-and-an-innocent", "remap-zero", "running; first.last zero; second.last stale"],
    ["kernel-write-after-truncate", "pf-injection", "running; victim.last efault"],
    ["kernel-write-after-truncate", "mce-injection", "running; victim.last killed"],
    [
      "kernel-write-after-truncate",
      "sigbus-injection",
      "stopped(efault); victim.last killed; better stopped(memory-fault)",
    ],
    [
      "memory-fault-cap-without-exit",
      "efault-exit",
      "stopped(efault); victim.last killed; better stopped(memory-fault); defect memory-fault-cap-untrue",
    ],
    [
      "load-of-failing-page",
      "pf-injection",
      "looping; victim.last hung; better running stopped(efault) stopped(memory-fault); defect endless-loop",
    ],
    ["killed-while-waiting", "apf-guest", "looping > running; victim.last killed; defect endless-loop"],
    ["nvdimm/load-resumed-after-regrow", "efault-exit", "stopped(efault) > running; victim.last zero"],
    [
      "two-vcpus-spin",
      "no-hlt-exits-no-apf",
      "stopped(efault); first.last killed|not-reached; second.last killed|not-reached; better stopped(memory-fault)",
    ],
    [
      "hundred-tasks",
      "apf-loop",
      "looping; crowd-*.last hung|not-reached; better running stopped(efault) stopped(memory-fault); defect endless-loop",
    ],
    [
      "hundred-tasks",
      "apf-guest",
      "looping|stopped(efault); crowd-*.last hung|killed|not-reached; better running stopped(memory-fault); defect endless-loop",
    ],
    ["store-of-slow-page", "native", ""],
    ["store-of-slow-page", "apf-loop", "running; apf-not-present none"],
    ["store-of-slow-page", "pf-injection", "running; apf-not-present seen; apf-ready seen"],
    [
      "load-of-slow-page-beside-counter",
      "apf-guest",
      "running; counter progress; apf-not-present seen; apf-ready seen",
    ],
    ["load-of-slow-page-beside-counter", "poison-user-apic", "running; counter starved"],
    [
      "load-of-slow-page-beside-counter",
      "poison",
      "running; counter progress; apf-not-present seen; apf-ready seen",
    ],
    [
      "load-of-slow-page-beside-counter",
      "pf-injection-no-apf",
      "running; counter progress; apf-not-present none",
    ],
    ["load-of-failing-page", "poison-user-apic", "running; victim.last sigbus(BUS_MCEERR_AR)"],
    [
      "load-after-truncate",
      "no-hlt-exits",
      "looping; victim.last hung; better running stopped(efault) stopped(memory-fault); defect endless-loop",
    ],
    [
      "load-after-truncate",
      "no-hlt-exits-no-apf",
      "stopped(efault); victim.last killed; better stopped(memory-fault)",
    ],
    [
      "kernel-read-after-truncate",
      "no-hlt-exits",
      "stopped(efault); victim.last killed; better stopped(memory-fault)",
    ],
    ["kernel-load-after-truncate", "apf-send-always", "running; victim.last killed"],
    ["kernel-load-of-slow-page", "apf-send-always", "running; victim.last killed; apf-not-present seen"],
    ["nmi-before-reading-cr2-lost", "pf-injection", "running; victim.last killed|hung"],
    ["nmi-before-reading-cr2-lost", "pf-injection-no-apf", "running; victim.last killed"],
    [
      "nmi-before-reading-saved",
      "nmi-injection-user-apic",
      "running; victim.last sigbus(BUS_ADRERR); innocent.last not-reached",
    ],
    ["nmi-before-reading-io-cr2-lost", "apf-guest", "running; victim.last hung"],
    [
      "load-after-guarded-open-trunc",
      "sealed",
      "running; victim.last value; host host.last denied(EPERM); bystander progress",
    ],
    ["load-in-nested-guest", "efault-exit", "stopped(efault); victim.last killed; counter starved"],
    ["load-in-nested-guest", "apf-loop", "looping; victim.last hung; counter progress; defect endless-loop"],
  ])("expects of %s x %s: %s", (id, proposalId, text) => {
    const scenario = scenarios.find((one) => one.id === id);
    const proposal = proposals.find((one) => one.id === proposalId);
    const expectation = scenario && proposal && expectations.find(scenario, proposal);
    if (!expectation) throw new Error("there is no such case");
    const { outcome, better, defect } = expectation;
    const pairs = (words: Readonly<Record<string, string>>): readonly string[] =>
      Object.entries(words).map((pair) => pair.join(" "));
    const parts = [
      ...(outcome.vmm === undefined ? [] : [outcome.vmm.join(" > ")]),
      ...pairs(outcome.accesses),
      ...pairs(outcome.host).map((step) => `host ${step}`),
      ...pairs(outcome.bystanders),
      ...pairs(outcome.events),
      ...(better.length === 0 ? [] : [`better ${better.join(" ")}`]),
      ...(defect === null ? [] : [`defect ${defect.id}`]),
    ];
    expect(parts.join("; ")).toBe(text);
  });

  it("expects nothing of what it does not know", () => {
    expect(expectations.find({ id: "nothing", actors: {} }, { id: "native", kvm: "none" })).toBeNull();
  });
});

describe("fixtures/errata.json", () => {
  it("has an owner, a link and a case for every entry", () => {
    for (const erratum of loadErrata()) {
      expect(erratum.owner, erratum.id).not.toBe("");
      expect(erratum.link, erratum.id).toMatch(/^https:/);
      expect(
        cases.some(({ name }) => isAbout(erratum, name)),
        erratum.id,
      ).toBe(true);
    }
  });
});

describe("fixtures/documented.json", () => {
  it("is about cells of the scorecard, each with a source", () => {
    for (const { proposal, property, source } of loadDocumented()) {
      expect(proposals.map(({ id }) => id)).toContain(proposal);
      expect(propertyIds).toContain(property);
      expect(source).not.toBe("");
    }
  });
});
