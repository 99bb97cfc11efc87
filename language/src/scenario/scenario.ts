/**
 * A scenario: what is mapped, who does what, when. Data, not code; `parse.ts` makes it from JSON and checks every limit.
 * Engines interpret these steps and nothing else, so that all of them run the same thing.
 */

import type { FaultRule } from "./fault-rules.ts";
import type { GuestStep } from "./guest-verbs.ts";
import type { HostStep, VmmStep } from "./host-verbs.ts";
import { HUGE_PAGE_BYTES, PAGE_BYTES } from "./limits.ts";
import type { UserfaultHandler } from "./userfault.ts";

export const layouts = ["dax-window", "nvdimm", "virtio-fs"] as const;
/**
 * `dax-window`: a reserved range of guest memory, one memslot, file ranges mapped into it with MAP_FIXED (virtio-fs).
 * `nvdimm`: the file mapped whole, the mapping itself the memslot (file-backed NVDIMM, virtio-pmem).
 * `virtio-fs`: nothing of the file is guest memory. The guest's kernel has copies of its pages, which it asks the file
 * server for: the yardstick, in which no page can be lost.
 */
export type Layout = (typeof layouts)[number];

/** Are pages of the file the guest's memory? Then they can be lost. */
export function isMappedIntoGuest(layout: Layout): boolean {
  return layout !== "virtio-fs";
}

export const backingKinds = [
  "host-file",
  "tmpfs",
  "tmpfs-full",
  "tmpfs-huge",
  "hugetlb",
  "private",
  "private-swapped",
  "userfaultfd",
  "guest-memfd",
] as const;
/**
 * `host-file`: a file in the run directory (whatever file system that is on; attested).
 * `tmpfs`: a file on a tmpfs of its own. `tmpfs-full`: the same, its last pages never allocated and no block left.
 * `tmpfs-huge`: on a tmpfs of huge pages (huge=always). `hugetlb`: a file of huge pages (hugetlbfs), whose pool runs dry:
 * the pages of its second half were never allocated, and none is left.
 * `private`: a `host-file` mapped MAP_PRIVATE (a snapshot that a VM is restored from): the file's page until the first store.
 * `userfaultfd`: private memory that a `handler` fills with the file's pages when they are missing.
 * `guest-memfd`: memory of KVM that the host has mapped as well, a copy of the file. KVM does not look its pages up by the
 * VMM's mapping (kvm_mmu_faultin_pfn_gmem()), so what becomes of that is nothing to the guest.
 * `private-swapped`: a `host-file` mapped MAP_PRIVATE (QEMU's `share=off`, memory restored from a snapshot), each page the
 * VMM's own copy of the file's, and all of them swapped out before the guest's first access. On a tmpfs there would be
 * nothing to see: shmem_swapin_folio() (mm/shmem.c) waits for the page whatever the caller asked for, FOLL_NOWAIT included,
 * where do_swap_page() (mm/memory.c) of a private page returns VM_FAULT_RETRY, from which async page faults start.
 */
export type BackingKind = (typeof backingKinds)[number];

/** Does the file lie on a tmpfs that has to be mounted for it? */
export function isOnTmpfs(kind: BackingKind): boolean {
  return kind === "tmpfs" || kind === "tmpfs-full" || kind === "tmpfs-huge";
}

/** Is the guest's memory the VMM's own, so that what is stored there never comes to the file? */
export function isPrivate(kind: BackingKind): boolean {
  switch (kind) {
    case "private":
    case "private-swapped":
    case "userfaultfd":
    case "guest-memfd":
      return true;
    case "host-file":
    case "tmpfs":
    case "tmpfs-full":
    case "tmpfs-huge":
    case "hugetlb":
      return false;
  }
}

/** The page that the file has and that is mapped, in bytes. */
export function pageBytesOf(kind: BackingKind): bigint {
  return kind === "hugetlb" ? HUGE_PAGE_BYTES : PAGE_BYTES;
}

export const clientCaches = ["never", "always"] as const;
/**
 * How long the clients of the file server hold names and attributes, in the words of virtiofsd's `--cache`: `never`, so that
 * each fstat(2) asks the server; `always`, a day. Clients: the guest's virtio-fs, and our FUSE mount.
 */
export type ClientCache = (typeof clientCaches)[number];

/** What the server answers as the time-out of a name and of attributes; null: its default, one second. */
export function cacheTimeoutMs(cache: ClientCache | undefined): number | null {
  switch (cache) {
    case undefined:
      return null;
    case "never":
      return 0;
    case "always":
      return 86_400_000;
  }
}

export const contents = ["pattern", "code"] as const;
/**
 * `pattern`: the 64-bit word at offset n is n + 0xda0000000000 (every word differs, none is zero).
 * `code`: at each page's start `mov eax, 0xda000000 + page number; ret`, for `fetch`.
 */
export type Content = (typeof contents)[number];

export const nmiVariants = ["cr2-lost", "flags-lost", "saved", "lost-page"] as const;
/**
 * One NMI arrives between the delivery of the first event about a page and the handler's reading what it is about, and
 * its own handler takes a page fault. Around that it does not keep CR2, or not the reason in the shared area of async page
 * faults, or it keeps both. `lost-page`: its handler reads the page that the event is about, as perf reads a user's stack,
 * and keeps both.
 */
export type NmiVariant = (typeof nmiVariants)[number];

/**
 * What a guest task does about SIGBUS, by its number on the channel (enum on_sigbus of vmm/guest/channel.h): it ends, or
 * its handler goes on with the next step, or it begins the same step again.
 */
export const sigbusReactions = ["killed", "next-step", "same-step"] as const;
export type SigbusReaction = (typeof sigbusReactions)[number];

/** Those that a scenario may ask for: `same-step` is for measurements, which end by other means. */
export type OnSigbus = Exclude<SigbusReaction, "same-step">;
export const scenarioSigbusReactions: readonly OnSigbus[] = ["killed", "next-step"];

export type Actor =
  /**
   * CPL 3. On SIGBUS the task ends (the default, as in Linux), or its handler goes on with the
   * next step. `cpu`: the vCPU that runs it, 0 by default. `interrupts` off: it runs with IF = 0.
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
    /** Left out: one second. */
    readonly cache?: ClientCache;
    /** The VMM has mapped it PROT_READ (QEMU's `readonly=on`), the memslot is writable. Left out: readable and writable. */
    readonly readonly?: true;
    /** Of kind `userfaultfd`. */
    readonly handler?: UserfaultHandler;
    /**
     * What is mapped is not the file itself but what our FUSE mount of its folder shows, whose server follows these rules.
     * Its client begins with an empty page cache: every page needs I/O. Left out: the file itself.
     */
    readonly mount?: { readonly faults: readonly FaultRule[] };
  };
  /** Empty but for layout `dax-window`: elsewhere the guest has the whole file, from 0. */
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
  /** KVM capabilities (names as in <linux/kvm.h>) without which the scenario is vacuous. */
  readonly needs: readonly string[];
  /** First 12 hex digits of the SHA-256 of the canonical JSON without `purpose`. */
  readonly hash: string;
};

/**
 * `actor.label is word`, `host.truncate#1 is done`, `kvm.KVM_CAP_.. is 1`, `guest.apf is off`, `backing.swap-out is seen`
 * (no page of the mapping was in memory, nor in the swap cache, when the guest began), `backing.huge-page is seen` (KVM
 * has mapped a large page for the guest).
 */
export type Witness = { readonly subject: string; readonly label: string; readonly is: string };
