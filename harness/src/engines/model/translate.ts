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
  type PageStart,
  type Task,
  type TaskStep,
} from "../../../../kvm-model/src/index.ts";
import {
  type AccessStep,
  type AccessWord,
  type Actor,
  accessBytes,
  accessesOf,
  actionsOf,
  actOf,
  allAccesses,
  changesServer,
  cpuOf,
  type Effected,
  effectOf,
  effectsOf,
  type FaultRule,
  FILE_BYTES_MAX,
  type FileEffect,
  type FileRange,
  fileOffsetAt,
  fileSizes,
  firstUnallocated,
  type GuestActor,
  guestActors,
  guestPersonas,
  type HostStep,
  HUGE_PAGE_BYTES,
  heldAt,
  hostActors,
  isAccess,
  isAction,
  isBefore,
  isBystander,
  isDeviceAccess,
  isIoAnswered,
  isMappedIntoGuest,
  isWrite,
  kernelCopyOptionsOf,
  labelledAccesses,
  linuxCallOf,
  type Outcome,
  type Parts,
  type Proposal,
  pageBytesOf,
  type Scenario,
  STUCK,
  type StepAt,
  servedPage,
  touchOf,
  type UserfaultHandler,
  untilOf,
  userfaultActionAt,
  type VmmStep,
  writtenBy,
} from "../../../../language/src/index.ts";
import { WINDOW_BASE } from "../../../../vmm/src/index.ts";
import { errorText } from "../../error-text.ts";
import { beyondProcess } from "../beyond-process.ts";
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

function effectAt(effects: readonly Effected[], { actor, index }: StepAt): Effected | undefined {
  return effects.find(({ at }) => at.actor === actor && at.index === index);
}

/**
 * Does the guest touch a part of the file that gets other bytes, where the model has only values? Bytes stored through
 * another mapping into what had become zeros are such a value.
 */
function touchesChanged(scenario: Scenario): boolean {
  const starts = allAccesses(scenario).map((step) => fileOffsetAt(scenario, step.offset));
  const effects = effectsOf(scenario);
  return hostActors(scenario).some(([name, actor]) => {
    let size = scenario.backing.size;
    let zeroedFrom = size;
    return actor.steps.some((step, index) => {
      if (!isAction(step)) return false;
      const range = actOf(step).rewrites?.(step, scenario.backing.size);
      const isRefilled = step.verb === "map-store" && step.offset >= zeroedFrom && step.offset < size;
      size = effectAt(effects, { actor: name, index })?.sizeBytes ?? size;
      if (size < zeroedFrom) zeroedFrom = size;
      return range !== undefined && !isRefilled && starts.some((at) => at >= range.from && at < range.to);
    });
  });
}

const unchanged = (sizeBytes: bigint): Pick<Effected, "effect" | "sizeBytes"> => ({
  effect: { kind: "none" },
  sizeBytes,
});

/** Steps by the file's name, behind one that has taken the name away, whose result is not simply "done". */
function refusedByName({ actors }: Scenario): string | null {
  for (const [, { steps }] of hostActors({ actors })) {
    let name: "mapped" | "empty" | "none" = "mapped";
    for (const step of steps) {
      if (!isAction(step)) continue;
      const { descriptor, server } = actOf(step);
      const isByName = descriptor !== "uses" && server === undefined;
      if (isByName && name === "none") return `${step.verb} behind unlink: the model has inodes, no names`;
      const needsPages = step.verb === "collapse" || step.verb === "map-store";
      if (needsPages && name === "empty")
        return `${step.verb} behind rename-over, of an empty file: the model has one file`;
      if (step.verb === "unlink") name = "none";
      if (step.verb === "rename-over") name = "empty";
    }
  }
  return null;
}

/** The bytes of the file that an access touches: from its first up to, not including, its last. */
function bytesOf(scenario: Scenario, step: AccessStep): FileRange {
  const from = fileOffsetAt(scenario, step.offset);
  return { from, to: from + BigInt(accessBytes(step)) };
}

/** Is a page touched of which a hole zeroes a part? */
function touchesPart(scenario: Scenario): boolean {
  const parts = effectsOf(scenario).flatMap(({ effect, sizeBytes }) => {
    if (effect.kind !== "hole") return [];
    const { from, to } = effect.range;
    return [from, to < sizeBytes ? to : 0n].filter((edge) => edge % PAGE !== 0n).map((edge) => edge / PAGE);
  });
  return allAccesses(scenario).some((step) => pagesOf(scenario, step).some((page) => parts.includes(page)));
}

/** Does a page hold several values of which the model, whose page has one, would take one for another? */
function holdsSeveral(scenario: Scenario): boolean {
  const accesses = allAccesses(scenario);
  const hostStores = hostActors(scenario).flatMap(([, { steps }]) =>
    steps.flatMap((step) => (step.verb === "map-store" ? [{ from: step.offset, to: step.offset + 8n }] : [])),
  );
  const besideHost = hostStores.some((store) =>
    accesses.some((step) => {
      const { from, to } = bytesOf(scenario, step);
      const isInPage = pagesOf(scenario, step).includes(store.from / PAGE);
      return isInPage && !(from >= store.from && to <= store.to);
    }),
  );
  // A copy that ends at its second page has written to the first. A move writes to both or to none.
  const placed = guestActors(scenario).flatMap(([name, actor]) =>
    accessesOf(actor).map(({ step, index }) => ({ step, at: { actor: name, index } })),
  );
  const copies = placed.filter(
    ({ step }) =>
      isWrite(step) && touchOf(step).instruction === "string" && pagesOf(scenario, step).length > 1,
  );
  const inHalf = copies.some((copy) => {
    const { from, to } = bytesOf(scenario, copy.step);
    return placed.some(({ step, at }) => {
      const other = bytesOf(scenario, step);
      const sees = step !== copy.step && !isBefore(scenario, at, copy.at);
      return sees && other.from < to && from < other.to;
    });
  });
  return besideHost || inHalf;
}

/**
 * May a store of the host meet a page that is lost, which ends its process? Behind the end of the file, where the file
 * system has no space, or where its server fails.
 */
function mayEndHost(scenario: Scenario): boolean {
  const { backing } = scenario;
  const effects = effectsOf(scenario);
  const space = firstUnallocated(scenario) ?? FILE_BYTES_MAX;
  return hostActors(scenario).some(([name, { steps, through }]) => {
    let size = backing.size;
    return steps.some((step, index) => {
      const pagesEnd = size + PAGE - 1n - ((size + PAGE - 1n) % PAGE);
      size = effectAt(effects, { actor: name, index })?.sizeBytes ?? size;
      if (step.verb !== "map-store") return false;
      const end = step.offset + 8n;
      return (
        end > pagesEnd || end > space || (through === "mount" && (backing.mount?.faults ?? []).length > 0)
      );
    });
  });
}

/** Does the file system get space back of which a page would be given that had none? */
function getsSpace(scenario: Scenario): boolean {
  const hole = firstUnallocated(scenario);
  if (hole === null) return false;
  const isTouched = allAccesses(scenario).some((step) => bytesOf(scenario, step).to > hole);
  const frees = effectsOf(scenario).some(({ effect }) => {
    if (effect.kind === "hole") return effect.range.from < hole;
    return effect.kind === "resize" && effect.sizeBytes < hole;
  });
  return isTouched && frees;
}

/** What becomes of the file that the model, which knows pages, has no equal of. */
function refusedOfFile(scenario: Scenario): string | null {
  const byName = refusedByName(scenario);
  if (byName !== null) return byName;
  if (mayEndHost(scenario))
    return "a store of the host to a page that is lost, which ends its process: in the model it is done";
  if (touchesPart(scenario)) return "a hole that begins or ends in a page: the model knows pages only";
  if (holdsSeveral(scenario)) return "several values in one page: a page of the model has one";
  if (getsSpace(scenario)) return "a full file system that gets space back: the model gives none";
  const pageBytes = pageBytesOf(scenario.backing.kind);
  const isUneven = hostActors(scenario).some(([, { steps }]) =>
    steps.some((step) => {
      const effect = effectOf(step, scenario.backing.size);
      return effect.kind === "resize" && effect.sizeBytes % pageBytes !== 0n;
    }),
  );
  return scenario.backing.kind === "hugetlb" && isUneven
    ? "a size that is not of whole huge pages, which hugetlbfs denies (EINVAL): the model has no such result"
    : null;
}

/** Does a page need I/O that takes its time? */
function isSlow({ backing }: Scenario): boolean {
  if ((backing.handler?.rules ?? []).some(({ action }) => action.kind === "delay")) return true;
  return (backing.mount?.faults ?? []).some(({ action }) => action.kind === "delay");
}

/** The steps of the host: of its processes, and of the VMM, whose mapping is the host's matter as well. */
function hostSteps({
  actors,
}: Scenario): readonly (readonly [string, Extract<Actor, { readonly in: "host-process" | "vmm" }>])[] {
  return Object.entries(actors).flatMap(([name, actor]) =>
    actor.in === "host-process" || actor.in === "vmm" ? [[name, actor] as const] : [],
  );
}

/** What a VMM does besides its policy that the model has no equal of. */
function refusedOfVmm(scenario: Scenario, proposal: Proposal): string | null {
  for (const actor of Object.values(scenario.actors)) {
    for (const step of actor.in === "vmm" ? actor.steps : []) {
      switch (step.verb) {
        case "signal":
          continue;
        case "unmap":
          if (proposal.exits !== "fence") continue;
          return "what the fence of the model has not put up it takes down all the same";
        case "await":
          if (step.name === STUCK) return "a VMM that learns of a stop is not in the model";
          continue;
        case "protect":
          if (step.protection === "none" && proposal.exits !== "fence") continue;
          if (step.protection === "none")
            return "what the fence of the model has not put up it takes down all the same";
          return "a mapping that may be read and not written is not in the model";
        case "memory-failure":
          // The model's VMM has a handler of SIGBUS, as QEMU has.
          if (proposal.vmm === "poison") continue;
          return "a VMM without a handler of SIGBUS is not in the model";
        case "device-read":
        case "device-write":
          return "a device's access is the VMM's own: not in the model";
        case "resume":
        case "map":
        case "discard":
          return `what a VMM does besides its policy is not in the model (${step.verb})`;
      }
    }
  }
  return null;
}

/** A device's access in a process of its own: nothing of the VM's. */
function refusedOfHost(scenario: Scenario): string | null {
  const actions = hostActors(scenario).flatMap(([, actor]) => actionsOf(actor));
  return actions.some(({ step }) => isDeviceAccess(step))
    ? "a device's access is its own process's: not in the model"
    : null;
}

/** A kind of memory that the model has no equal of. */
function refusedMemory({ backing, actors }: Scenario): string | null {
  const { kind, readonly, handler } = backing;
  if (readonly) return "a mapping that may be read and not written is not in the model";
  const isNew = kind === "private" || kind === "userfaultfd";
  if (isNew && allAccesses({ actors }).some(isWrite))
    return "a store to a private page does not come to the file: in the model it does";
  const act = hostActors({ actors }).flatMap(([, { steps }]) => steps.filter(isAction));
  if (kind === "private" && act.some((step) => effectOf(step, backing.size).kind === "hole"))
    return "a hole under a private mapping is not in the model";
  if (kind === "guest-memfd")
    return "a page that KVM does not look up by the VMM's mapping is not in the model";
  if (kind === "userfaultfd" && act.length > 0) return "the file is not the guest's memory";
  const bad = handler?.rules.find(({ action }) => action.kind === "close" || action.kind === "poison");
  return bad === undefined
    ? null
    : `a handler of a userfaultfd that does "${bad.action.kind}" is not in the model`;
}

/** Why the model has no answer, or null. */
function refusal(scenario: Scenario, proposal: Proposal): string | null {
  const beyond = proposal.kvm === "none" ? beyondProcess(scenario) : null;
  if (beyond !== null) return beyond;
  if (partsOf(proposal) === null) return "the proposal names neither a whole VM nor none";
  if (!isMappedIntoGuest(scenario.layout)) {
    return `layout ${scenario.layout} is about a guest's page cache; the model's guest has none`;
  }
  const call = linuxCallOf(scenario);
  if (call !== null) return `${call} is a system call that the model's guest has not`;
  if (scenario.backing.cache !== undefined) {
    return "the model has no client of a file server that holds attributes";
  }
  const isLeft = guestActors(scenario).some(
    ([, actor]) =>
      actor.in === "guest-task" &&
      actor.onSigbus === "next-step" &&
      actor.steps.some((step) => untilOf(step) !== null),
  );
  if (isLeft) return "a repetition that SIGBUS ends before its signal: the model's waits for it";
  const ofVmm = refusedOfVmm(scenario, proposal);
  if (ofVmm !== null) return ofVmm;
  const ofHost = refusedOfHost(scenario);
  if (ofHost !== null) return ofHost;
  const memory = refusedMemory(scenario);
  if (memory !== null) return memory;
  const reachesOriginal = sealedReason(scenario, proposal.server);
  if (reachesOriginal !== null) return reachesOriginal;
  if (proposal.vmm === "remap-zero" && allAccesses(scenario).some((step) => touchOf(step).kind === "fetch")) {
    return "remap-zero replaces the code page with zeros: what the guest executes then is undefined";
  }
  if (touchesChanged(scenario))
    return "bytes that the host moves or changes: the model knows old, new and zero";
  const ofFile = refusedOfFile(scenario);
  if (ofFile !== null) return ofFile;
  if (hasTwoGfns(scenario))
    return "a page of the file at two guest addresses: a page of the model has one gfn";
  if (hostSteps(scenario).length > 1) return "the model has one host process";
  const { mount } = scenario.backing;
  if (
    scenario.backing.kind === "private-swapped" &&
    guestActors(scenario).some(([, actor]) => isBystander(actor))
  ) {
    return "the model has no clock: who gets on while a page is swapped in does not show in how it ends";
  }
  const refused = mount?.faults.map(refusedFault).find((reason) => reason !== null);
  if (refused != null) return refused;
  if (changesServer(scenario, "goes-on")) return "a server that answers late: the model has no clock";
  const isTimed = (page: bigint): boolean => servedPage(scenario, page * PAGE) === "unknown";
  if (allAccesses(scenario).some((step) => pagesOf(scenario, step).some(isTimed)))
    return "a page that is touched while the server dies or stops: in the model a page can always be read, or never";
  const isOfFile = (step: HostStep): boolean => isAction(step) && actOf(step).server === undefined;
  if (!isIoAnswered(scenario) && hostActors(scenario).some(([, { steps }]) => steps.some(isOfFile))) {
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

/** The page that the handler of a userfaultfd fills, or does not. */
function handledPage(handler: UserfaultHandler, fileOffset: bigint): PageStart {
  if (fileOffset < handler.prefault) return "resident";
  // handle_userfault() (fs/userfaultfd.c): VM_FAULT_SIGBUS for the kernel's own look-up, whatever it may wait for.
  if (handler.faults === "user") return "no-space";
  const action = userfaultActionAt(handler, fileOffset);
  return action?.kind === "hang" || action?.kind === "die" ? "unanswered" : "on-disk";
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

  /** Are the pages one huge page of the file? */
  get isOneLargePage(): boolean {
    const { kind } = this.#scenario.backing;
    const perPage = HUGE_PAGE_BYTES / PAGE;
    const isHuge = kind === "tmpfs-huge" || kind === "hugetlb";
    return isHuge && this.pages.length > 1 && new Set(this.pages.map((page) => page / perPage)).size === 1;
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
      const { handler } = this.#scenario.backing;
      if (handler !== undefined) return handledPage(handler, page * PAGE);
      if (mount === undefined) return "resident";
      const meets = (kind: FaultRule["action"]["kind"]): boolean =>
        mount.faults.some(({ at, action }) => action.kind === kind && isIn(page, at));
      const served = servedPage(this.#scenario, page * PAGE);
      if (meets("hang") || served === "unanswered") return "unanswered";
      return meets("fail") || served === "failed" ? "io-error" : "on-disk";
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

  /** The range of model pages behind window offsets. */
  #pagesAt(offset: bigint, length: bigint): { readonly page: number; readonly pages: number } {
    const from = fileOffsetAt(this.#scenario, offset);
    const page = this.count(from);
    return { page, pages: this.count(from + length) - page };
  }

  /** A page of hugetlbfs is lost as a whole; of a tmpfs it is split first (memory_failure(), mm/memory-failure.c). */
  #failedRange(offset: bigint): readonly [bigint, bigint] {
    const bytes = pageBytesOf(this.#scenario.backing.kind);
    return [offset - (offset % bytes), bytes];
  }

  vmm(step: VmmStep): ModelHostStep {
    switch (step.verb) {
      case "signal":
        return { op: "signal", name: step.name };
      case "await":
        return { op: "await", name: step.name };
      case "unmap":
      case "protect":
        return { op: "unmap", ...this.#pagesAt(step.offset, step.length) };
      case "memory-failure":
        return { op: "hwpoison", ...this.#pagesAt(...this.#failedRange(step.offset)) };
      default:
        throw new Error(`${step.verb}: not in the model`);
    }
  }

  /** @param size the file's size before */
  host(step: HostStep, through: "file" | "mount", effect: FileEffect, size: bigint): ModelHostStep {
    if (step.verb === "signal") return { op: "signal", name: step.name };
    // The engine's own signal: without it the host acts earlier, too, never later than it could.
    if (step.verb === "await")
      return step.name === STUCK ? { op: "nothing" } : { op: "await", name: step.name };
    if (step.verb === "map-store" && this.pages.includes(step.offset / PAGE)) {
      return { op: "write", page: this.pages.indexOf(step.offset / PAGE) };
    }
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
        // Whole pages become holes; of a page of which a part is zeroed nothing is touched (`touchesPart`).
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
  const steps: ModelHostStep[] = [];
  let size = scenario.backing.size;
  const effects = effectsOf(scenario);
  for (const [name, actor] of hostSteps(scenario)) {
    if (actor.in === "vmm") steps.push(...actor.steps.map((step) => translator.vmm(step)));
    else {
      for (const [index, step] of actor.steps.entries()) {
        const { effect, sizeBytes } = effectAt(effects, { actor: name, index }) ?? unchanged(size);
        steps.push(translator.host(step, actor.through, effect, size));
        size = sizeBytes;
      }
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
      host: steps,
      largePage: translator.isOneLargePage,
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
