/**
 * A scenario: what is mapped, who does what, when. Data, not code; `parse.ts` makes it from JSON and checks every limit.
 * Engines interpret these steps and nothing else, so that all of them run the same thing.
 */

import type { FaultRule } from "./faults.ts";

export const layouts = ["dax-window", "nvdimm"] as const;
/**
 * `dax-window`: a reserved range of guest memory, one memslot, file ranges mapped into it with MAP_FIXED (virtio-fs).
 * `nvdimm`: the file mapped whole, the mapping itself the memslot (file-backed NVDIMM, virtio-pmem).
 */
export type Layout = (typeof layouts)[number];

export const backingKinds = ["host-file", "tmpfs", "tmpfs-full", "private-swapped"] as const;
/**
 * `host-file`: a file in the run directory (whatever file system that is on; attested).
 * `tmpfs`: a file on a tmpfs of its own. `tmpfs-full`: the same, its last pages never allocated and no block left.
 * `private-swapped`: a `host-file` mapped MAP_PRIVATE (QEMU's `share=off`, memory restored from a snapshot), each page the
 * VMM's own copy of the file's, and all of them swapped out before the guest's first access. On a tmpfs there would be
 * nothing to see: shmem_swapin_folio() (mm/shmem.c) waits for the page whatever the caller asked for, FOLL_NOWAIT included,
 * where do_swap_page() (mm/memory.c) of a private page says VM_FAULT_RETRY, which is what async page faults start from.
 */
export type BackingKind = (typeof backingKinds)[number];

/** Does the file lie on a tmpfs that has to be mounted for it? */
export function isOnTmpfs(kind: BackingKind): boolean {
  return kind === "tmpfs" || kind === "tmpfs-full";
}

export const contents = ["pattern", "code"] as const;
/**
 * `pattern`: the 64-bit word at offset n is n + 0xda0000000000 (every word differs, none is zero).
 * `code`: at each page's start `mov eax, 0xda000000 + page number; ret`, for `fetch`.
 */
export type Content = (typeof contents)[number];

export const kernelCopyOptions = ["irqs-off", "no-fixup"] as const;
/** `irqs-off`: with IF = 0, which Linux does not do. `no-fixup`: no exception-table entry covers the copy. */
export type KernelCopyOption = (typeof kernelCopyOptions)[number];

/**
 * What a guest task, or the guest kernel, does. Offsets are window offsets (bytes); sizes are bytes.
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
  | { readonly verb: "signal"; readonly name: string }
  | { readonly verb: "await"; readonly name: string }
  /** SIGKILL for another guest actor of the same vCPU. One that sleeps for a page dies when it is woken, as in Linux. */
  | { readonly verb: "kill"; readonly actor: string }
  /** Counts for ever, touching nothing: a bystander. Must be the last step. */
  | { readonly verb: "count" };

export const truncateOptions = ["own-namespace", "as-nobody"] as const;
/** `own-namespace`: from inside a mount namespace of its own. `as-nobody`: as uid 65534 (setfsuid(2)). Both need root. */
export type TruncateOption = (typeof truncateOptions)[number];

/** What a process of the host does to the file. Sizes and offsets are file offsets (bytes). */
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
  /** Writes 8 bytes through a mapping of its own (MAP_SHARED). */
  | { readonly verb: "map-store"; readonly offset: bigint; readonly value: bigint }
  /** rename(2) of another, empty file over this one. */
  | { readonly verb: "rename-over" }
  | { readonly verb: "unlink" }
  | { readonly verb: "signal"; readonly name: string }
  | { readonly verb: "await"; readonly name: string };

/** What the VMM is told to do besides its policy. */
export type VmmStep =
  | { readonly verb: "await"; readonly name: string }
  | { readonly verb: "signal"; readonly name: string }
  /** KVM_RUN again on a vCPU that had stopped; nothing if it is still running. */
  | { readonly verb: "resume" };

export const nmiVariants = ["cr2-lost", "flags-lost", "saved"] as const;
/**
 * One NMI arrives between the delivery of the first event about a page and the handler's reading what it is about, and
 * its own handler takes a page fault. Around that it does not keep CR2, or not the reason in the shared area of async page
 * faults, or it keeps both.
 */
export type NmiVariant = (typeof nmiVariants)[number];

export const sigbusReactions = ["killed", "next-step"] as const;
export type OnSigbus = (typeof sigbusReactions)[number];

export type Actor =
  /**
   * CPL 3. On SIGBUS the task ends (as by default in Linux, and if nothing is said), or its handler goes on with the
   * next step. `cpu`: the vCPU that runs it, 0 if nothing is said. `interrupts` off: it runs with IF = 0.
   * `nested`: it is a task of the guest's own guest (L2).
   */
  | {
      readonly in: "guest-task";
      readonly cpu?: number;
      readonly interrupts?: "off";
      readonly nested?: true;
      readonly onSigbus?: OnSigbus;
      readonly steps: readonly GuestStep[];
    }
  /** The same steps at CPL 0. */
  | { readonly in: "guest-kernel"; readonly cpu?: number; readonly steps: readonly GuestStep[] }
  /** `through`: the file itself, or our FUSE server's mount of its folder. */
  | { readonly in: "host-process"; readonly through: "file" | "mount"; readonly steps: readonly HostStep[] }
  | { readonly in: "vmm"; readonly steps: readonly VmmStep[] };

/**
 * Raised by the engine itself, never by a step: the vCPU has stopped (KVM_RUN gave up) or is proven to loop.
 * The host and the VMM may await it.
 */
export const STUCK = "stuck";

export type WindowMapping = {
  /** File offset in bytes. */
  readonly fileOffset: bigint;
  /** Window offset in bytes. */
  readonly at: bigint;
  readonly length: bigint;
};

export type Scenario = {
  readonly id: string;
  /** One sentence. */
  readonly purpose: string;
  readonly layout: Layout;
  readonly backing: {
    readonly kind: BackingKind;
    readonly size: bigint;
    readonly content: Content;
    /**
     * What is mapped is not the file itself but what our FUSE mount of its folder shows, whose server follows these rules.
     * Its client begins with an empty page cache: every page needs I/O. Left out: the file itself.
     */
    readonly mount?: { readonly faults: readonly FaultRule[] };
  };
  /** Empty for layout `nvdimm`: there the file is the window. */
  readonly window: readonly WindowMapping[];
  readonly nmi?: NmiVariant;
  /** In the order written, which is the order in which the guest starts its tasks. */
  readonly actors: Readonly<Record<string, Actor>>;
  /** Must have been seen for the run to mean anything: `victim.load#1 is value`. */
  readonly witness: readonly Witness[];
  /** Columns of the scorecard that this scenario decides. */
  readonly properties: readonly string[];
  /** Presets that this scenario is about; null: all. */
  readonly proposals: readonly string[] | null;
  /** KVM capabilities (names as in <linux/kvm.h>) without which the scenario says nothing. */
  readonly needs: readonly string[];
  /** First 12 hex digits of the SHA-256 of the canonical JSON without `purpose`. */
  readonly hash: string;
};

/**
 * `actor.label is word`, `host.truncate#1 is done`, `kvm.KVM_CAP_.. is 1`, `guest.apf is off`, `backing.swap-out is seen`
 * (no page of the mapping was in memory, nor in the swap cache, when the guest began).
 */
export type Witness = { readonly subject: string; readonly label: string; readonly is: string };
