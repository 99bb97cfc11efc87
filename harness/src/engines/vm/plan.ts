/**
 * The part of a VM process's plan that is the same whatever guest it runs: the guest programs with addresses, signal
 * numbers, the file, limits. Pure.
 */
import {
  isEarlyFailure,
  isIoAnswered,
  type Layout,
  mappingsOf,
  type Proposal,
  type Scenario,
  STUCK,
  signalNames,
  type VmmStep,
  type WindowMapping,
} from "../../../../language/src/index.ts";
import { MAX_WINDOW_BYTES, type PolicyName } from "../../../../vmm/src/index.ts";
import { type GuestTask, guestTasks, windowBytesOf } from "../guest-program.ts";
import type { GuardPlan } from "./guard.ts";

/** Plain data: it crosses a process border. */
export type CasePlan = {
  readonly layout: Layout;
  readonly filePath: string;
  readonly sourceDirectory: string;
  readonly mappings: readonly WindowMapping[];
  readonly windowBytes: number;
  readonly policy: PolicyName;
  /** The guard that reports truncations to the window's owner; null: none. */
  readonly guard: GuardPlan | null;
  /** Watch the file and take away from the guest what its end has left behind. */
  readonly fence: boolean;
  /** Guest tasks in the order of the scenario. */
  readonly tasks: readonly GuestTask[];
  /** Number = index. */
  readonly signals: readonly string[];
  readonly vmmActors: readonly { readonly actor: string; readonly steps: readonly VmmStep[] }[];
  /** An actor awaits `stuck`, so the case does not end there. */
  readonly stuckIsAwaited: boolean;
  /** The guest may run no longer than this. */
  readonly lifeMs: number;
  /** `CaseContext.slowness`. */
  readonly slowness: number;
  /** No page's I/O takes longer. */
  readonly ioPatienceMs: number;
  /** No READ stays without an answer. */
  readonly isIoAnswered: boolean;
  /** The VMM has asked to be told of memory errors before it meets them. */
  readonly isToldEarly: boolean;
  /** Nor beyond this moment (`monotonicMs`), however late it was started. */
  readonly latestEndMs: number;
};

/** Where a case runs, and for how long. */
export type PlanPlace = Pick<
  CasePlan,
  "filePath" | "sourceDirectory" | "lifeMs" | "slowness" | "ioPatienceMs" | "latestEndMs"
> & {
  readonly leaseSocket: string | null;
};

export function commonPlan(scenario: Scenario, proposal: Proposal, place: PlanPlace): CasePlan {
  const { leaseSocket, ...files } = place;
  const windowBytes = windowBytesOf(scenario);
  if (windowBytes > MAX_WINDOW_BYTES)
    throw new RangeError(`window of ${windowBytes} bytes: at most ${MAX_WINDOW_BYTES}`);
  const actors = Object.entries(scenario.actors);
  return {
    ...files,
    isIoAnswered: isIoAnswered(scenario),
    isToldEarly: actors.some(([, actor]) => actor.in === "vmm" && actor.steps.some(isEarlyFailure)),
    layout: scenario.layout,
    mappings: mappingsOf(scenario),
    windowBytes,
    policy: proposal.vmm === "none" ? "stop" : proposal.vmm,
    guard: proposal.server === "none" ? null : { name: proposal.server, leaseSocket },
    fence: proposal.exits === "fence",
    tasks: guestTasks(scenario),
    signals: signalNames(scenario),
    vmmActors: actors.flatMap(([actor, one]) => (one.in === "vmm" ? [{ actor, steps: one.steps }] : [])),
    stuckIsAwaited: actors.some(([, { steps }]) =>
      steps.some((step) => step.verb === "await" && step.name === STUCK),
    ),
  };
}
