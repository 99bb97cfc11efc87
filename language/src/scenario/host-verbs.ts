/**
 * The verbs of host processes and of the VMM: one row each. The act itself is in harness/src/engines/host-actor-main.ts.
 */
import type { EventKind } from "../vocabulary.ts";
import { FILE_BYTES_MAX, PAGE_BYTES } from "./limits.ts";
import { hex, sizeText } from "./number.ts";
import {
  copySize,
  fileLength,
  fileOffset,
  fileSize,
  type Grammar,
  oneOf,
  optionsIfAny,
  signalName,
  value,
  windowOffset,
} from "./operands.ts";

export const truncateOptions = ["own-namespace", "as-nobody"] as const;
/** `own-namespace`: from inside a mount namespace of its own. `as-nobody`: as uid 65534 (setfsuid(2)). Both need root. */
export type TruncateOption = (typeof truncateOptions)[number];

export const memoryFailureOptions = ["early"] as const;
/** `early`: the VMM has asked to be told before it touches the page, as QEMU does (PR_MCE_KILL_EARLY, prctl(2)). */
export type MemoryFailureOption = (typeof memoryFailureOptions)[number];

/** A step of a process of the host. Sizes and offsets are file offsets (bytes). */
export type HostStep =
  /** truncate(2): shrinks or grows. */
  | {
      readonly verb: "truncate";
      readonly size: bigint;
      readonly options?: readonly TruncateOption[];
    }
  /** open(2) for writing, ftruncate(2), close(2). */
  | { readonly verb: "open-truncate"; readonly size: bigint }
  /** Opens the file for reading and writing, and keeps the descriptor. As an actor's first step: before it is mapped. */
  | { readonly verb: "open" }
  /** ftruncate(2) by the descriptor that `open` has kept. */
  | { readonly verb: "ftruncate"; readonly size: bigint }
  /** open(2) with O_TRUNC, close(2): the file is empty. */
  | { readonly verb: "open-trunc" }
  /** open(2) for reading, close(2). */
  | { readonly verb: "open-read" }
  /** fallocate(2) PUNCH_HOLE | KEEP_SIZE. */
  | { readonly verb: "punch"; readonly offset: bigint; readonly length: bigint }
  /** fallocate(2) COLLAPSE_RANGE: the range is taken out, the file gets shorter. */
  | { readonly verb: "collapse"; readonly offset: bigint; readonly length: bigint }
  /** Writes 8 bytes through a mapping of its own (MAP_SHARED); SIGBUS ends the process where the page is lost. */
  | { readonly verb: "map-store"; readonly offset: bigint; readonly value: bigint }
  /** As a device's back-end with a mapping of its own, as vhost-user has it: copies from the guest's memory. */
  | { readonly verb: "device-read"; readonly offset: bigint; readonly size: number }
  /** The same, to it. */
  | { readonly verb: "device-write"; readonly offset: bigint; readonly size: number; readonly value: bigint }
  /** rename(2) of another, empty file over this one. */
  | { readonly verb: "rename-over" }
  | { readonly verb: "unlink" }
  /** SIGKILL to the file server of the mount that is mapped, and its end, which ends the connection. */
  | { readonly verb: "kill-server" }
  /** SIGSTOP: it answers nothing until `continue-server`. */
  | { readonly verb: "stop-server" }
  /** SIGCONT. */
  | { readonly verb: "continue-server" }
  | { readonly verb: "signal"; readonly name: string }
  | { readonly verb: "await"; readonly name: string };

/** The steps that do something to the file, or to its server. */
export type HostAction = Exclude<HostStep, { readonly verb: "signal" | "await" }>;

/** A step of the VMM besides its policy. */
export type VmmStep =
  | { readonly verb: "await"; readonly name: string }
  | { readonly verb: "signal"; readonly name: string }
  /** KVM_RUN again on a vCPU that had stopped; nothing if it is still running. */
  | { readonly verb: "resume" }
  | VmmAction;

export const protections = ["none", "read", "all"] as const;
/** PROT_NONE, PROT_READ, or both of PROT_READ and PROT_WRITE. */
export type Protection = (typeof protections)[number];

/** What a VMM does to its own mapping of the guest's memory. Offsets are window offsets (bytes). */
export type VmmAction =
  /** munmap(2): no mapping is there any more, the memslot stays. */
  | { readonly verb: "unmap"; readonly offset: bigint; readonly length: bigint }
  /** mmap(2) of the file, with MAP_FIXED, as it was in the beginning. */
  | { readonly verb: "map"; readonly offset: bigint; readonly length: bigint }
  /** mprotect(2). */
  | {
      readonly verb: "protect";
      readonly offset: bigint;
      readonly length: bigint;
      readonly protection: Protection;
    }
  /** As for a balloon (QEMU's ram_block_discard_range()): MADV_DONTNEED of private memory, a hole in a file's. */
  | { readonly verb: "discard"; readonly offset: bigint; readonly length: bigint }
  /**
   * The host has found a memory error in the page, and nobody has consumed it: memory_failure() takes the page of whatever
   * size (hard_offline_page). Where the page is 4 KiB of a larger one, that is what becomes of the larger one.
   */
  | {
      readonly verb: "memory-failure";
      readonly offset: bigint;
      readonly options?: readonly MemoryFailureOption[];
    }
  /** A device of the VMM copies from the guest's memory, as for a descriptor of a virtqueue. */
  | { readonly verb: "device-read"; readonly offset: bigint; readonly size: number }
  /** A device of the VMM copies to the guest's memory. */
  | { readonly verb: "device-write"; readonly offset: bigint; readonly size: number; readonly value: bigint };

/** From its first byte up to, not including, its last. */
export type FileRange = { readonly from: bigint; readonly to: bigint };

/**
 * What an action does to the mapped inode, if it is let. `via`: the call that a lease or a permission event sees:
 * truncate(2) of a path, a descriptor that was open for writing before, or open(2) with O_TRUNC.
 */
export type FileEffect =
  | { readonly kind: "resize"; readonly sizeBytes: bigint; readonly via: "path" | "open-fd" | "open-trunc" }
  /** Reads as zeros from now on. */
  | { readonly kind: "hole"; readonly range: FileRange }
  | { readonly kind: "none" };

/** What an action is. */
export type Act<Step> = {
  /** Its event in the trace. */
  readonly event: (step: Step) => { readonly kind: EventKind; readonly detail: string };
  /** @param sizeBytes the file's size before */
  readonly effect: (step: Step, sizeBytes: bigint) => FileEffect;
  /** Where bytes stand afterwards that neither stood there before nor are zeros; absent: nowhere. */
  readonly rewrites?: (step: Step, sizeBytes: bigint) => FileRange;
  /** `opens`: keeps a descriptor. `uses`: needs the one that was kept. */
  readonly descriptor?: "opens" | "uses";
  /** It concerns the file's name, not the inode. */
  readonly onName?: true;
  /** Loads or stores of the process's own, by a mapping of its own: what is lost of it ends the process (SIGBUS). */
  readonly byMapping?: true;
  /** It is done to the server of the mount that is mapped. */
  readonly server?: ServerChange;
};

/** What becomes of the server, and with it of what has to be read from now on. */
export type ServerChange = "dies" | "stops" | "goes-on";

export type HostVerb<Step> = Grammar<Step> & { readonly act: Step extends HostAction ? Act<Step> : null };

function resize(sizeBytes: bigint, via: "path" | "open-fd" | "open-trunc" = "path"): FileEffect {
  return { kind: "resize", sizeBytes, via };
}

const unchanged = (): FileEffect => ({ kind: "none" });

function checkRange({ offset, length }: { readonly offset: bigint; readonly length: bigint }): string | null {
  return offset + length > FILE_BYTES_MAX
    ? `offset ${hex(offset)} + length ${hex(length)} is beyond the limit ${sizeText(FILE_BYTES_MAX)}`
    : null;
}

/** Whole pages. */
function pagesAround(offset: bigint, length: bigint): FileRange {
  const from = offset - (offset % PAGE_BYTES);
  const end = offset + length + PAGE_BYTES - 1n;
  return { from, to: end - (end % PAGE_BYTES) };
}

const toServer = (server: ServerChange, detail: string) => ({
  operands: {},
  act: { event: () => ({ kind: "server", detail }) as const, effect: unchanged, server },
});

const signalling = { operands: { name: signalName }, act: null };

/** In the order in which messages list them. */
export const hostVerbs: {
  readonly [Verb in HostStep["verb"]]: HostVerb<Extract<HostStep, { readonly verb: Verb }>>;
} = {
  truncate: {
    operands: { size: fileSize, options: optionsIfAny(truncateOptions) },
    act: {
      event: ({ size, options = [] }) => ({
        kind: "truncate",
        detail: [`to ${size} bytes`, ...options].join(", "),
      }),
      effect: ({ size }) => resize(size),
    },
  },
  "open-truncate": {
    operands: { size: fileSize },
    act: {
      event: ({ verb, size }) => ({ kind: "truncate", detail: `${verb} to ${size} bytes` }),
      effect: ({ size }) => resize(size),
    },
  },
  open: {
    operands: {},
    act: {
      event: () => ({ kind: "open", detail: "for reading and writing" }),
      effect: unchanged,
      descriptor: "opens",
    },
  },
  ftruncate: {
    operands: { size: fileSize },
    act: {
      event: ({ verb, size }) => ({ kind: "truncate", detail: `${verb} to ${size} bytes` }),
      effect: ({ size }) => resize(size, "open-fd"),
      descriptor: "uses",
    },
  },
  "open-trunc": {
    operands: {},
    act: {
      event: () => ({ kind: "truncate", detail: "open with O_TRUNC" }),
      effect: () => resize(0n, "open-trunc"),
    },
  },
  "open-read": {
    operands: {},
    act: { event: () => ({ kind: "open", detail: "for reading" }), effect: unchanged },
  },
  punch: {
    operands: { offset: fileOffset(), length: fileLength },
    check: checkRange,
    act: {
      event: ({ offset, length }) => ({ kind: "punch", detail: `${length} bytes at ${offset}` }),
      effect: ({ offset, length }) => ({ kind: "hole", range: { from: offset, to: offset + length } }),
    },
  },
  collapse: {
    operands: { offset: fileOffset(), length: fileLength },
    check: checkRange,
    act: {
      event: ({ offset, length }) => ({ kind: "truncate", detail: `${length} bytes at ${offset} taken out` }),
      effect: ({ length }, sizeBytes) => resize(sizeBytes - length),
      rewrites: ({ offset, length }, sizeBytes) => ({ from: offset, to: sizeBytes - length }),
    },
  },
  "map-store": {
    operands: { offset: fileOffset(8n), value: value(8) },
    act: {
      event: ({ offset }) => ({ kind: "write", detail: `8 bytes at ${offset}, through a mapping` }),
      effect: unchanged,
      // By page: what the guest sees is distinguished by page only.
      rewrites: ({ offset }) => pagesAround(offset, 1n),
      byMapping: true,
    },
  },
  "device-read": {
    operands: { offset: fileOffset(), size: copySize },
    act: {
      event: ({ offset, size }) => ({ kind: "fault", detail: `a device reads ${size} bytes at ${offset}` }),
      effect: unchanged,
      byMapping: true,
    },
  },
  "device-write": {
    operands: { offset: fileOffset(), size: copySize, value: value() },
    act: {
      event: ({ offset, size }) => ({ kind: "fault", detail: `a device writes ${size} bytes at ${offset}` }),
      effect: unchanged,
      // By page: what the guest sees is distinguished by page only.
      rewrites: ({ offset, size }) => pagesAround(offset, BigInt(size)),
      byMapping: true,
    },
  },
  "rename-over": {
    operands: {},
    act: {
      event: () => ({ kind: "rename", detail: "another file over this one" }),
      effect: unchanged,
      onName: true,
    },
  },
  unlink: {
    operands: {},
    act: { event: () => ({ kind: "unlink", detail: "" }), effect: unchanged, onName: true },
  },
  "kill-server": toServer("dies", "SIGKILL"),
  "stop-server": toServer("stops", "SIGSTOP"),
  "continue-server": toServer("goes-on", "SIGCONT"),
  signal: signalling,
  await: signalling,
};

export const vmmVerbs: {
  readonly [Verb in VmmStep["verb"]]: Grammar<Extract<VmmStep, { readonly verb: Verb }>>;
} = {
  resume: { operands: {} },
  unmap: { operands: { offset: windowOffset, length: fileLength } },
  map: { operands: { offset: windowOffset, length: fileLength } },
  protect: { operands: { offset: windowOffset, length: fileLength, protection: oneOf(protections) } },
  discard: { operands: { offset: windowOffset, length: fileLength } },
  "memory-failure": { operands: { offset: windowOffset, options: optionsIfAny(memoryFailureOptions) } },
  "device-read": { operands: { offset: windowOffset, size: copySize } },
  "device-write": { operands: { offset: windowOffset, size: copySize, value: value() } },
  signal: { operands: { name: signalName } },
  await: { operands: { name: signalName } },
};

export function isVmmAction(step: VmmStep): step is VmmAction {
  return step.verb !== "await" && step.verb !== "signal" && step.verb !== "resume";
}

/** A memory error of which the VMM is told before it meets it. */
export function isEarlyFailure(step: VmmStep): boolean {
  return step.verb === "memory-failure" && (step.options ?? []).includes("early");
}

/** A load or store of the process's own, the VMM or a device's back-end: what is lost ends it. */
export function isDeviceAccess(step: HostStep | VmmStep): boolean {
  return step.verb === "device-read" || step.verb === "device-write";
}

export function isAction(step: HostStep): step is HostAction {
  return hostVerbs[step.verb].act !== null;
}

/** What an action is; the row of its verb, for a step whose verb is not known. */
export function actOf(step: HostAction): Act<HostAction> {
  // Row and step have the same verb, which TypeScript cannot follow through the table.
  return hostVerbs[step.verb].act as Act<HostAction>;
}

/** What a step does to the mapped inode of a file of `sizeBytes`, if it is let. */
export function effectOf(step: HostStep, sizeBytes: bigint): FileEffect {
  return isAction(step) ? actOf(step).effect(step, sizeBytes) : unchanged();
}
