/**
 * The verbs of the guest: one row each, and the only place in TypeScript that knows a verb by its name. Parser, printer,
 * labels, checks and every engine read the rows. The guest's part of a verb is in vmm/guest (`enum verb` of step/channel.h,
 * step/interpreter.c, step/x86/access.S; system calls of Linux: linux/calls.c). CONTRIBUTING.md, "Add a verb".
 */
import { accessSizes, atomicSizes, forkSizes, PAGE_BYTES } from "./limits.ts";
import { hex } from "./number.ts";
import {
  actorName,
  copySize,
  fileSize,
  type Grammar,
  options,
  signalName,
  until,
  value,
  wholeFile,
  width,
  windowOffset,
} from "./operands.ts";

export const kernelCopyOptions = ["irqs-off", "no-fixup"] as const;
/** `irqs-off`: with IF = 0, which Linux does not do. `no-fixup`: no exception-table entry covers the copy. */
export type KernelCopyOption = (typeof kernelCopyOptions)[number];

/**
 * A step of a guest task or of the guest kernel. Offsets are window offsets (bytes); sizes are bytes.
 * `until`: the access is done again and again until that signal is seen, then once more; the last one is observed.
 */
export type GuestStep =
  | { readonly verb: "load"; readonly offset: bigint; readonly size: number; readonly until?: string }
  | {
      readonly verb: "store";
      readonly offset: bigint;
      readonly size: number;
      readonly value: bigint;
      readonly until?: string;
    }
  /** LOCK XADD of 1 (size 1 to 8) or LOCK CMPXCHG16B (size 16): observes the old value. */
  | { readonly verb: "atomic"; readonly offset: bigint; readonly size: number }
  /** Calls the code there; observes what it returns in EAX. Needs content `code`. */
  | { readonly verb: "fetch"; readonly offset: bigint }
  /** REP MOVSB from the window into memory of the task. */
  | { readonly verb: "copy-from"; readonly offset: bigint; readonly size: number }
  /** REP MOVSB into the window. */
  | { readonly verb: "copy-to"; readonly offset: bigint; readonly size: number; readonly value: bigint }
  /** PUSH of eight bytes with the stack pointer in the window: the task's stack lies there. */
  | { readonly verb: "push"; readonly offset: bigint; readonly value: bigint }
  /** A system call in which the guest's kernel copies from the window (copy_from_user). */
  | {
      readonly verb: "kernel-read";
      readonly offset: bigint;
      readonly size: number;
      readonly options: readonly KernelCopyOption[];
    }
  /** The same, to the window (copy_to_user). */
  | {
      readonly verb: "kernel-write";
      readonly offset: bigint;
      readonly size: number;
      readonly value: bigint;
      readonly options: readonly KernelCopyOption[];
    }
  /** pread(2) of the file, from where the window has OFFSET. */
  | { readonly verb: "file-read"; readonly offset: bigint; readonly size: number }
  /** The same by a descriptor that was opened with O_DIRECT, of the whole page with those bytes. */
  | { readonly verb: "file-read-direct"; readonly offset: bigint; readonly size: number }
  /** pwrite(2), likewise. Behind the end of the file it makes it longer. */
  | { readonly verb: "file-write"; readonly offset: bigint; readonly size: number; readonly value: bigint }
  /** fstat(2): observes the file's size, in eight bytes. */
  | { readonly verb: "file-size"; readonly offset: bigint }
  /** ftruncate(2): shrinks or grows. */
  | { readonly verb: "file-truncate"; readonly offset: bigint; readonly newSize: bigint }
  | { readonly verb: "fsync"; readonly offset: bigint }
  /** msync(2) with MS_SYNC of the pages that contain those bytes. */
  | { readonly verb: "msync"; readonly offset: bigint; readonly size: number }
  /**
   * write(2) of a page of the window to another file that was opened with O_DIRECT: the kernel pins the page, and the device
   * reads it (pin_user_pages()).
   */
  | { readonly verb: "kernel-pin"; readonly offset: bigint }
  /** fork(2): the child loads through the mapping that it has inherited, the parent waits for its end and goes on. */
  | { readonly verb: "fork-load"; readonly offset: bigint; readonly size: number }
  /** execve(2) of the file. No content is a program: without a loss it fails with ENOEXEC. */
  | { readonly verb: "exec"; readonly offset: bigint }
  | { readonly verb: "signal"; readonly name: string }
  | { readonly verb: "await"; readonly name: string }
  /** SIGKILL for another guest actor of the same vCPU. One that sleeps for a page dies when it is woken, as in Linux. */
  | { readonly verb: "kill"; readonly actor: string }
  /** Counts for ever, touching nothing: a bystander. Must be the last step. */
  | { readonly verb: "count" };

/** The steps that touch the window, or the file behind it: those with an offset. Theirs is 0 that are about the whole file. */
export type AccessStep = Extract<GuestStep, { readonly offset: bigint }>;

/**
 * Ways to touch a page, as the model of KVM has them. `copy-from-user` and `copy-to-user`: the guest kernel, through a
 * user address, with an exception table entry. `dax-read` and `dax-write`: read(2) and write(2) of a DAX file, the
 * kernel's own mapping. `stack`: a store to the task's own stack. `walk`: the CPU reads a guest page table that lies in
 * the window. No verb does the last three.
 */
export type AccessOp =
  | "load"
  | "store"
  | "atomic"
  | "fetch"
  | "stack"
  | "walk"
  | "copy-from-user"
  | "copy-to-user"
  | "dax-read"
  | "dax-write";

/** How a verb touches the window. */
export type Touch = {
  /** What is observed: of `store` what was written, of the others what was there. `store` and `atomic` change the file. */
  readonly kind: "load" | "store" | "atomic" | "fetch";
  /**
   * What the one instruction is: `move` (MOV, MOVDQU, VMOVDQU: one for each width), `locked` (with LOCK, one for each
   * width), `string` (REP MOVSB: a byte at a time), `stack` (PUSH), `call`.
   */
  readonly instruction: "move" | "locked" | "string" | "stack" | "call";
  /** `task`: the actor itself executes it. `kernel`: the guest kernel does on its behalf, in a system call. */
  readonly by: "task" | "kernel";
  /** Where the verb decides how many, not the step: bytes that are touched, bytes that are observed. */
  readonly bytes: { readonly touched: number; readonly seen: number } | null;
  readonly op: AccessOp;
  /** The same where the actor is the guest kernel. */
  readonly opInKernel: AccessOp;
};

/**
 * What only a process of Linux does: system calls on the file behind the window, or on the window where a guest without a
 * kernel like Linux's has none like that. None of it is in the micro-guest, or in the model.
 */
export type LinuxCall = {
  /**
   * As of a touch; `size`: the file's size is observed. `sync` and `resize` (sets the size) observe nothing: the call returns
   * or fails.
   */
  readonly kind: "load" | "store" | "size" | "sync" | "resize";
  readonly instruction: null;
  /** `task`: by an instruction of the task's own, or its child's. */
  readonly by: "kernel" | "task";
  readonly bytes: Touch["bytes"];
  /** The file can be open for reading only, and is mapped so (ETXTBSY, deny_write_access(), include/linux/fs.h). */
  readonly onlyReads?: true;
  /** Files are opened with O_DIRECT, which not every file system has. */
  readonly isDirect?: true;
};

export type GuestVerb<Step> = Grammar<Step> & {
  /** enum verb of vmm/guest/step/channel.h. */
  readonly number: number;
  readonly touch: Step extends AccessStep ? Touch | LinuxCall : null;
  /** Why the processes of engine mmap-io, which are written in JavaScript, do not do it, after the actor's name; null: they do. */
  readonly beyondJavaScript: string | null;
  /** Of an atomic access: what it leaves where it has found `old`. */
  readonly leaves?: (old: bigint, step: Step) => bigint;
  /** Goes on for ever, so that no step can follow. */
  readonly endless?: true;
};

function touch(
  kind: Touch["kind"],
  instruction: Touch["instruction"],
  more: Partial<Omit<Touch, "kind" | "instruction">> = {},
): Touch {
  return { kind, instruction, by: "task", bytes: null, op: kind, opInKernel: more.op ?? kind, ...more };
}

function linuxCall(
  kind: LinuxCall["kind"],
  bytes: LinuxCall["bytes"] = null,
  by: LinuxCall["by"] = "kernel",
): LinuxCall {
  return { kind, instruction: null, by, bytes };
}

function callsFile(verb: string): string {
  return `makes a system call on the file, ${verb}; this engine's processes only map it`;
}

/** In the order in which messages list them. */
export const guestVerbs: {
  readonly [Verb in GuestStep["verb"]]: GuestVerb<Extract<GuestStep, { readonly verb: Verb }>>;
} = {
  load: {
    operands: { offset: windowOffset, size: width(accessSizes), until },
    number: 1,
    touch: touch("load", "move"),
    beyondJavaScript: null,
  },
  store: {
    operands: { offset: windowOffset, size: width(accessSizes), value: value(), until },
    number: 2,
    touch: touch("store", "move"),
    beyondJavaScript: null,
  },
  atomic: {
    operands: { offset: windowOffset, size: width(atomicSizes) },
    check: ({ offset, size }) =>
      offset % BigInt(size) === 0n
        ? null
        : `offset ${hex(offset)} is not a multiple of the size ${size}, which LOCK instructions need`,
    number: 3,
    touch: touch("atomic", "locked"),
    leaves: (old, { size }) => (size === 16 ? old : old + 1n),
    beyondJavaScript: null,
  },
  fetch: {
    operands: { offset: windowOffset },
    check: ({ offset }) =>
      offset % PAGE_BYTES === 0n
        ? null
        : `offset ${hex(offset)} is not a multiple of ${PAGE_BYTES}: code stands at the start of pages only`,
    number: 4,
    // `mov eax, imm32; ret`; EAX is what is seen.
    touch: touch("fetch", "call", { bytes: { touched: 6, seen: 4 } }),
    beyondJavaScript: "executes code from the file, which JavaScript cannot",
  },
  "copy-from": {
    operands: { offset: windowOffset, size: copySize },
    number: 5,
    touch: touch("load", "string", { opInKernel: "copy-from-user" }),
    beyondJavaScript: null,
  },
  "copy-to": {
    operands: { offset: windowOffset, size: copySize, value: value() },
    number: 6,
    touch: touch("store", "string", { opInKernel: "copy-to-user" }),
    beyondJavaScript: null,
  },
  "kernel-read": {
    operands: { offset: windowOffset, size: copySize, options: options(kernelCopyOptions) },
    number: 10,
    touch: touch("load", "string", { by: "kernel", op: "copy-from-user" }),
    beyondJavaScript: null,
  },
  "kernel-write": {
    operands: { offset: windowOffset, size: copySize, value: value(), options: options(kernelCopyOptions) },
    number: 11,
    touch: touch("store", "string", { by: "kernel", op: "copy-to-user" }),
    beyondJavaScript: null,
  },
  push: {
    operands: { offset: windowOffset, value: value(8) },
    number: 12,
    touch: touch("store", "stack", { bytes: { touched: 8, seen: 8 }, op: "stack" }),
    beyondJavaScript: "has its stack in the file, which JavaScript cannot",
  },
  "file-read": {
    operands: { offset: windowOffset, size: copySize },
    number: 15,
    touch: linuxCall("load"),
    beyondJavaScript: callsFile("file-read"),
  },
  "file-write": {
    operands: { offset: windowOffset, size: copySize, value: value() },
    number: 16,
    touch: linuxCall("store"),
    beyondJavaScript: callsFile("file-write"),
  },
  "file-size": {
    operands: { offset: wholeFile },
    number: 17,
    touch: linuxCall("size", { touched: 0, seen: 8 }),
    beyondJavaScript: callsFile("file-size"),
  },
  "file-truncate": {
    operands: { offset: wholeFile, newSize: fileSize },
    number: 20,
    touch: linuxCall("resize", { touched: 0, seen: 0 }),
    beyondJavaScript: callsFile("file-truncate"),
  },
  fsync: {
    operands: { offset: wholeFile },
    number: 18,
    touch: linuxCall("sync", { touched: 0, seen: 0 }),
    beyondJavaScript: callsFile("fsync"),
  },
  msync: {
    operands: { offset: windowOffset, size: copySize },
    number: 19,
    touch: linuxCall("sync"),
    beyondJavaScript: callsFile("msync"),
  },
  "file-read-direct": {
    operands: { offset: windowOffset, size: copySize },
    check: ({ offset, size }) =>
      (offset % PAGE_BYTES) + BigInt(size) > PAGE_BYTES
        ? `offset ${hex(offset)} + ${size} bytes end in another page: one page is read`
        : null,
    number: 21,
    touch: { ...linuxCall("load"), isDirect: true },
    beyondJavaScript: callsFile("file-read-direct"),
  },
  "kernel-pin": {
    operands: { offset: windowOffset },
    check: ({ offset }) =>
      offset % PAGE_BYTES === 0n
        ? null
        : `offset ${hex(offset)} is not a multiple of ${PAGE_BYTES}: O_DIRECT needs an aligned buffer`,
    number: 22,
    touch: { ...linuxCall("sync", { touched: Number(PAGE_BYTES), seen: 0 }), isDirect: true },
    beyondJavaScript:
      "has a page pinned by the kernel, with O_DIRECT; this engine's processes only map the file",
  },
  "fork-load": {
    operands: { offset: windowOffset, size: width(forkSizes) },
    number: 23,
    touch: linuxCall("load", null, "task"),
    beyondJavaScript: "makes a child by fork(2), which JavaScript cannot",
  },
  exec: {
    operands: { offset: wholeFile },
    number: 24,
    touch: { ...linuxCall("sync", { touched: 0, seen: 0 }), onlyReads: true },
    beyondJavaScript: "executes the file, which would end this engine's process",
  },
  signal: { operands: { name: signalName }, number: 7, touch: null, beyondJavaScript: null },
  await: { operands: { name: signalName }, number: 8, touch: null, beyondJavaScript: null },
  kill: {
    operands: { actor: actorName },
    number: 13,
    touch: null,
    beyondJavaScript: "kills another task; a process in JavaScript has no part in that",
  },
  count: { operands: {}, number: 9, touch: null, beyondJavaScript: null, endless: true },
};

/** The verbs that touch the window by an instruction, in the order of their numbers. */
export const accessVerbs: readonly {
  readonly verb: AccessStep["verb"];
  readonly number: number;
  readonly touch: Touch;
}[] = Object.entries(guestVerbs)
  .flatMap(([verb, row]) =>
    row.touch === null || row.touch.instruction === null
      ? []
      : [{ verb: verb as AccessStep["verb"], number: row.number, touch: row.touch }],
  )
  .sort((one, other) => one.number - other.number);

export function touchOf(step: AccessStep): Touch | LinuxCall {
  return guestVerbs[step.verb].touch;
}

/** Is it a system call that only a Linux process can make? */
export function isLinuxCall(step: GuestStep): boolean {
  const { touch } = guestVerbs[step.verb];
  return touch !== null && touch.instruction === null;
}

/** Does it observe nothing but that it has succeeded? */
export function observesNothing(step: AccessStep): boolean {
  const { kind } = touchOf(step);
  return kind === "sync" || kind === "resize";
}

/** Does a case with this verb have the file open and mapped for reading only? */
export function onlyReads(verb: GuestStep["verb"]): boolean {
  const { touch } = guestVerbs[verb];
  return touch !== null && touch.instruction === null && touch.onlyReads === true;
}

/** Does it open files with O_DIRECT? */
export function isDirect(step: AccessStep): boolean {
  const touch = touchOf(step);
  return touch.instruction === null && touch.isDirect === true;
}

/** Is it about bytes of the file, rather than its size or its way to the disk? */
export function isAboutBytes(step: AccessStep): boolean {
  return touchOf(step).kind !== "size" && !observesNothing(step);
}

/** The word of an access that nothing disturbs. */
export function undisturbedWord(step: AccessStep): "value" | "done" {
  return observesNothing(step) ? "done" : "value";
}

export function isAccess(step: GuestStep): step is AccessStep {
  return guestVerbs[step.verb].touch !== null;
}

/** Does this access leave something in the file? */
export function isWrite(step: AccessStep): boolean {
  const { kind } = touchOf(step);
  return kind === "store" || kind === "atomic";
}

/** How many bytes an access touches. A fetch is counted as the six bytes of `mov eax, imm32; ret`. */
export function accessBytes(step: AccessStep): number {
  return touchOf(step).bytes?.touched ?? ("size" in step ? step.size : 0);
}

/** How many bytes an access observes. */
export function seenBytes(step: AccessStep): number {
  if (observesNothing(step)) return 0;
  return touchOf(step).bytes?.seen ?? ("size" in step ? step.size : 0);
}

/** The value that an access writes; 0 where its verb has no such operand. */
export function writtenValue(step: AccessStep): bigint {
  return "value" in step ? step.value : 0n;
}

export function kernelCopyOptionsOf(step: AccessStep): readonly KernelCopyOption[] {
  return "options" in step ? step.options : [];
}

/** What stands there after an access that has found `old`, if it did what it was to do. */
export function leftValue(step: AccessStep, old: bigint): bigint {
  // Row and step have the same verb, which TypeScript cannot follow through the table.
  const { leaves } = guestVerbs[step.verb] as GuestVerb<AccessStep>;
  if (leaves !== undefined) return leaves(old, step);
  return isWrite(step) ? writtenValue(step) : old;
}
