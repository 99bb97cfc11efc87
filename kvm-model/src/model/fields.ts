/**
 * The bytes of a state of the full model: the words that stand in them, and the layout, field by field.
 * Words and offsets have a name here and nowhere else. `machine.ts` reads and writes them; no other file does.
 */
import { Layout } from "../state/layout.ts";
import { gfnOf, type HostStep, type ModelCase, type TaskStep } from "./case.ts";
import { gfnSlot } from "./gfn-hash.ts";

/**
 * Token of an asynchronous page fault. KVM counts them up (`id++ << 12 | vcpu`). Only their equality matters, so a state
 * carries the smallest number that is not in use; two tokens are equal here iff they are equal in KVM.
 */
export type Token = number & { readonly unit: "apf token" };
export const NO_TOKEN: Token = 0 as Token;
/** Token of the wake-all broadcast (~0 in KVM). */
export const TOKEN_ALL: Token = 255 as Token;
/** The value that an NMI's own page fault leaves in CR2. */
export const TOKEN_GARBAGE: Token = 254 as Token;

/** The byte of a vCPU that runs no task. */
export const IDLE = 255;

/** Events that stay true once they have happened: bits of the field `marks`. */
export const MARK = {
  "wrong-victim": 1,
  "silent-data": 2,
  "stale-mapping": 4,
  imprecise: 8,
  "host-delayed": 16,
  "lost-report": 32,
  /** Witness: while a page that only needs I/O was outstanding, another task ran on that vCPU. */
  "ran-during-io": 64,
  /** Witness: a lookup met a lost page that is still mapped. */
  "met-lost-page": 128,
} as const;
export type Mark = keyof typeof MARK;

type Unit =
  | "one"
  | "page"
  | "large page"
  | "page that may go bad"
  | "host step"
  | "vcpu"
  | "vcpu x token"
  | "vcpu x page"
  | "vcpu x error slot"
  | "work"
  | "token"
  | "task"
  | "task step";

/** Every field: its name in code, its name where a state is printed, and of what there is one byte each. In layout order. */
const fieldTable = [
  ["fileSize", "host.i_size", "one"],
  ["hostStep", "host.step", "one"],
  ["hostSubstep", "host.substep", "one"],
  ["hostSaw", "host.saw", "host step"],
  ["invalidateInProgress", "kvm.mmu_invalidate_in_progress", "one"],
  ["invalidateSeq", "kvm.mmu_invalidate_seq", "one"],
  ["cache", "page.cache", "page"],
  ["zeroed", "page.zeroed", "page"],
  ["vma", "page.vma", "page"],
  ["hostPte", "page.host_pte", "page"],
  ["ept", "page.ept", "page"],
  /** 1: the second level maps all pages by one large entry. No byte where the case has no large page. */
  ["largeEpt", "large_ept", "large page"],
  ["guard", "server.guard", "one"],
  ["notify", "server.notify", "one"],
  ["revoke", "server.revoke", "one"],
  ["guestFileSize", "guest.i_size", "one"],
  ["guestPoison", "page.guest_poison", "page"],
  /** The memory has gone bad. No byte where the case has no memory error. */
  ["bad", "page.bad", "page that may go bad"],
  ["signals", "signals", "one"],
  ["marks", "marks", "one"],
  ["kernel", "guest.kernel", "one"],
  ["vm", "vm.stopped", "one"],
  ["nmiLeft", "nmi.left", "one"],
  ["killPending", "kill.pending", "one"],
  ["dummyNode", "guest.dummy_node", "token"],
  ["dummyLeft", "guest.dummy_left", "one"],
  ["vcpuPlace", "vcpu.at", "vcpu"],
  ["vcpuTask", "vcpu.task", "vcpu"],
  ["vcpuRan", "vcpu.ran", "vcpu"],
  ["vcpuPage", "vcpu.page", "vcpu"],
  ["vcpuSeq", "vcpu.seq", "vcpu"],
  ["vcpuPfn", "vcpu.pfn", "vcpu"],
  ["vcpuError", "vcpu.error", "vcpu"],
  ["vcpuStop", "vcpu.exit", "vcpu"],
  ["vcpuFaulter", "vcpu.faulter", "vcpu"],
  ["vcpuEvent", "vcpu.event", "vcpu"],
  ["vcpuFlags", "vcpu.apf.flags", "vcpu"],
  ["vcpuCr2", "vcpu.cr2", "vcpu"],
  /** No byte where "not present" is a #PF, whose token is in CR2. */
  ["vcpuNotPresent", "vcpu.apf.not_present", "vcpu x token"],
  ["vcpuToken", "vcpu.apf.token", "vcpu"],
  ["vcpuReadyFlags", "vcpu.apf.ready_flags", "vcpu"],
  ["vcpuIrq", "vcpu.irq", "vcpu"],
  ["vcpuReadyRequest", "vcpu.KVM_REQ_APF_READY", "vcpu"],
  ["vcpuGfns", "vcpu.apf.gfns", "vcpu x page"],
  ["vcpuErrorGfn", "vcpu.apf.error_gfn", "vcpu x error slot"],
  ["vcpuErrorPending", "vcpu.apf.error_pending", "vcpu"],
  ["vcpuVeBusy", "vcpu.ve_busy", "vcpu"],
  ["workState", "work.state", "work"],
  /** Its place in vcpu->async_pf.done, from 1 on; 0: it is not in it. */
  ["workDone", "work.done", "work"],
  ["workVcpu", "work.vcpu", "work"],
  ["workPage", "work.page", "work"],
  ["workTask", "work.task", "work"],
  ["workToken", "work.token", "work"],
  ["workInjected", "work.notpresent_injected", "work"],
  ["workNested", "work.arch.direct_map", "work"],
  ["taskStep", "task.step", "task"],
  ["taskState", "task.state", "task"],
  ["taskToken", "task.token", "task"],
  ["taskError", "task.error", "task"],
  ["taskCounted", "task.counted", "task"],
  ["taskBegun", "task.begun", "task"],
  ["taskSaw", "task.saw", "task step"],
] as const;

/** By field: offset of its first byte. */
export type Offsets = Readonly<Record<(typeof fieldTable)[number][0], number>>;

/** Constants of a case: counts of everything, and where the bytes of a state are. */
export type Context = {
  readonly case: ModelCase;
  readonly layout: Layout;
  readonly offsets: Offsets;
  readonly tasks: number;
  readonly vcpus: number;
  readonly pages: number;
  readonly works: number;
  readonly tokens: number;
  /** By page: the slot of its gfn among those that `vcpu.apf.error_gfn` has room for. */
  readonly errorSlotOf: readonly number[];
  readonly errorSlots: number;
  readonly signalBit: ReadonlyMap<string, number>;
};

/**
 * By page: the slot that remembers its gfn as bad. Only whether two gfns share a slot matters, so the slots in use are
 * counted through.
 */
function errorSlotsOf(c: ModelCase): readonly number[] {
  if (c.kvm === "error-gfn" || c.kvm === "ready-error") return c.pages.map(() => 0);
  const slots = c.pages.map((_, page) => gfnSlot(gfnOf(c, page)));
  const used = [...new Set(slots)];
  return slots.map((slot) => used.indexOf(slot));
}

export function makeContext(c: ModelCase): Context {
  const [tasks, pages, { vcpus }] = [c.tasks.length, c.pages.length, c];
  // The gfn hash admits one outstanding fault a page and vCPU; a wake-all entry is one more.
  const works = vcpus * pages + (c.wakeAll ? 1 : 0);
  const errorSlotOf = errorSlotsOf(c);
  const errorSlots = new Set(errorSlotOf).size;
  const tokens = works + tasks + vcpus + 1;
  const count: Readonly<Record<Unit, number>> = {
    one: 1,
    page: pages,
    "large page": c.largePage ? 1 : 0,
    "page that may go bad": c.host.some((step) => step.op === "memory-error") ? pages : 0,
    "host step": c.host.length,
    vcpu: vcpus,
    "vcpu x token": c.delivery === "pf" ? 0 : vcpus,
    "vcpu x page": vcpus * pages,
    "vcpu x error slot": vcpus * errorSlots,
    work: works,
    token: tokens + 1,
    task: tasks,
    "task step": c.tasks.reduce((sum, task) => sum + task.steps.length, 0),
  };
  const layout = new Layout();
  const offsets = Object.fromEntries(
    fieldTable.map(([field, name, unit]) => [field, layout.field(name, count[unit])]),
  ) as Offsets;
  const steps: readonly (TaskStep | HostStep)[] = [...c.tasks.flatMap((task) => task.steps), ...c.host];
  const signals = new Set(steps.flatMap((step) => (step.op === "signal" ? [step.name] : [])));
  return {
    case: c,
    layout,
    offsets,
    tasks,
    vcpus,
    pages,
    works,
    tokens,
    errorSlotOf,
    errorSlots,
    signalBit: new Map([...signals].map((name, index) => [name, 1 << index])),
  };
}
