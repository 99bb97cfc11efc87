/**
 * One case of the model: who is there, what they do, and which part of each kind is plugged in. Data only.
 * The part names are those of the axes; a contradictory case is refused with the reason (`checkCase`).
 */

import {
  type AccessOp,
  type ExitPart,
  exitParts,
  type GuestPart,
  guestParts,
  type KvmPart,
  kvmParts,
  type OnSigbus,
  type ServerPart,
  serverParts,
  type VmmPart,
  vmmParts,
} from "../../../language/src/index.ts";

export type AccessStep = {
  readonly op: AccessOp;
  readonly page: number;
  /**
   * CPL 3, CPL 0, or CPL 3 inside a guest of the guest (L2): the task is then the vCPU thread of the guest's own VMM, and
   * L2's kernel knows nothing of any proposal. Copies and read(2)/write(2) are CPL 0 whatever this says.
   */
  readonly mode?: "user" | "kernel" | "nested";
  /** RFLAGS.IF at the access. */
  readonly interrupts?: "on" | "off";
  /** In kernel mode: may the guest kernel schedule here? */
  readonly preemptible?: boolean;
  /** In kernel mode: does an exception table entry cover this instruction? By default as the operation usually has it. */
  readonly fixup?: boolean;
  /** It is the next page of the access of the step before: begun with that one. */
  readonly continues?: boolean;
  /** KVM interprets this instruction instead of the CPU running it. */
  readonly emulated?: boolean;
};

export type TaskStep =
  | AccessStep
  | { readonly op: "signal"; readonly name: string }
  | { readonly op: "await"; readonly name: string }
  /** For ever: a bystander. Must be the last step. */
  | { readonly op: "count" };

export type Task = {
  readonly name: string;
  readonly vcpu: number;
  readonly steps: readonly TaskStep[];
  /** Asleep on a token whose page-ready never comes, as after a live migration. */
  readonly asleep?: boolean;
  /** By default its handler goes on with the next step. */
  readonly onSigbus?: OnSigbus;
};

export type HostStep =
  | {
      readonly op: "truncate";
      readonly pages: number;
      /** `open-fd`: ftruncate on a descriptor that was open for writing before any lease; `open-trunc`: open(O_TRUNC). */
      readonly via?: "path" | "open-fd" | "open-trunc";
      /** The file itself, or the file server that the guest uses too. */
      readonly through?: "file" | "server";
    }
  | { readonly op: "extend"; readonly pages: number }
  /** fallocate PUNCH_HOLE: the pages read as zeros from now on. One step, unlike a truncation. */
  | { readonly op: "punch"; readonly page: number; readonly pages: number }
  /** A store through a mapping of the host's own: the page, which is in the file, holds new bytes. */
  | { readonly op: "write"; readonly page: number }
  /** The VMM has taken its mapping away, or made it PROT_NONE: no VMA that get_user_pages() could use. */
  | { readonly op: "unmap"; readonly page: number; readonly pages: number }
  /** memory_failure() has taken the page, or the pages of a huge one: get_user_pages() finds hardware poison. */
  | { readonly op: "hwpoison"; readonly page: number; readonly pages?: number }
  /** The memory of the page goes bad, and the CPU has yet to notice (`memory-error.ts`). */
  | { readonly op: "memory-error"; readonly page: number }
  /** rename over the file, unlink: the mapped inode is not touched. */
  | { readonly op: "nothing" }
  | { readonly op: "signal"; readonly name: string }
  | { readonly op: "await"; readonly name: string };

/**
 * The backing of a page at the start. `no-space`: a hole of a full tmpfs. `io-error`: the device cannot read it.
 * `unanswered`: its READ is never answered.
 */
export type PageStart = "resident" | "on-disk" | "no-space" | "io-error" | "unanswered";

/** Single checks of kernel, guest and VMM that can be taken out: the mutations that the properties must catch. */
export const checks = [
  "stale-check",
  "snapshot-first",
  "invalidation-counted",
  "i-size-first",
  "zap-on-truncate",
  "i-size-test",
  "fast-gup-cleared",
  "gfn-hash-cleared",
  "gfn-hash-lookup",
  "interrupt-flag-test",
  "lapic-test",
  "user-only-test",
  "vma-test",
  "hwpoison-before-async",
  "ready-clears-halt",
  "ready-kicks",
  "slot-free-test",
  "ack-rescans",
  "token-matched",
  "nmi-saves-cr2",
  "nmi-leaves-flags",
  "vmexit-delivery-test",
  "dummy-node",
  "ready-if-injected",
  "prefetch-stale-check",
  "prefetch-same-mmu",
  "hlt-deliver-test",
  "async-limit",
  "apf-enabled-test",
  "token-zeroed",
  "error-only-if-injected",
  "seq-bumped",
  "pmd-in-file",
  "mce-enabled-test",
  "interrupt-window-test",
  "lease-time-out",
  "notified-afterwards",
  "seal-refuses",
  "not-present-first",
  "nested-interception",
  "error-slot-cleared",
  "error-is-recorded",
  "error-pending-cleared",
  "ready-error-user-only",
  "extable-consulted",
  "poison-is-remembered",
  "grant-waits-for-revoke",
  "guest-size-updated",
  "no-mapping-while-recalled",
  "lease-blocks-truncate",
  "open-permission-asked",
  "worker-completes",
  "content-zeroed",
  "large-page-zapped",
] as const;
export type Check = (typeof checks)[number];

/**
 * What is left of CR2 and of the shared area's flags after one NMI whose handler takes a page fault of its own.
 *
 * The scenarios' variants are the micro-guest's: `cr2-lost`, a handler that does not save CR2 (Linux's has since 2012;
 * exc_nmi(), arch/x86/kernel/nmi.c); `flags-lost`, one that saves CR2, and whose fault resets the flags and goes on (no
 * Linux does); `saved`, both saved. Linux: `linux-5.8`, where the fault inside takes the flags for its own and panics;
 * `linux`, with "Don't consume async #PF flags on a kernel #PF in NMI" of 2026 (6.12.117 has it, 7.3-rc7 has not).
 */
export const nmis = ["off", "cr2-lost", "flags-lost", "saved", "linux-5.8", "linux"] as const;
export type Nmi = (typeof nmis)[number];

/**
 * How "page not present" reaches the guest. `pf`: #PF, the reason in the shared area, the token in CR2, as KVM does. The
 * others were weighed in the threads of 2020 and exist nowhere: #VE with the token in its information area (one at a time: the
 * busy word), #MC with the token in a bank, an interrupt of the highest priority with the token in the shared area. Each is
 * an answer to the same question as `pf`: delivered where kvm_can_deliver_async_pf() says so.
 */
export const deliveries = ["pf", "ve", "mce", "interrupt"] as const;
export type Delivery = (typeof deliveries)[number];

/** The gfn of the window's first page where a case names none: guest physical address 1 GiB. */
export const FIRST_GFN = 0x40000n;

export type ModelCase = {
  readonly name: string;
  readonly vcpus: number;
  readonly pages: readonly PageStart[];
  /** By page: its guest frame number. null: one behind the other from `FIRST_GFN` on. */
  readonly gfns: readonly bigint[] | null;
  /**
   * The pages are one 2 MiB range: where all of it is in the page cache and in front of the end of the file, the host
   * maps it by one PMD, and KVM follows with one second-level entry (host_pfn_mapping_level(), arch/x86/kvm/mmu/mmu.c).
   */
  readonly largePage: boolean;
  readonly tasks: readonly Task[];
  readonly host: readonly HostStep[];
  readonly kvm: KvmPart;
  readonly exits: ExitPart;
  readonly vmm: VmmPart;
  readonly guest: GuestPart;
  readonly server: ServerPart;
  readonly lapic: "kernel" | "user";
  /**
   * I/O takes longer than everything else: a page that needs it is there only when a bystander has run meanwhile, or
   * none can. Then the end shows who gets on during I/O.
   */
  readonly slowIo: boolean;
  /** Guest timer: may another task be scheduled at any interruptible point? */
  readonly preempt: boolean;
  readonly nmi: Nmi;
  /** A task that may get SIGKILL at any time. */
  readonly kill: string | null;
  readonly delivery: Delivery;
  /** MSR_KVM_ASYNC_PF_EN bit 1: also deliver to CPL 0. */
  readonly sendAlways: boolean;
  /**
   * MSR_KVM_ASYNC_PF_EN bit 2 (DELIVERY_AS_PF_VMEXIT): while L2 runs, deliver as #PF VM exit to L1. A Linux L1 sets it
   * wherever KVM offers it (kvm_guest_cpu_init(), arch/x86/kernel/kvm.c).
   */
  readonly vmexitDelivery: boolean;
  /** Bit P of the error code of an injected #PF. Our VMM leaves it clear, as for a page that is not present. */
  readonly pfErrorCode: "not-present" | "protection";
  /**
   * Can the guest use MCi_ADDR of an injected #MC (mce_usable_address(), arch/x86/kernel/cpu/mce/core.c)? On Intel it can;
   * on AMD only of a status with the poison bit, or of one that is a memory error before SMCA: else SIGBUS without an
   * address, and no memory_failure().
   */
  readonly mceAddress: "usable" | "unusable";
  /** Does the guest write MSR_KVM_ASYNC_PF_ACK? */
  readonly ack: boolean;
  /** ASYNC_PF_PER_VCPU: 64 in KVM; smaller here to reach the limit. null: as many as there are pages. */
  readonly asyncLimit: number | null;
  /** `pmem` copies with machine-check-safe routines, virtio-fs does not (facts: set_dax_nomc is never called). */
  readonly daxCopies: "virtio-fs" | "pmem";
  /** Does the lease holder answer a recall, or sleep through the limit? */
  readonly leaseClient: "prompt" | "unresponsive";
  /**
   * May the host's memory management act on its own (`interference.ts`)? Only following a real kernel's trace needs it: what a
   * guest sees of it, a completion whose lookup ends without a result, is there without it.
   */
  readonly interference: boolean;
  /** Enabling async page faults queues a wake-all entry. */
  readonly wakeAll: boolean;
  readonly without: readonly Check[];
};

export class CaseError extends Error {
  override readonly name = "CaseError";
  /** The refused part of the case, without the case's name, and what would be accepted. */
  readonly problem: string;
  readonly fix: string;

  constructor(caseName: string, problem: string, fix: string) {
    super(`case ${caseName}: ${problem}. Next: ${fix}`);
    this.problem = problem;
    this.fix = fix;
  }
}

const defaults: Omit<ModelCase, "name" | "tasks" | "pages"> = {
  vcpus: 1,
  gfns: null,
  largePage: false,
  host: [],
  kvm: "today",
  exits: "kvm",
  vmm: "stop",
  guest: "unaware",
  server: "none",
  lapic: "kernel",
  slowIo: false,
  preempt: false,
  interference: false,
  nmi: "off",
  kill: null,
  delivery: "pf",
  sendAlways: false,
  vmexitDelivery: true,
  pfErrorCode: "not-present",
  mceAddress: "usable",
  ack: true,
  asyncLimit: null,
  daxCopies: "virtio-fs",
  leaseClient: "prompt",
  wakeAll: false,
  without: [],
};

/** Fills in what is usual and checks the whole. */
export function modelCase(
  given: Partial<ModelCase> & Pick<ModelCase, "name" | "tasks" | "pages">,
): ModelCase {
  const whole = { ...defaults, ...given };
  checkCase(whole);
  return whole;
}

export function isAccess(step: TaskStep): step is AccessStep {
  return step.op !== "signal" && step.op !== "await" && step.op !== "count";
}

const MAX_TASKS = 6;
const MAX_PAGES = 8;

export function checkCase(modelCase: ModelCase): void {
  const refuse = (problem: string, fix: string): never => {
    throw new CaseError(modelCase.name, problem, fix);
  };
  known(modelCase, "kvm", kvmParts);
  known(modelCase, "exits", exitParts);
  known(modelCase, "vmm", vmmParts);
  known(modelCase, "guest", guestParts);
  known(modelCase, "server", serverParts);
  const { tasks, pages, host, vcpus } = modelCase;
  if (tasks.length < 1 || tasks.length > MAX_TASKS) refuse(`${tasks.length} tasks`, `1 to ${MAX_TASKS}`);
  if (pages.length < 1 || pages.length > MAX_PAGES) refuse(`${pages.length} pages`, `1 to ${MAX_PAGES}`);
  const { gfns } = modelCase;
  if (gfns !== null && gfns.length !== pages.length)
    refuse(`${gfns.length} gfns of ${pages.length} pages`, "a gfn a page");
  if (gfns !== null && new Set(gfns).size < gfns.length)
    refuse("two pages of one gfn", "a gfn of its own for each");
  if (new Set(tasks.map((task) => task.name)).size < tasks.length)
    refuse("two tasks of one name", "rename one");
  for (const task of tasks) {
    if (!(task.vcpu >= 0 && task.vcpu < vcpus)) refuse(`task ${task.name} on vCPU ${task.vcpu}`, "add vCPUs");
    for (const [index, step] of task.steps.entries()) {
      if (isAccess(step) && !(step.page >= 0 && step.page < pages.length)) {
        refuse(`task ${task.name} touches page ${step.page} of ${pages.length}`, "add the page");
      }
      if (step.op === "count" && index < task.steps.length - 1) {
        refuse(`task ${task.name} does something after counting for ever`, "make count its last step");
      }
    }
  }
  const signalled = new Set([...tasks.flatMap((task) => task.steps), ...host].flatMap(signalName));
  for (const step of [...tasks.flatMap((task) => task.steps), ...host]) {
    if (step.op === "await" && !signalled.has(step.name))
      refuse(`nobody signals ${step.name}`, "add the signal");
  }
  for (const step of host) {
    if ((step.op === "truncate" || step.op === "extend") && step.pages > pages.length) {
      refuse(`${step.op} to ${step.pages} pages of ${pages.length}`, "add pages");
    }
    if (step.op !== "hwpoison" && step.op !== "memory-error") continue;
    const last = step.op === "hwpoison" ? step.page + (step.pages ?? 1) - 1 : step.page;
    if (last >= pages.length) refuse(`${step.op} of page ${last} of ${pages.length}`, "add the page");
  }
  if (modelCase.kill !== null && !tasks.some((task) => task.name === modelCase.kill)) {
    refuse(`kill names no task: ${modelCase.kill}`, "name a task");
  }
  if (modelCase.kvm === "legacy-pf" && (modelCase.nmi === "linux" || modelCase.nmi === "linux-5.8")) {
    refuse(`NMI as in a guest that speaks the protocol since 5.8 (${modelCase.nmi})`, "a KVM since 5.8");
  }
  const isNested = tasks.some((task) => task.steps.some((step) => isAccess(step) && step.mode === "nested"));
  if (modelCase.delivery !== "pf" && (modelCase.kvm === "legacy-pf" || isNested)) {
    refuse(`"not present" by ${modelCase.delivery} before 5.8 or while L2 runs`, "delivery: pf");
  }
  if (modelCase.kvm === "ready-error" && modelCase.lapic === "user") {
    refuse(
      "an error in page-ready needs async page faults, and the local APIC is in user space",
      "lapic: kernel",
    );
  }
}

/** The guest frame number of a page. */
export function gfnOf(modelCase: Pick<ModelCase, "gfns">, page: number): bigint {
  return modelCase.gfns?.[page] ?? FIRST_GFN + BigInt(page);
}

function signalName(step: TaskStep | HostStep): string[] {
  return step.op === "signal" ? [step.name] : [];
}

function known(
  modelCase: ModelCase,
  axis: "kvm" | "exits" | "vmm" | "guest" | "server",
  parts: readonly string[],
): void {
  if (parts.includes(modelCase[axis])) return;
  throw new CaseError(
    modelCase.name,
    `no ${axis} part is called ${modelCase[axis]}`,
    `one of ${parts.join(", ")}`,
  );
}
