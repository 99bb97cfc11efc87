/**
 * What the server offers at INIT, computed from the ports that are there: DAX if there is a window, pass-through if
 * there are backing files. No flag of the configuration can promise what is missing.
 */
import { INIT_FLAGS, initFlag, KERNEL_MINOR_VERSION, KERNEL_VERSION } from "../abi/constants.ts";
import { offsetsOf, sizeOf } from "../abi/layout.ts";
import type { StructView } from "../abi/struct-view.ts";
import { ProtocolError } from "./errors.ts";

const IN = offsetsOf("fuse_init_in");
const OUT = offsetsOf("fuse_init_out");
/** Linux 5.4: below, replies have other sizes and DAX does not exist. */
export const OLDEST_MINOR = 31;
export const MAX_WRITE_BYTES: number = 1024 * 1024;
const PAGE_BYTES = 4096;
/**
 * Requests that nobody waits for one by one (writes of a page cache, readahead) in the queue at once: each other request waits
 * behind so many, of MAX_WRITE_BYTES at most. The client's kernel has the same numbers where a server says none (inode.c).
 */
const MAX_BACKGROUND = 12;
const CONGESTION_THRESHOLD = 9;
const INIT_EXT = initFlag("FUSE_INIT_EXT");

export type Offer = {
  readonly writebackCache: boolean;
  readonly posixAcl: boolean;
  /** Directories on other devices are marked, so that the client's kernel gives each a device of its own. */
  readonly announceSubmounts: boolean;
  /** Files are read and written by requests, not through the client's page cache. */
  readonly directIo: boolean;
  /** log2 of the window's alignment, or null without a window. */
  readonly mapAlignmentLog2: number | null;
  readonly backingFiles: boolean;
  /** Requests by queues of io_uring, once the server has registered them (FUSE_OVER_IO_URING). */
  readonly ioUring?: boolean;
  /** Locks of ranges, and of whole files (flock(2)), are set on the source, not among the client's processes alone. */
  readonly posixLocks?: boolean;
  readonly flocks?: boolean;
  /** At most MAX_WRITE_BYTES, in whole pages. */
  readonly maxWriteBytes: number;
};

/** What both sides agreed on. Printed by every server, checked by the harness. */
export type Agreement = {
  readonly minor: number;
  readonly clientMinor: number;
  readonly flags: bigint;
  readonly flagNames: readonly string[];
  readonly maxWriteBytes: number;
};

function wanted(offer: Offer): bigint {
  const names = [
    "FUSE_ASYNC_READ",
    "FUSE_ATOMIC_O_TRUNC",
    "FUSE_BIG_WRITES",
    "FUSE_DONT_MASK",
    "FUSE_DO_READDIRPLUS",
    "FUSE_READDIRPLUS_AUTO",
    "FUSE_ASYNC_DIO",
    "FUSE_PARALLEL_DIROPS",
    // Set-user-id bits and capabilities go with the write itself: no GETXATTR before each.
    "FUSE_HANDLE_KILLPRIV_V2",
    "FUSE_ABORT_ERROR",
    "FUSE_MAX_PAGES",
    "FUSE_INIT_EXT",
    "FUSE_HAS_EXPIRE_ONLY",
    "FUSE_NO_EXPORT_SUPPORT",
  ];
  // Sizes that change behind the client's back must reach it, unless the client owns them.
  names.push(offer.writebackCache ? "FUSE_WRITEBACK_CACHE" : "FUSE_AUTO_INVAL_DATA");
  // The second: who sets an ACL may not be in the file's group, which takes its set-group-id bit away.
  if (offer.posixAcl) names.push("FUSE_POSIX_ACL", "FUSE_SETXATTR_EXT");
  // Offered by virtiofs alone: a kernel of /dev/fuse does not look at the mark (fuse_send_init()).
  if (offer.announceSubmounts) names.push("FUSE_SUBMOUNTS");
  // Mappings need pages all the same.
  if (offer.directIo) names.push("FUSE_DIRECT_IO_ALLOW_MMAP");
  if (offer.mapAlignmentLog2 !== null) names.push("FUSE_MAP_ALIGNMENT");
  if (offer.backingFiles && !offer.writebackCache) names.push("FUSE_PASSTHROUGH");
  if (offer.ioUring === true) names.push("FUSE_OVER_IO_URING");
  if (offer.posixLocks === true) names.push("FUSE_POSIX_LOCKS");
  if (offer.flocks === true) names.push("FUSE_FLOCK_LOCKS");
  return names.reduce((flags, name) => flags | initFlag(name), 0n);
}

function namesOf(flags: bigint): readonly string[] {
  return Object.entries(INIT_FLAGS)
    .filter(([, flag]) => (flags & flag) !== 0n)
    .map(([name]) => name.replace("FUSE_", ""));
}

export type InitReply =
  /** The client must ask again with our major version. */
  | { readonly kind: "retry"; readonly bodyBytes: number }
  | { readonly kind: "agreed"; readonly bodyBytes: number; readonly agreement: Agreement };

/** Negotiates and writes the fuse_init_out body at `at`. */
export function negotiate(
  args: StructView<"fuse_init_in">,
  offer: Offer,
  reply: DataView,
  at: number,
): InitReply {
  const { major, minor: clientMinor } = args;
  const bodyBytes = sizeOf("fuse_init_out");
  for (let i = 0; i < bodyBytes; i += 1) reply.setUint8(at + i, 0);
  reply.setUint32(at + OUT.major, KERNEL_VERSION, true);
  reply.setUint32(at + OUT.minor, KERNEL_MINOR_VERSION, true);
  if (major > KERNEL_VERSION) return { kind: "retry", bodyBytes };
  if (major < KERNEL_VERSION || clientMinor < OLDEST_MINOR) {
    throw new ProtocolError(`protocol ${major}.${clientMinor} is older than 7.${OLDEST_MINOR}`, "EPROTO");
  }
  const low = BigInt(args.flags);
  const extended = (low & INIT_EXT) !== 0n && args.view.byteLength >= IN.unused;
  const offered = extended ? low | (BigInt(args.flags2) << 32n) : low;
  const flags = offered & wanted(offer);
  const minor = Math.min(clientMinor, KERNEL_MINOR_VERSION);
  reply.setUint32(at + OUT.minor, minor, true);
  reply.setUint32(at + OUT.max_readahead, args.max_readahead, true);
  reply.setUint32(at + OUT.flags, Number(flags & 0xffff_ffffn), true);
  reply.setUint32(at + OUT.flags2, Number(flags >> 32n), true);
  reply.setUint16(at + OUT.max_background, MAX_BACKGROUND, true);
  reply.setUint16(at + OUT.congestion_threshold, CONGESTION_THRESHOLD, true);
  const big = (flags & initFlag("FUSE_MAX_PAGES")) !== 0n;
  const maxWriteBytes = big ? offer.maxWriteBytes : 32 * PAGE_BYTES;
  reply.setUint32(at + OUT.max_write, maxWriteBytes, true);
  reply.setUint16(at + OUT.max_pages, big ? offer.maxWriteBytes / PAGE_BYTES : 0, true);
  reply.setUint32(at + OUT.time_gran, 1, true);
  if ((flags & initFlag("FUSE_MAP_ALIGNMENT")) !== 0n) {
    reply.setUint16(at + OUT.map_alignment, offer.mapAlignmentLog2 ?? 0, true);
  }
  // One level: our source must not be a stacked file system itself.
  if ((flags & initFlag("FUSE_PASSTHROUGH")) !== 0n) reply.setUint32(at + OUT.max_stack_depth, 1, true);
  const agreement = { minor, clientMinor, flags, flagNames: namesOf(flags), maxWriteBytes };
  return { kind: "agreed", bodyBytes, agreement };
}
