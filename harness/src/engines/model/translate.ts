/**
 * From a scenario and a proposal to a case of the model, and from the model's labels of an outcome back to the scenario's.
 * Pure. What the model cannot express is refused with the reason, never guessed.
 *
 * The model's pages are the file pages that the scenario touches, in order of file offset; a size in bytes becomes the
 * number of those pages that begin before it, because the page that contains the end of the file stays accessible
 * (filemap_fault compares page numbers).
 */

import {
  CaseError,
  HOST_ACTOR,
  type AccessStep as ModelAccess,
  type ModelCase,
  type HostStep as ModelHostStep,
  modelCase,
  type Task,
  type TaskStep,
} from "../../../../kvm-model/src/index.ts";
import {
  type AccessStep,
  type AccessWord,
  accessBytes,
  accessesOf,
  actionsOf,
  actOf,
  allAccesses,
  cpuOf,
  effectOf,
  type FaultRule,
  fileOffsetAt,
  fileSizes,
  firstUnallocated,
  type GuestActor,
  guestActors,
  guestPersonas,
  type HostStep,
  heldAt,
  hostActors,
  isAccess,
  isAction,
  isBystander,
  isMappedIntoGuest,
  kernelCopyOptionsOf,
  labelledAccesses,
  linuxCallOf,
  type Outcome,
  type Parts,
  type Proposal,
  type Scenario,
  STUCK,
  sizeAfter,
  touchOf,
  untilOf,
  writtenBy,
} from "../../../../language/src/index.ts";
import { WINDOW_BASE } from "../../../../vmm/src/index.ts";
import { errorText } from "../../error-text.ts";
import { sealedReason } from "../sealed.ts";

const PAGE = 4096n;

/** Machine properties that change how KVM executes an access: software KVM interprets CPL 0 instead of letting it fault. */
export type Backend = { readonly interpretsKernelMode: boolean };

/** KVM on hardware: kernel mode runs natively. */
export const hardware: Backend = { interpretsKernelMode: false };

/** The backend behind an attestation's `kvmBackend`. */
export function backendOf(kvmBackend: string | null): Backend {
  return { interpretsKernelMode: kvmBackend === "kvm_pvm" };
}

export type TranslateOptions = {
  readonly backend: Backend;
  /** Has the guest a timer interrupt that may switch tasks? */
  readonly timer: boolean;
};

export type Translation =
  | { readonly kind: "yes"; readonly case: ModelCase; readonly plan: Plan }
  | { readonly kind: "no"; readonly reason: string };

/** An access is one step for each page that it touches. */
type TaskLabel = { readonly label: string; readonly steps: readonly number[] };

/** Where the scenario's labels are among the model's steps. */
export type Plan = {
  readonly tasks: readonly { readonly name: string; readonly labels: readonly TaskLabel[] }[];
  readonly hosts: readonly {
    readonly name: string;
    readonly labels: readonly { readonly label: string; readonly step: number }[];
  }[];
  /** The model's pages: their numbers in the file. */
  readonly filePages: readonly bigint[];
  /** A process of the host: there is no VMM and no guest to observe. */
  readonly native: boolean;
  readonly scenario: Scenario;
};

/**
 * A process of the host gets SIGBUS at its own instruction, from filemap_fault(). The model has no processes; a guest
 * whose fault is final and is handed to the task as it stands sees the same.
 */
const nativeParts: Parts = {
  kvm: "final-efault",
  exits: "kvm",
  vmm: "inject-pf",
  guest: "pv-error-no-apf",
  server: "none",
  lapic: "kernel",
};

export function partsOf(proposal: Proposal): Parts | null {
  const { kvm, exits, vmm, guest, server, lapic } = proposal;
  if (kvm === "none") return nativeParts;
  if (exits === "none" || vmm === "none" || guest === "none" || lapic === null) return null;
  return { kvm, exits, vmm, guest, server, lapic };
}

/** File pages (numbers) that an access spans. */
export function pagesOf(scenario: Scenario, step: AccessStep): bigint[] {
  const first = fileOffsetAt(scenario, step.offset);
  const last = first + BigInt(accessBytes(step)) - 1n;
  return Array.from(
    { length: Number(last / PAGE - first / PAGE) + 1 },
    (_, index) => first / PAGE + BigInt(index),
  );
}

/** By file page that an access spans: its guest frame number, where the window lies in the micro-guest. */
function gfnsOf(scenario: Scenario, step: AccessStep): [filePage: bigint, gfn: bigint][] {
  const first = (WINDOW_BASE + step.offset) / PAGE;
  return pagesOf(scenario, step).map((page, index) => [page, first + BigInt(index)]);
}

/** Is a page of the file touched through two windows? Then it has two gfns. */
function hasTwoGfns(scenario: Scenario): boolean {
  const known = new Map<bigint, bigint>();
  for (const [page, gfn] of allAccesses(scenario).flatMap((step) => gfnsOf(scenario, step))) {
    if ((known.get(page) ?? gfn) !== gfn) return true;
    known.set(page, gfn);
  }
  return false;
}

/** The tasks that the guest's tasks kill. */
function killed(scenario: Scenario): string[] {
  return guestActors(scenario).flatMap(([, actor]) =>
    actor.steps.flatMap((step) => ("actor" in step ? [step.actor] : [])),
  );
}

/**
 * Does the guest touch a part of the file that gets other bytes, where the model has only values? Bytes stored through
 * another mapping into what had become zeros are such a value.
 */
function touchesChanged(scenario: Scenario): boolean {
  const starts = allAccesses(scenario).map((step) => fileOffsetAt(scenario, step.offset));
  return hostActors(scenario).some(([, actor]) => {
    let size = scenario.backing.size;
    let zeroedFrom = size;
    return actor.steps.some((step) => {
      if (!isAction(step)) return false;
      const range = actOf(step).rewrites?.(step, scenario.backing.size);
      const isRefilled = step.verb === "map-store" && step.offset >= zeroedFrom && step.offset < size;
      size = sizeAfter(step, size);
      if (size < zeroedFrom) zeroedFrom = size;
      return range !== undefined && !isRefilled && starts.some((at) => at >= range.from && at < range.to);
    });
  });
}

/** Does a page need I/O that takes its time? */
function isSlow({ backing }: Scenario): boolean {
  return (backing.mount?.faults ?? []).some(({ action }) => action.kind === "delay");
}

/** Why the model has no answer, or null. */
function refusal(scenario: Scenario, proposal: Proposal): string | null {
  if (partsOf(proposal) === null) return "the proposal names neither a whole VM nor none";
  if (!isMappedIntoGuest(scenario.layout)) {
    return `layout ${scenario.layout} is about a guest's page cache; the model's guest has none`;
  }
  const call = linuxCallOf(scenario);
  if (call !== null) return `${call} is a system call that the model's guest has not`;
  if (scenario.backing.cache !== undefined) {
    return "the model has no client of a file server that holds attributes";
  }
  if (Object.values(scenario.actors).some((actor) => actor.in === "vmm")) {
    return "what a VMM does besides its policy is not in the model";
  }
  const reachesOriginal = sealedReason(scenario, proposal.server);
  if (reachesOriginal !== null) return reachesOriginal;
  if (proposal.vmm === "remap-zero" && allAccesses(scenario).some((step) => touchOf(step).kind === "fetch")) {
    return "remap-zero replaces the code page with zeros: what the guest executes then is undefined";
  }
  if (touchesChanged(scenario))
    return "bytes that the host moves or changes: the model knows old, new and zero";
  if (hasTwoGfns(scenario))
    return "a page of the file at two guest addresses: a page of the model has one gfn";
  if (hostActors(scenario).length > 1) return "the model has one host process";
  const { mount } = scenario.backing;
  if (
    scenario.backing.kind === "private-swapped" &&
    guestActors(scenario).some(([, actor]) => isBystander(actor))
  ) {
    return "the model has no clock: who gets on while a page is swapped in does not show in how it ends";
  }
  const refused = mount?.faults.map(refusedFault).find((reason) => reason !== null);
  if (refused != null) return refused;
  const hangs = mount?.faults.some(({ action }) => action.kind === "hang") ?? false;
  if (hangs && hostActors(scenario).some(([, { steps }]) => steps.some(isAction))) {
    return "a host that changes the file waits for the locked page of a READ that is never answered: not in the model";
  }
  if (killed(scenario).length > 1) return "the model kills one task";
  if (scenario.nmi !== undefined && proposal.vmm === "nmi") {
    return "an NMI of another origin beside those that report: the model has one NMI that is none of the VMM's";
  }
  for (const size of fileSizes(scenario)) {
    for (const step of allAccesses(scenario)) {
      const from = fileOffsetAt(scenario, step.offset);
      const end = from + BigInt(accessBytes(step));
      const samePage = size % PAGE !== 0n && from / PAGE === size / PAGE;
      if (samePage && end > size)
        return "bytes behind the end of the file in its last page: the model knows pages only";
    }
  }
  return null;
}

function isIn(page: bigint, at: number | null): boolean {
  return at === null || BigInt(at) / PAGE === page;
}

/** Which rules for the server the model has an equal of: a READ that takes time, a page that can never be read. */
function refusedFault({ operation, after, times, action }: FaultRule): string | null {
  if (operation !== "read") return `the model has no ${operation.toUpperCase()} that goes wrong`;
  if (action.kind === "delay") return null;
  if (action.kind !== "fail" && action.kind !== "hang")
    return "the model has no READ that is cut short, or that cuts the file";
  return after === 0 && times === null ? null : "in the model a page can always be read, or never";
}

class Translator {
  readonly #scenario: Scenario;
  /** The file pages that the scenario touches, by number: the model's pages. */
  readonly pages: readonly bigint[];
  /** Their guest frame numbers. */
  readonly gfns: readonly bigint[];
  readonly #backend: Backend;

  constructor(scenario: Scenario, backend: Backend) {
    this.#scenario = scenario;
    this.#backend = backend;
    const touched = new Map(allAccesses(scenario).flatMap((step) => gfnsOf(scenario, step)));
    const sorted = [...touched].sort(([a], [b]) => (a < b ? -1 : 1));
    this.pages = sorted.map(([page]) => page);
    this.gfns = sorted.map(([, gfn]) => gfn);
  }

  /** Model pages that begin before `sizeBytes`. */
  count(sizeBytes: bigint): number {
    return this.pages.filter((page) => page * PAGE < sizeBytes).length;
  }

  starts(): ModelCase["pages"] {
    const { kind, mount } = this.#scenario.backing;
    const hole = firstUnallocated(this.#scenario);
    return this.pages.map((page) => {
      if (hole !== null && page * PAGE >= hole) return "no-space";
      if (kind === "private-swapped") return "on-disk";
      if (mount === undefined) return "resident";
      const meets = (kind: FaultRule["action"]["kind"]): boolean =>
        mount.faults.some(({ at, action }) => action.kind === kind && isIn(page, at));
      if (meets("hang")) return "unanswered";
      return meets("fail") ? "io-error" : "on-disk";
    });
  }

  task(name: string, actor: GuestActor): { readonly task: Task; readonly labels: readonly TaskLabel[] } {
    const labels: TaskLabel[] = [];
    const names = labelledAccesses(actor.steps);
    const steps: TaskStep[] = [];
    for (const [index, step] of actor.steps.entries()) {
      if (isAccess(step)) {
        const spanned = this.#access(step, actor);
        const until = untilOf(step);
        // Again and again is once, at any time, and once more behind the signal: no other repetition sees anything else.
        const done: TaskStep[] =
          until === null ? spanned : [...spanned, { op: "await", name: until }, ...spanned];
        labels.push({
          label: names.get(index) ?? step.verb,
          steps: done.flatMap((one, at) => (one.op === "await" ? [] : [steps.length + at])),
        });
        steps.push(...done);
      } else if (step.verb === "count") steps.push({ op: "count" });
      // The kill itself is the case's: it may come at any time.
      else if (step.verb !== "kill") steps.push({ op: step.verb, name: step.name });
    }
    const onSigbus = (actor.in === "guest-task" ? actor.onSigbus : undefined) ?? "killed";
    return { task: { name, vcpu: cpuOf(actor), steps, onSigbus }, labels };
  }

  #access(step: AccessStep, actor: GuestActor): ModelAccess[] {
    const kernel = actor.in === "guest-kernel";
    const nested = actor.in === "guest-task" && actor.nested === true;
    const interruptsOff = actor.in === "guest-task" && actor.interrupts === "off";
    const touch = touchOf(step);
    if (touch.instruction === null) throw new Error(`${step.verb}: not in the model`);
    const { by, op, opInKernel } = touch;
    const emulated = (kernel || by === "kernel") && this.#backend.interpretsKernelMode;
    const options = kernelCopyOptionsOf(step);
    return pagesOf(this.#scenario, step).map((page, index) => ({
      op: kernel ? opInKernel : op,
      page: this.pages.indexOf(page),
      mode: kernel ? "kernel" : nested ? "nested" : "user",
      interrupts: options.includes("irqs-off") || interruptsOff ? "off" : "on",
      ...(options.includes("no-fixup") ? { fixup: false } : {}),
      ...(emulated ? { emulated } : {}),
      ...(index > 0 ? { continues: true } : {}),
    }));
  }

  host(step: HostStep, through: "file" | "mount", size: bigint): ModelHostStep {
    if (step.verb === "signal") return { op: "signal", name: step.name };
    // The engine's own signal: without it the host acts earlier, too, never later than it could.
    if (step.verb === "await")
      return step.name === STUCK ? { op: "nothing" } : { op: "await", name: step.name };
    if (step.verb === "map-store" && this.pages.includes(step.offset / PAGE)) {
      return { op: "write", page: this.pages.indexOf(step.offset / PAGE) };
    }
    const effect = effectOf(step, size);
    switch (effect.kind) {
      case "resize": {
        const pages = this.count(effect.sizeBytes);
        if (effect.sizeBytes >= size) return { op: "extend", pages };
        return {
          op: "truncate",
          pages,
          via: effect.via,
          through: through === "mount" ? "server" : "file",
        };
      }
      case "hole": {
        // Only whole pages become holes; the rest of a page is zeroed, which no access here distinguishes.
        const page = this.count(effect.range.from);
        return { op: "punch", page, pages: this.count(effect.range.to) - page };
      }
      case "none":
        return { op: "nothing" };
    }
  }
}

export function translate(
  scenario: Scenario,
  proposal: Proposal,
  { backend, timer }: TranslateOptions,
): Translation {
  const nmi = scenario.nmi ?? ("off" as const);
  if (nmi === "lost-page")
    return { kind: "no", reason: "the model has no NMI whose handler touches the window" };
  const reason = refusal(scenario, proposal);
  const parts = partsOf(proposal);
  if (reason !== null || parts === null) return { kind: "no", reason: reason ?? "no such proposal" };
  const translator = new Translator(scenario, backend);
  const tasks = guestActors(scenario).map(([name, actor]) => ({ name, ...translator.task(name, actor) }));
  const hosts = hostActors(scenario);
  const hostSteps: ModelHostStep[] = [];
  let size = scenario.backing.size;
  for (const [, actor] of hosts) {
    for (const step of actor.steps) {
      hostSteps.push(translator.host(step, actor.through, size));
      size = sizeAfter(step, size);
    }
  }
  const plan: Plan = {
    tasks: tasks.map(({ name, labels }) => ({ name, labels })),
    hosts: hosts.map(([name, actor]) => ({
      name,
      labels: actionsOf(actor).map(({ label, index }) => ({ label, step: index })),
    })),
    filePages: translator.pages,
    native: proposal.kvm === "none",
    scenario,
  };
  try {
    const given = {
      ...parts,
      name: `${scenario.id} x ${proposal.id}`,
      vcpus: 1 + Math.max(...guestActors(scenario).map(([, actor]) => cpuOf(actor))),
      pages: translator.starts(),
      gfns: translator.gfns,
      nmi,
      kill: killed(scenario)[0] ?? null,
      tasks: tasks.map(({ task }) => task),
      host: hostSteps,
      slowIo: isSlow(scenario) && guestActors(scenario).some(([, actor]) => isBystander(actor)),
      preempt: timer,
      sendAlways: guestPersonas[parts.guest].asyncPageFaults === "send-always",
    };
    return { kind: "yes", case: modelCase(given), plan };
  } catch (error) {
    // Without the case's name, so that cases that are refused alike are counted together.
    if (error instanceof CaseError)
      return { kind: "no", reason: `${error.problem}: the model takes ${error.fix}` };
    return { kind: "no", reason: errorText(error) };
  }
}

/** An access of several pages saw the first thing that was not the value. */
function spannedWord(words: readonly AccessWord[]): AccessWord {
  return words.find(({ kind }) => kind !== "value") ?? { kind: "value" };
}

const NOT_REACHED = { kind: "not-reached" } as const;

/** The model knows that a page has become zeros; which bytes of it an access sees, the scenario tells. */
function withBytes(outcome: Outcome, scenario: Scenario): Outcome {
  const hasWritten = writtenBy(scenario, outcome.accesses, outcome.host);
  const accesses = guestActors(scenario).map(([name, actor]) => {
    const words = { ...outcome.accesses[name] };
    for (const { label, index } of accessesOf(actor)) {
      if (words[label]?.kind !== "zero") continue;
      const held = heldAt(scenario, { actor: name, index }, hasWritten);
      if (held.zerosAreHeld || held.isWritten) words[label] = { kind: "value" };
    }
    return [name, words] as const;
  });
  return { ...outcome, accesses: { ...outcome.accesses, ...Object.fromEntries(accesses) } };
}

/** An outcome of the model's case, under the scenario's labels. */
export function relabel(outcome: Outcome, plan: Plan): Outcome {
  return withBytes(underLabels(outcome, plan), plan.scenario);
}

function underLabels({ accesses, host, ...rest }: Outcome, { tasks, hosts, native }: Plan): Outcome {
  const wordOf = (task: string, step: number): AccessWord => accesses[task]?.[step] ?? NOT_REACHED;
  return {
    accesses: Object.fromEntries(
      tasks.map(({ name, labels }) => [
        name,
        Object.fromEntries(
          labels.map(({ label, steps }) => [label, spannedWord(steps.map((step) => wordOf(name, step)))]),
        ),
      ]),
    ),
    host: Object.fromEntries(
      hosts.map(({ name, labels }) => [
        name,
        Object.fromEntries(labels.map(({ label, step }) => [label, host[HOST_ACTOR]?.[step] ?? NOT_REACHED])),
      ]),
    ),
    vmm: native ? null : rest.vmm,
    guestKernel: native ? null : rest.guestKernel,
    bystanders: rest.bystanders,
  };
}
