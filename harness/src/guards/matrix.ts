/**
 * The matrix of the guards: guard x way of truncating x what the guest does meanwhile. From evidence to a cell, and whether
 * the model allows what was seen. Pure; the cases themselves are run by `cli/guards.ts`.
 */

import {
  type Evidence,
  fileSizes,
  type Proposal,
  type Scenario,
  type ServerPart,
  vmmText,
} from "../../../language/src/index.ts";
import { loadScenarioFile } from "../../../language/src/read.ts";
import { allowedEnds, comparedText, isEnd } from "../engines/model/allowed.ts";
import { backendOf } from "../engines/model/translate.ts";
import { packagePath } from "../paths.ts";

/** The columns: what stands in the way. `apf-loop` is nothing at all. */
export const guardProposals = [
  "lease-fuse",
  "lease-kernel",
  "pre-content",
  "notify",
  "sealed",
  "apf-loop",
] as const;

/**
 * `prevented`: the mapping was gone before the file got shorter, and the host waited that long. `late`: reported after the
 * fact, in time for this guest. `missed`: not reported, and the VM was lost. `denied`: the host was refused.
 * `untouched`: what the guest has mapped has not got shorter; the host may have been held up all the same.
 */
export type Cell =
  | { readonly kind: "prevented"; readonly hostMs: number }
  | { readonly kind: "late"; readonly toldAfterMs: number }
  | { readonly kind: "missed"; readonly vmm: string; readonly refused: boolean }
  | { readonly kind: "denied"; readonly errno: string }
  | { readonly kind: "untouched"; readonly hostMs: number; readonly recalled: boolean }
  | { readonly kind: "not-for"; readonly reason: string };

export type MatrixScenario = { readonly way: string; readonly state: string; readonly scenario: Scenario };

/** `guards/WAY/STATE`, of both files. */
export function matrixScenarios(): readonly MatrixScenario[] {
  return ["fixtures/guards/one-vcpu.json", "fixtures/guards/two-vcpus.json"]
    .flatMap((file) => loadScenarioFile(packagePath(file)))
    .map((scenario) => {
      const [, way = "", state = ""] = scenario.id.split("/");
      return { way, state, scenario };
    });
}

function lastVmm(evidence: Evidence): string {
  const last = evidence.observations.vmm?.at(-1);
  return last === undefined ? "none" : vmmText(last);
}

/** The result of one case under a guard. A notification comes after the fact, all others before it. */
export function cellOf(scenario: Scenario, evidence: Evidence, guard: ServerPart): Cell {
  const steps = Object.values(evidence.observations.host).flatMap((actor) => Object.values(actor));
  const denied = steps.find((step) => step.kind === "denied");
  if (denied?.kind === "denied") return { kind: "denied", errno: denied.errno };
  const vmm = lastVmm(evidence);
  const { trace } = evidence;
  const refused = trace.some(({ kind }) => kind === "guard-refused");
  if (vmm !== "running") return { kind: "missed", vmm, refused };
  const acted = trace.findLast(({ tookMs, kind }) => tookMs !== undefined && kind !== "open");
  const opened = trace.findLast(({ tookMs }) => tookMs !== undefined);
  const recall = trace.find(({ kind }) => kind === "lease-break");
  const sizes = fileSizes(scenario);
  const shrinks = sizes.some((size) => size < scenario.backing.size);
  const hostMs = (acted ?? opened)?.tookMs ?? 0;
  if (!shrinks) return { kind: "untouched", hostMs, recalled: recall !== undefined };
  // The file is shorter when the call returns, give or take its own way back.
  const cutAtMs = acted?.atMs ?? 0;
  const released = trace.find(({ kind }) => kind === "lease-release");
  if (recall === undefined || released === undefined) return { kind: "missed", vmm, refused };
  return guard === "notify"
    ? { kind: "late", toldAfterMs: Math.max(0, released.atMs - cutAtMs + hostMs) }
    : { kind: "prevented", hostMs };
}

export type ModelsWord =
  | { readonly kind: "allowed" }
  | { readonly kind: "not-allowed"; readonly observed: string; readonly allowed: readonly string[] }
  /** The model has no answer, or its search was cut off. */
  | { readonly kind: "no-answer"; readonly reason: string };

/** Is what was seen one of the ends that the model has for this case? */
export function modelsWord(scenario: Scenario, proposal: Proposal, evidence: Evidence): ModelsWord {
  const { attestation, observations } = evidence;
  const allowed = allowedEnds(scenario, proposal, backendOf(attestation.kvmBackend));
  if (allowed.kind === "unsupported") return { kind: "no-answer", reason: allowed.reason };
  if (allowed.ends.some((end) => isEnd(end, observations))) return { kind: "allowed" };
  if (allowed.boundedBy !== null) return { kind: "no-answer", reason: `cut off by ${allowed.boundedBy}` };
  return {
    kind: "not-allowed",
    observed: comparedText(observations),
    allowed: allowed.ends.map(({ outcome }) => comparedText(outcome)),
  };
}

const ms = (value: number): string => (value < 10 ? value.toFixed(1) : value.toFixed(0));

/** As the table shows it. */
export function cellText(cell: Cell): string {
  switch (cell.kind) {
    case "prevented":
      return `prevented, +${ms(cell.hostMs)} ms`;
    case "late":
      return `late, ${ms(cell.toldAfterMs)} ms`;
    case "missed":
      return `missed: ${cell.vmm}${cell.refused ? " (not armed)" : ""}`;
    case "denied":
      return `denied ${cell.errno}`;
    case "untouched":
      return cell.recalled ? `untouched, +${ms(cell.hostMs)} ms` : "untouched";
    case "not-for":
      return "·";
  }
}
