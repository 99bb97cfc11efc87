/**
 * The words: what can be observed of an access, a guest kernel, a bystander, the VMM, the host actor.
 *
 * Closed unions, one definition, used by every engine, the judge and all reports. Imports nothing, so every part may import it.
 * Every word has one text form (`accessText` ..), which is what fixtures/kinds, the table and the JSON lines write.
 */

/** What one access of a guest task (or of a host process, engine `process`) saw. */
export type Access =
  /** The bytes that the file holds there: little-endian, as many as the access is wide. */
  | { readonly kind: "value"; readonly value: bigint }
  /** All bytes zero where the file once held something else: a hole, a regrown file, a remapped page. */
  | { readonly kind: "zero" }
  /** Bytes that the file no longer holds. */
  | { readonly kind: "stale"; readonly value: bigint }
  /** SIGBUS. `unobserved`: the wait status tells the signal, not its si_code. */
  | { readonly kind: "sigbus"; readonly code: "BUS_ADRERR" | "BUS_MCEERR_AR" | "unobserved" }
  /** A guest system call returned -EFAULT. */
  | { readonly kind: "efault" }
  /** The task, or the whole VM with it, ended at this access. The VMM's state says which. */
  | { readonly kind: "killed" }
  /** The access never came back. */
  | { readonly kind: "hung" }
  /** The access was never started. */
  | { readonly kind: "not-reached" };

export type GuestKernel = "alive" | "oops" | "panic";

/** Tasks that touch nothing of the file: did they get on while the victim was in trouble? */
export type Bystander = "progress" | "starved";

/** Where a vCPU was when KVM_RUN gave up, as KVM's own interfaces tell it. */
export type FaultPlace = {
  /** Guest virtual address of the instruction (KVM_GET_REGS). */
  readonly rip: bigint;
  /** Current privilege level (KVM_GET_SREGS: the selector of CS, its low two bits). */
  readonly cpl: number;
  /** Guest virtual address of the access that was under way (the step of the task). */
  readonly gva: bigint;
  /** Guest physical address of `gva` (KVM_TRANSLATE), or null where the guest maps nothing. */
  readonly gpa: bigint | null;
  /** Host virtual address behind `gpa` by the memslot table, or null outside every slot. */
  readonly hva: bigint | null;
};

export type StopReason = "efault" | "memory-fault" | "mmio" | "internal-error" | "triple-fault";

/** What became of the VMM. Given as a history: each state it went through, the last one last. */
export type Vmm =
  | { readonly kind: "running" }
  | { readonly kind: "stopped"; readonly reason: StopReason; readonly at: FaultPlace | null }
  | { readonly kind: "killed"; readonly signal: string }
  | { readonly kind: "looping"; readonly faultsPerSecond: number; readonly at: FaultPlace | null };

/** What became of one step of the host actor. */
export type HostResult =
  | { readonly kind: "done" }
  | { readonly kind: "delayed"; readonly ms: number }
  | { readonly kind: "denied"; readonly errno: string }
  | { readonly kind: "not-reached" };

/** Everything that can happen, in one list: a counter and a line of the trace each. */
export const eventKinds = [
  "map",
  "unmap",
  "truncate",
  "punch",
  "rename",
  "unlink",
  "open",
  "write",
  "fault",
  "apf-not-present",
  "apf-ready",
  "apf-halt",
  "exit",
  "inject",
  "sigbus",
  "fixup",
  "lease-break",
  "lease-release",
  "guard-refused",
  "remap",
  "swap-out",
  "exception",
  "nmi",
  "signal",
] as const;
export type EventKind = (typeof eventKinds)[number];

export function accessText(access: Access): string {
  switch (access.kind) {
    case "value":
    case "stale":
      return `${access.kind}(0x${access.value.toString(16)})`;
    case "sigbus":
      return `sigbus(${access.code})`;
    case "zero":
    case "efault":
    case "killed":
    case "hung":
    case "not-reached":
      return access.kind;
  }
}

/** Without figures that differ from run to run: `looping`, `stopped(efault)`. What expectations are written in. */
export function vmmText(vmm: Vmm): string {
  switch (vmm.kind) {
    case "running":
    case "looping":
      return vmm.kind;
    case "stopped":
      return `stopped(${vmm.reason})`;
    case "killed":
      return `killed(${vmm.signal})`;
  }
}

export function hostResultText(step: HostResult): string {
  switch (step.kind) {
    case "done":
    case "not-reached":
      return step.kind;
    case "delayed":
      return `delayed(${step.ms.toFixed(1)})`;
    case "denied":
      return `denied(${step.errno})`;
  }
}

/** `sigbus(BUS_ADRERR)` -> `sigbus`, `BUS_ADRERR`. */
function splitWord(text: string): readonly [string, string] {
  const match = /^([a-z-]+)(?:\((.*)\))?$/.exec(text);
  return [match?.[1] ?? "", match?.[2] ?? ""];
}

/** The reverse of `accessText`; null for a text that is none of its words. */
export function parseAccessText(text: string): Access | null {
  const [kind, figure] = splitWord(text);
  switch (kind) {
    case "value":
    case "stale":
      return /^0x[0-9a-f]+$/.test(figure) ? { kind, value: BigInt(figure) } : null;
    case "sigbus": {
      const code = (["BUS_ADRERR", "BUS_MCEERR_AR", "unobserved"] as const).find((known) => known === figure);
      return code === undefined ? null : { kind, code };
    }
    case "zero":
    case "efault":
    case "killed":
    case "hung":
    case "not-reached":
      return figure === "" ? { kind } : null;
    default:
      return null;
  }
}

/** The reverse of `hostResultText`. */
export function parseHostResultText(text: string): HostResult | null {
  const [kind, figure] = splitWord(text);
  switch (kind) {
    case "done":
    case "not-reached":
      return figure === "" ? { kind } : null;
    case "delayed":
      return /^[0-9.]+$/.test(figure) ? { kind, ms: Number(figure) } : null;
    case "denied":
      return figure === "" ? null : { kind, errno: figure };
    default:
      return null;
  }
}

const stopReasons: readonly StopReason[] = [
  "efault",
  "memory-fault",
  "mmio",
  "internal-error",
  "triple-fault",
];

/** The reverse of `vmmText`, with the figures that it leaves out. */
export function parseVmmText(
  text: string,
  faultsPerSecond: number | null,
  at: FaultPlace | null,
): Vmm | null {
  const [kind, figure] = splitWord(text);
  switch (kind) {
    case "running":
      return { kind };
    case "looping":
      return { kind, faultsPerSecond: faultsPerSecond ?? 0, at };
    case "stopped": {
      const reason = stopReasons.find((known) => known === figure);
      return reason === undefined ? null : { kind, reason, at };
    }
    case "killed":
      return { kind, signal: figure };
    default:
      return null;
  }
}
