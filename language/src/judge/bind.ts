/** From a cell to the expectation of one case: `lost`, the VMM's history, `better` and `defect` filled in. Pure. */
import type { Answer } from "../answers.ts";
import { matchesGlob } from "../glob.ts";
import { nearest } from "../nearest.ts";
import type { Proposal } from "../proposal.ts";
import { type LinuxCall, type Touch, touchOf } from "../scenario/guest-verbs.ts";
import { accessesOf, actionsOf } from "../scenario/labels.ts";
import type { Scenario } from "../scenario/scenario.ts";
import { LOST, type OutcomeCell, type StepWord } from "./cell.ts";
import { type Defect, ENDLESS_LOOP } from "./defects.ts";
import type { Expectation } from "./expectations.ts";
import { type LinuxVmm, lostWord, vmmAfterLoss } from "./loss.ts";

/** A step that a label stands for: of one actor, of each copy. */
type Meant =
  | { readonly kind: "access"; readonly touch: Touch | LinuxCall; readonly inKernel: boolean }
  | { readonly kind: "host" };

export type Binding = {
  readonly cell: OutcomeCell;
  readonly scenario: Pick<Scenario, "actors">;
  readonly proposal: Pick<Proposal, "id" | "kvm">;
  /** The proposal's, or the one it is taken for; null for a proposal of the user's own. */
  readonly answer: Answer | null;
  /** The VMM of a Linux guest; null: the guest is as the proposal has it. */
  readonly onLinux: LinuxVmm | null;
  /** The expectation's name. */
  readonly rule: string;
  readonly defects: ReadonlyMap<string, Defect>;
};

/** `problem`: the cell is wrong about the scenario. `undecided`: the answer does not decide what `lost` is here. */
export type Bound =
  | { readonly kind: "expectation"; readonly expectation: Expectation }
  | { readonly kind: "undecided" }
  | { readonly kind: "problem"; readonly message: string };

/** Last states of the VMM that are an improvement. */
const improvements: ReadonlyMap<string, readonly string[]> = new Map([
  ["looping", ["running", "stopped(efault)", "stopped(memory-fault)"]],
  ["waiting", ["running", "stopped(efault)", "stopped(memory-fault)"]],
  ["stopped(efault)", ["stopped(memory-fault)"]],
]);

/** The states that are better than the last one of the history, whichever of its alternatives is expected. */
export function betterThan(vmm: readonly string[] | null): readonly string[] {
  const expected = vmm?.at(-1)?.split("|") ?? [];
  const better = new Set(expected.flatMap((state) => improvements.get(state) ?? []));
  return [...better].filter((state) => !expected.includes(state));
}

function unknown(what: string, name: string, known: readonly string[]): string {
  return `there is no ${what} ${JSON.stringify(name)}; nearest: ${nearest(name, known).join(", ") || "none"}`;
}

/** The steps that a label stands for, or what is wrong with it. */
function meantBy(label: string, { actors }: Pick<Scenario, "actors">): readonly Meant[] | string {
  const dot = label.indexOf(".");
  const [actorName, stepLabel] = [label.slice(0, dot), label.slice(dot + 1)];
  const named = Object.entries(actors).filter(([name]) => matchesGlob(actorName, name));
  if (named.length === 0) return unknown("actor", actorName, Object.keys(actors));
  const meant: Meant[] = [];
  for (const [name, actor] of named) {
    if (actor.in === "vmm") return `${name} is of the VMM: it has nothing to expect`;
    const steps =
      actor.in === "host-process"
        ? actionsOf(actor).map((action) => ({ label: action.label, meant: { kind: "host" } as const }))
        : accessesOf(actor).map((access) => ({
            label: access.label,
            meant: {
              kind: "access",
              touch: touchOf(access.step),
              inKernel: actor.in === "guest-kernel",
            } as const,
          }));
    const step = stepLabel === "last" ? steps.at(-1) : steps.find((one) => one.label === stepLabel);
    if (step === undefined) {
      return unknown(
        `step of ${name}`,
        stepLabel,
        steps.length === 0 ? [] : ["last", ...steps.map((one) => one.label)],
      );
    }
    meant.push(step.meant);
  }
  return meant;
}

/** The word with `lost` in place; null where the answer does not decide it for all that is meant. */
function resolve(
  word: string,
  meant: readonly Meant[],
  { answer, onLinux }: Pick<Binding, "answer" | "onLinux">,
): string | null {
  const alternatives = word.split("|");
  if (!alternatives.includes(LOST)) return word;
  const words = new Set(
    meant.map((one) =>
      answer === null || one.kind === "host"
        ? null
        : lostWord(answer, one.touch, { inKernel: one.inKernel, onLinux }),
    ),
  );
  const [lost] = words;
  if (words.size !== 1 || lost === undefined || lost === null) return null;
  return alternatives.map((one) => (one === LOST ? lost : one)).join("|");
}

function isLost({ word }: StepWord): boolean {
  return word.split("|").includes(LOST);
}

/** QEMU's TCG has a VMM, and runs the proposals that have no KVM. */
function hasVmm({ proposal, onLinux }: Pick<Binding, "proposal" | "onLinux">): boolean {
  return proposal.kvm !== "none" || onLinux === "emulated";
}

/** The history that is expected of a VMM; null without one. */
function historyOf(binding: Binding): readonly string[] | null {
  const { cell, answer, onLinux } = binding;
  if (!hasVmm(binding)) return null;
  const loss = answer === null ? null : vmmAfterLoss(answer, onLinux);
  // There is no KVM_RUN that fails under emulation: where a cell has the exit, the VMM dies.
  if (onLinux === "emulated" && cell.vmm !== null) {
    return cell.vmm.map((state) => state.replaceAll("stopped(efault)", loss ?? "stopped(efault)"));
  }
  return cell.vmm ?? [(cell.steps.some(isLost) ? loss : null) ?? "running"];
}

function defectOf({ cell, defects }: Binding, vmm: readonly string[] | null): Defect | null {
  const loops = vmm?.some((state) => state.split("|").includes("looping")) ?? false;
  const id = cell.defect ?? (loops ? ENDLESS_LOOP : "none");
  return defects.get(id) ?? null;
}

/** The meaning of the cell for this scenario under this proposal. */
export function bind(binding: Binding): Bound {
  const { cell, scenario, proposal, onLinux, rule } = binding;
  if (!hasVmm(binding) && (cell.vmm ?? []).some((state) => state !== "running")) {
    return { kind: "problem", message: `${proposal.id} has no VMM to be ${cell.vmm?.join(" > ")}` };
  }
  const accesses: Record<string, string> = {};
  const host: Record<string, string> = {};
  for (const { label, word } of cell.steps) {
    const meant = meantBy(label, scenario);
    if (typeof meant === "string") return { kind: "problem", message: meant };
    const resolved = resolve(word, meant, binding);
    if (resolved === null) return { kind: "undecided" };
    (meant.every(({ kind }) => kind === "host") ? host : accesses)[label] = resolved;
  }
  const names = Object.keys(scenario.actors);
  const stranger = Object.keys(cell.bystanders).find((name) => !names.includes(name));
  if (stranger !== undefined) return { kind: "problem", message: unknown("actor", stranger, names) };
  const vmm = historyOf(binding);
  return {
    kind: "expectation",
    expectation: {
      rule,
      outcome: {
        ...(vmm === null ? {} : { vmm }),
        accesses,
        host,
        bystanders: cell.bystanders,
        // Those of a guest that is ours.
        events: onLinux === null ? cell.events : {},
      },
      better: cell.better ?? betterThan(vmm),
      defect: defectOf(binding, vmm),
    },
  };
}
