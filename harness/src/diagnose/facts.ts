/** What a diagnosis has seen of a machine. Everything is there; null is "could not be seen", and `unseen` says why. */
import type { Stat, ThreadCall } from "./proc.ts";

export type HostFacts = {
  /** uname -r */
  readonly kernel: string;
  readonly isRoot: boolean;
  readonly vms: readonly VmFacts[];
  /** What could not be seen, a sentence each, with what shows it. */
  readonly unseen: readonly string[];
  /** Workers of the kernel that wait for a page of some VM (async_pf_execute()), with their stacks. */
  readonly pageWorkers: readonly PageWorker[];
  readonly tookMs: number;
};

export type PageWorker = {
  readonly tid: number;
  readonly stack: readonly string[];
  /** How long it had not run. */
  readonly sleptMs: number | null;
};

export type VmFacts = {
  readonly pid: number;
  /** The process's name, as ps shows it. */
  readonly process: string;
  /** The guest's, where the command line has one. */
  readonly name: string | null;
  /** The first word of the command line. */
  readonly program: string | null;
  readonly commandLine: readonly string[];
  /** When it was started, in clock ticks after boot: tells it from a later process of its number. null: not seen. */
  readonly startTicks: number | null;
  /** VMs in this process: one, normally. */
  readonly vms: number;
  /** It ended while it was looked at. */
  readonly isGone: boolean;
  /** What its threads wait for can be read: a vCPU in KVM_RUN would be seen. */
  readonly seesCalls: boolean;
  /** Of the process's first thread. */
  readonly state: string | null;
  readonly namespaces: {
    /** null: not known. */
    readonly hasOwnMounts: boolean | null;
    readonly hasOwnPids: boolean | null;
  };
  readonly vcpus: readonly VcpuFacts[];
  /** Other threads of the process that were in state D at every look. */
  readonly blocked: readonly BlockedThread[];
  readonly files: readonly GuestFile[];
  readonly counters: Counters | null;
  readonly trace:
    | { readonly kind: "seen"; readonly lost: number }
    | { readonly kind: "none"; readonly reason: string };
  /** From the first look to the last. */
  readonly watchedMs: number;
  readonly unseen: readonly string[];
};

export type BlockedThread = { readonly tid: number; readonly name: string; readonly where: string };

/** KVM's counters of debugfs, of all vCPUs together: before and after the look. */
export type Counters = Readonly<Record<string, { readonly before: number; readonly after: number }>>;

export type Look = {
  readonly atMs: number;
  /** null: the thread had gone. */
  readonly stat: Stat | null;
  /** The function that it sleeps in; null: it runs, or the kernel does not say. */
  readonly waitsIn: string | null;
  readonly call: ThreadCall | null;
};

export type VcpuFacts = {
  readonly tid: number;
  /** The thread's. */
  readonly name: string;
  /** null: not known. */
  readonly id: number | null;
  readonly looks: readonly Look[];
  /** Innermost first; null: not readable (root alone may), or it ran. */
  readonly stack: readonly string[] | null;
  /** How long the thread had not run at the last look. */
  readonly sleptMs: number | null;
  /** By guest page; those with most events first. */
  readonly pages: readonly PageEvents[];
  /** KVM_RUN that failed, by errno. */
  readonly failures: Readonly<Record<string, number>>;
};

/** What the tracepoints of a vCPU's thread say of one page. */
export type PageEvents = {
  readonly gpa: bigint;
  /** kvm_page_fault. */
  readonly faults: number;
  /** Those of them that hit a reserved bit: KVM marks pages of devices so. */
  readonly deviceFaults: number;
  /** The instruction, where it was the same each time. */
  readonly rip: bigint | null;
  /** kvm_try_async_get_page */
  readonly asked: number;
  /** kvm_async_pf_repeated_fault: the page had been asked for and was not there yet. */
  readonly repeated: number;
  /** kvm_async_pf_ready: its work was done, with the page or without. */
  readonly ready: number;
  /** kvm_tdp_mmu_spte_changed: the page was mapped. 0 without the TDP MMU, too, which alone tells it. */
  readonly fixed: number;
  /** kvm_async_pf_completed says it, and nothing else does. */
  readonly hva: bigint | null;
};

export type Piece = {
  readonly start: bigint;
  readonly end: bigint;
  readonly offset: bigint;
  readonly access: string;
};

/** A file that a VM has mapped and may have given to its guest. */
export type GuestFile = {
  readonly path: string;
  readonly isDeleted: boolean;
  readonly device: { readonly major: number; readonly minor: number };
  readonly inode: bigint;
  readonly pieces: readonly Piece[];
  /** A magic link of /proc that leads to the very inode, whatever became of the path: of its first mapping. */
  readonly link: string;
  /** Now; null: not known. */
  readonly sizeBytes: bigint | null;
  readonly sizeReason: string | null;
  readonly fileSystem: FileSystem | null;
};

export type FileSystem = {
  readonly type: string;
  readonly source: string;
  /** null: unmounted, and kept by those who have files of it open. */
  readonly mountPoint: string | null;
  /** null: a file system of this kernel alone. */
  readonly server: Server | null;
};

export type ServerProcess = { readonly pid: number; readonly name: string; readonly state: string };

export type Server =
  | {
      readonly kind: "fuse";
      /** Its name in /sys/fs/fuse/connections. */
      readonly connection: number;
      /** Requests that the server has not answered, before and after; null: not readable. */
      readonly waiting: { readonly before: number; readonly after: number } | null;
      /** Processes that hold /dev/fuse. */
      readonly processes: readonly ServerProcess[];
      /** They hold this connection (Linux 6.16 says so); else they are those that may. */
      readonly isExact: boolean;
      /** Every process could be looked at. */
      readonly isComplete: boolean;
    }
  /** NFS, CIFS, 9p, Ceph and the like: by a machine elsewhere. */
  | { readonly kind: "remote" }
  /** virtiofs: by the host of this machine. */
  | { readonly kind: "outside" };

export const PAGE_BYTES = 4096n;

export const mappedBytes = (file: GuestFile): bigint =>
  file.pieces.reduce((sum, { start, end }) => sum + (end - start), 0n);

/** `64 MiB`, or bytes where it is no round number. */
export function bytesText(bytes: bigint): string {
  const units = [
    { name: "GiB", size: 1n << 30n },
    { name: "MiB", size: 1n << 20n },
    { name: "KiB", size: 1n << 10n },
  ];
  const unit = units.find(({ size }) => bytes >= size && bytes % size === 0n);
  return unit === undefined ? `${bytes} bytes` : `${bytes / unit.size} ${unit.name}`;
}

/** ` for 12 s`; nothing where it is not known, or short. */
export const sinceText = (sleptMs: number | null): string =>
  sleptMs === null || sleptMs < 1000 ? "" : ` for ${Math.round(sleptMs / 1000)} s`;

/** `has waited for 12 s`, else `waits`. */
export function waitsText(sleptMs: number | null): string {
  const since = sinceText(sleptMs);
  return since === "" ? "waits" : `has waited${since}`;
}

/** Where the file's last page ends: what is mapped from there on is SIGBUS to the VMM, and no page to KVM. */
export const endOf = (sizeBytes: bigint): bigint => ((sizeBytes + PAGE_BYTES - 1n) / PAGE_BYTES) * PAGE_BYTES;

function larger(a: bigint, b: bigint): bigint {
  if (a > b) return a;
  return b;
}

/** How much of what is mapped lies behind the file's end; null: its size is not known. */
export function behindEndBytes(file: GuestFile): bigint | null {
  if (file.sizeBytes === null) return null;
  const end = endOf(file.sizeBytes);
  return file.pieces.reduce((sum, piece) => {
    const [from, to] = [piece.offset, piece.offset + (piece.end - piece.start)];
    return to <= end ? sum : sum + (to - larger(from, end));
  }, 0n);
}

/** The size that the file must have so that nothing mapped lies behind its end. */
export const wantedBytes = (file: GuestFile): bigint =>
  file.pieces.reduce((most, piece) => {
    const to = piece.offset + (piece.end - piece.start);
    return larger(to, most);
  }, 0n);

export type FilePlace = { readonly file: GuestFile; readonly offset: bigint; readonly isBehindEnd: boolean };

/** The file and the place in it that a host address of the VMM's belongs to. */
export function placeOf(files: readonly GuestFile[], hva: bigint): FilePlace | null {
  for (const file of files) {
    const piece = file.pieces.find(({ start, end }) => hva >= start && hva < end);
    if (piece === undefined) continue;
    const offset = piece.offset + (hva - piece.start);
    return { file, offset, isBehindEnd: file.sizeBytes !== null && offset >= endOf(file.sizeBytes) };
  }
  return null;
}
