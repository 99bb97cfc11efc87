/**
 * The words: what can be observed of an access, a guest kernel, a bystander, the VMM, the host actor.
 *
 * Closed unions, one definition, used by every engine, the judge and all reports. Imports nothing, so every part may import it.
 * Every word has one text form (`accessText` ..), which is what fixtures/kinds, the table and the JSON lines write.
 */

/** The possible results of an access. */
export const accessKinds = [
  /** The bytes that the file holds there: little-endian, as many as the access is wide. */
  "value",
  /** All bytes zero where the file once held something else: a hole, a regrown file, a remapped page. */
  "zero",
  /** Bytes that the file no longer holds. */
  "stale",
  "sigbus",
  /** A Linux kernel has another explanation for the fault than a lost page. The task's signal, as `sigbus`. */
  "sigsegv",
  /** A guest system call returned -EFAULT. */
  "efault",
  /** A guest system call returned another error. */
  "errno",
  /** A guest system call did fewer bytes than it was asked for, and no error. */
  "short",
  /** A guest system call that observes no bytes (fsync, msync) returned success. */
  "done",
  /** The task, or the whole VM with it, ended at this access. The VMM's state shows which. */
  "killed",
  /** The access never came back. */
  "hung",
  /** The access was never started. */
  "not-reached",
] as const;
export type AccessKind = (typeof accessKinds)[number];

/** The number of an si_code that has no name here. */
export type UnnamedCode = `si_code=${number}`;

/**
 * The si_code of a SIGBUS (include/uapi/asm-generic/siginfo.h). `unobserved`: the wait status has the signal, not its si_code.
 * SI_KERNEL: force_sig() (kernel/signal.c), which has no address, as after a machine check without one.
 */
const sigbusNumbers = {
  BUS_ADRALN: 1,
  BUS_ADRERR: 2,
  BUS_OBJERR: 3,
  BUS_MCEERR_AR: 4,
  BUS_MCEERR_AO: 5,
  SI_KERNEL: 0x80,
} as const;
export type SigbusCode = keyof typeof sigbusNumbers | UnnamedCode | "unobserved";

/** The si_code of a SIGSEGV, from the same file. SI_KERNEL: as above, where a signal's frame has no room (force_sigsegv()). */
const sigsegvNumbers = { SEGV_MAPERR: 1, SEGV_ACCERR: 2, SEGV_PKUERR: 4, SI_KERNEL: 0x80 } as const;
export type SigsegvCode = keyof typeof sigsegvNumbers | UnnamedCode | "unobserved";

/** Kinds of which the particulars are part of the word. */
type ParticularWord =
  | { readonly kind: "sigbus"; readonly code: SigbusCode }
  | { readonly kind: "sigsegv"; readonly code: SigsegvCode }
  /** Its name, `EIO`, or its number where it has none. */
  | { readonly kind: "errno"; readonly errno: string }
  | { readonly kind: "short"; readonly bytes: number };
type PlainKind = Exclude<AccessKind, ParticularWord["kind"]>;
/** One type a kind, so that a switch narrows what is left. */
type Plain<Kind extends PlainKind> = Kind extends PlainKind ? { readonly kind: Kind } : never;

/** The result of one access of a guest task (or of a host process, engine `process`). */
export type Access =
  | { readonly kind: "value" | "stale"; readonly value: bigint }
  | ParticularWord
  | Plain<Exclude<PlainKind, "value" | "stale">>;

/** The same without the bytes, which differ from run to run by nature. */
export type AccessWord = ParticularWord | Plain<PlainKind>;

export const guestKernelStates = ["alive", "oops", "panic"] as const;
export type GuestKernel = (typeof guestKernelStates)[number];

/** Tasks that touch nothing of the file: did they get on while the victim was in trouble? */
export const bystanderStates = ["progress", "starved"] as const;
export type Bystander = (typeof bystanderStates)[number];

/** Where a vCPU was when KVM_RUN gave up, from KVM's own interfaces. */
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

/** Why KVM_RUN returned for the last time. */
export const stopReasons = ["efault", "memory-fault", "mmio", "internal-error", "triple-fault"] as const;
export type StopReason = (typeof stopReasons)[number];

/**
 * The state of the VMM. `waiting`: a vCPU waits for a page that does not come, and nothing else happens to it. Its thread is in
 * an uninterruptible sleep in the page fault (synchronous), or asleep in kvm_vcpu_block() for a token (apf.halted). Given as a
 * history: each state it went through, the last one last. */
export type Vmm =
  | { readonly kind: "running" }
  | { readonly kind: "stopped"; readonly reason: StopReason; readonly at: FaultPlace | null }
  | { readonly kind: "killed"; readonly signal: string }
  | { readonly kind: "looping"; readonly faultsPerSecond: number; readonly at: FaultPlace | null }
  | { readonly kind: "waiting"; readonly at: FaultPlace | null };

/** The same without rate and place. */
export type VmmWord =
  | { readonly kind: "running" | "looping" | "waiting" }
  | { readonly kind: "stopped"; readonly reason: StopReason }
  | { readonly kind: "killed"; readonly signal: string };

/** The possible results of a step of the host actor. */
export const hostResultKinds = ["done", "delayed", "denied", "killed", "not-reached"] as const;
export type HostResultKind = (typeof hostResultKinds)[number];

/** The result of one step of the host actor. */
export type HostResult =
  | { readonly kind: "delayed"; readonly ms: number }
  | { readonly kind: "denied"; readonly errno: string }
  /** A signal that the step has brought about has ended the process. */
  | { readonly kind: "killed"; readonly signal: string }
  | { readonly kind: Exclude<HostResultKind, "delayed" | "denied" | "killed"> };

/** The same without the time. The errno is `unobserved` where it was left out. */
export type HostWord =
  | { readonly kind: "denied"; readonly errno: string }
  | { readonly kind: "killed"; readonly signal: string }
  | { readonly kind: Exclude<HostResultKind, "denied" | "killed"> };

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
  "sigsegv",
  "fixup",
  "lease-break",
  "lease-release",
  "guard-refused",
  "remap",
  "swap-out",
  "exception",
  "nmi",
  "signal",
  "server",
  "huge-page",
  "memory-failure",
] as const;
export type EventKind = (typeof eventKinds)[number];

/** Stands for a particular that was not observed. */
export const UNOBSERVED = "unobserved";

/** How it is written: `sigbus(unobserved)`, or omitted, `sigbus`. Both are read back alike. */
export type UnobservedStyle = "written" | "omitted";

function withParticular(kind: string, particular: string, style: UnobservedStyle): string {
  return particular === UNOBSERVED && style === "omitted" ? kind : `${kind}(${particular})`;
}

export function accessWordText(word: AccessWord, style: UnobservedStyle = "written"): string {
  switch (word.kind) {
    case "sigbus":
    case "sigsegv":
      return withParticular(word.kind, word.code, style);
    case "errno":
      return withParticular(word.kind, word.errno, style);
    case "short":
      return withParticular(word.kind, String(word.bytes), style);
    default:
      return word.kind;
  }
}

export function accessText(access: Access): string {
  return "value" in access ? `${access.kind}(0x${access.value.toString(16)})` : accessWordText(access);
}

/** `looping`, `stopped(efault)`: also what expectations are written in. */
export function vmmText(vmm: VmmWord): string {
  switch (vmm.kind) {
    case "running":
    case "looping":
    case "waiting":
      return vmm.kind;
    case "stopped":
      return `stopped(${vmm.reason})`;
    case "killed":
      return `killed(${vmm.signal})`;
  }
}

export function hostWordText(word: HostWord, style: UnobservedStyle = "written"): string {
  switch (word.kind) {
    case "denied":
      return withParticular(word.kind, word.errno, style);
    case "killed":
      return `${word.kind}(${word.signal})`;
    default:
      return word.kind;
  }
}

export function hostResultText(step: HostResult): string {
  return step.kind === "delayed" ? `${step.kind}(${step.ms.toFixed(1)})` : hostWordText(step);
}

/** `sigbus(BUS_ADRERR)` -> `sigbus`, `BUS_ADRERR`; `sigbus` -> `sigbus`, ``; what is no word: twice the empty string. */
export function splitWord(text: string): readonly [kind: string, particulars: string] {
  const match = /^([a-z-]+)(?:\((.*)\))?$/.exec(text);
  return [match?.[1] ?? "", match?.[2] ?? ""];
}

function codeOf<Name extends string>(
  numbers: Readonly<Record<Name, number>>,
  siCode: number,
): Name | UnnamedCode {
  for (const name in numbers) if (numbers[name] === siCode) return name;
  return `si_code=${siCode}`;
}

/** The word for the number that the kernel has given. */
export function sigbusCode(siCode: number): SigbusCode {
  return codeOf(sigbusNumbers, siCode);
}

/** The word for the number that the kernel has given. */
export function sigsegvCode(siCode: number): SigsegvCode {
  return codeOf(sigsegvNumbers, siCode);
}

/** A name, a number that has none, or `unobserved`; null for all others. */
function parseCode<Name extends string>(
  numbers: Readonly<Record<Name, number>>,
  text: string,
): Name | UnnamedCode | typeof UNOBSERVED | null {
  if (text === UNOBSERVED) return text;
  for (const name in numbers) if (name === text) return name;
  const number = /^si_code=(0|-?[1-9][0-9]{0,9})$/.exec(text)?.[1];
  if (number === undefined) return null;
  // One text a word: a number that has a name is written by it.
  const code = codeOf(numbers, Number(number));
  return code === text ? code : null;
}

function parseParticularWord(kind: ParticularWord["kind"], text: string): ParticularWord | null {
  switch (kind) {
    case "sigbus": {
      const code = parseCode(sigbusNumbers, text);
      return code === null ? null : { kind, code };
    }
    case "sigsegv": {
      const code = parseCode(sigsegvNumbers, text);
      return code === null ? null : { kind, code };
    }
    case "errno":
      return text === UNOBSERVED || /^(?:E[A-Z0-9]+|[1-9][0-9]{0,9})$/.test(text)
        ? { kind, errno: text }
        : null;
    case "short":
      return /^(?:0|[1-9][0-9]{0,9})$/.test(text) ? { kind, bytes: Number(text) } : null;
  }
}

const particularKinds: readonly string[] = [
  "sigbus",
  "sigsegv",
  "errno",
  "short",
] satisfies ParticularWord["kind"][];

function isParticular(kind: AccessKind): kind is ParticularWord["kind"] {
  return particularKinds.includes(kind);
}

/** The reverse of `accessWordText`; null for a text that is none of its words. */
export function parseAccessWord(text: string): AccessWord | null {
  const [name, particulars] = splitWord(text);
  const kind = accessKinds.find((known) => known === name);
  if (kind === undefined) return null;
  if (isParticular(kind)) return parseParticularWord(kind, particulars === "" ? UNOBSERVED : particulars);
  return particulars === "" ? { kind } : null;
}

/** The reverse of `accessText`; null for a text that is none of its words. */
export function parseAccessText(text: string): Access | null {
  const [name, particulars] = splitWord(text);
  const kind = accessKinds.find((known) => known === name);
  switch (kind) {
    case undefined:
      return null;
    case "value":
    case "stale":
      return /^0x[0-9a-f]+$/.test(particulars) ? { kind, value: BigInt(particulars) } : null;
    case "sigbus":
    case "sigsegv":
    case "errno":
    case "short":
      return parseParticularWord(kind, particulars);
    default:
      return particulars === "" ? { kind } : null;
  }
}

/** The reverse of `hostWordText`; null for a text that is none of its words. */
export function parseHostWord(text: string): HostWord | null {
  const [name, particulars] = splitWord(text);
  const kind = hostResultKinds.find((known) => known === name);
  if (kind === undefined) return null;
  if (kind === "denied") return { kind, errno: particulars === "" ? UNOBSERVED : particulars };
  if (kind === "killed") return particulars === "" ? null : { kind, signal: particulars };
  return particulars === "" ? { kind } : null;
}

/** The reverse of `hostResultText`. */
export function parseHostResultText(text: string): HostResult | null {
  const [name, particulars] = splitWord(text);
  const kind = hostResultKinds.find((known) => known === name);
  switch (kind) {
    case undefined:
      return null;
    case "delayed":
      return /^[0-9.]+$/.test(particulars) ? { kind, ms: Number(particulars) } : null;
    case "denied":
      return particulars === "" ? null : { kind, errno: particulars };
    case "killed":
      return particulars === "" ? null : { kind, signal: particulars };
    default:
      return particulars === "" ? { kind } : null;
  }
}

/** The reverse of `vmmText`; null for a text that is none of its words. */
export function parseVmmWord(text: string): VmmWord | null {
  const [kind, particulars] = splitWord(text);
  switch (kind) {
    case "running":
    case "looping":
    case "waiting":
      return { kind };
    case "stopped": {
      const reason = stopReasons.find((known) => known === particulars);
      return reason === undefined ? null : { kind, reason };
    }
    case "killed":
      return { kind, signal: particulars };
    default:
      return null;
  }
}

/** The reverse of `vmmText`, with the figures that it leaves out. */
export function parseVmmText(
  text: string,
  faultsPerSecond: number | null,
  at: FaultPlace | null,
): Vmm | null {
  const word = parseVmmWord(text);
  switch (word?.kind) {
    case undefined:
      return null;
    case "running":
      return { kind: "running" };
    case "looping":
      return { kind: "looping", faultsPerSecond: faultsPerSecond ?? 0, at };
    case "waiting":
      return { kind: "waiting", at };
    case "stopped":
      return { ...word, at };
    case "killed":
      return word;
  }
}
