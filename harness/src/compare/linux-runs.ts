/**
 * What Linux guests showed in recorded runs: the cases of one pair of kernels, host and guest, each case once. A recording of
 * fixtures/linux-guest is made of one; a report has as many as its runs have pairs.
 */
import {
  type Attestation,
  type Evidence,
  type KvmPart,
  type OutcomeWords,
  outcomeWords,
  recordedStyle,
} from "../../../language/src/index.ts";
import type { PlannedCase } from "../run/plan.ts";
import type { CaseResult } from "../run/result.ts";

export type LinuxCase = {
  readonly scenario: string;
  readonly scenarioHash: string;
  readonly proposal: string;
  readonly words: OutcomeWords;
  /** Of the guest's kernel; null: it said nothing. */
  readonly lastWords: string | null;
};

export type LinuxRun = {
  /** `uname -r` of the kernel whose KVM ran the guest. */
  readonly host: string;
  /** `uname -r` of the guest. */
  readonly guest: string;
  /** What the host's KVM has built in; left out: nothing. */
  readonly kvm?: KvmPart;
  /** What the guest's kernel was built with, as its SPEC names it; left out: nothing. */
  readonly guestPatches?: readonly string[];
  readonly cases: readonly LinuxCase[];
};

/** What of a console says what the kernel made of the loss: the gravest line, without its time. */
const telling = [
  /Kernel panic - not syncing: .*/,
  /Memory failure: 0x.*/,
  /BUG: .*/,
  /mce: Uncorrected .*/,
  /Kernel accessed poison in user space.*/,
  /mce: \[Hardware Error\]: CPU .*/,
  /Uhhuh\. NMI received.*/,
];

function lastWords(console: readonly string[]): string | null {
  for (const pattern of telling) {
    const found = console.findLast((line) => pattern.test(line));
    if (found !== undefined) return pattern.exec(found)?.[0] ?? found;
  }
  return null;
}

function linuxCase({ scenario, proposal }: PlannedCase, evidence: Evidence): LinuxCase {
  return {
    scenario: scenario.id,
    scenarioHash: scenario.hash,
    proposal: proposal.id,
    words: outcomeWords(evidence.observations, recordedStyle),
    lastWords: lastWords(evidence.guestConsole ?? []),
  };
}

type Group = { readonly kernels: Omit<LinuxRun, "cases">; readonly cases: Map<string, LinuxCase> };

/** A run a pair of kernels that are built alike, in the order in which they were met; of a case that ran twice the last. */
export function linuxRuns(results: readonly CaseResult[]): readonly LinuxRun[] {
  return runsOf(results, ({ planned: { nature } }, { guest }) =>
    // QEMU's guests are no recordings of our own VMM's.
    nature.isLinuxGuest === true && nature.vmm === undefined && guest !== null
      ? { release: guest.release, patches: guest.patches.map(({ name }) => name) }
      : null,
  );
}

/** What stands for `uname -r` of a guest that is no Linux. */
export const MICRO_GUEST = "micro-guest";

/** The same of the micro-guest on real KVM. */
export function microRuns(results: readonly CaseResult[]): readonly LinuxRun[] {
  return runsOf(results, ({ planned: { nature } }) =>
    nature.isReal && nature.runsKvm && nature.isLinuxGuest !== true
      ? { release: MICRO_GUEST, patches: [] }
      : null,
  );
}

type GuestOf = (
  result: CaseResult,
  attestation: Attestation,
) => { readonly release: string; readonly patches: readonly string[] } | null;

/** @param guestOf null: a case of another kind. */
function runsOf(results: readonly CaseResult[], guestOf: GuestOf): readonly LinuxRun[] {
  const groups = new Map<string, Group>();
  for (const one of results) {
    const { planned, result } = one;
    if (result?.kind !== "evidence") continue;
    const { attestation } = result.evidence;
    const guest = guestOf(one, attestation);
    if (guest === null) continue;
    const { kernel: host, vm } = attestation;
    const kvm = vm?.kvm ?? "today";
    const key = [host, guest.release, kvm, ...guest.patches].join("\n");
    const kernels = {
      host,
      guest: guest.release,
      ...(kvm === "today" ? {} : { kvm }),
      ...(guest.patches.length === 0 ? {} : { guestPatches: guest.patches }),
    };
    const group = groups.get(key) ?? { kernels, cases: new Map<string, LinuxCase>() };
    groups.set(key, group);
    group.cases.set(`${planned.scenario.id} ${planned.proposal.id}`, linuxCase(planned, result.evidence));
  }
  return [...groups.values()].map(({ kernels, cases }) => ({ ...kernels, cases: [...cases.values()] }));
}
