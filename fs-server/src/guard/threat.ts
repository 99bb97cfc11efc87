/** What a permission event of FAN_CLASS_PRE_CONTENT is about to do to a file. Pure. */
import { type BlockedCall, FAN_OPEN_PERM, type FanotifyEvent, files } from "../../../sys/src/index.ts";

/** fallocate modes that make a file shorter, or move what is in it: COLLAPSE_RANGE, INSERT_RANGE. */
const MOVING_MODES = 0x08 | 0x20;

/** The first byte that the blocked operation may remove; null: none. */
export function threatOf(event: FanotifyEvent, call: BlockedCall, sizeBytes: bigint): bigint | null {
  if ((event.mask & FAN_OPEN_PERM) !== 0) {
    // open(O_TRUNC) is the one truncation that sends no event with a range.
    if (call.kind === "open") return (call.flags & files.O_TRUNC) !== 0 ? 0n : null;
    // io_uring leaves an open(O_TRUNC) to its workers (io_openat_force_async()), and some opens that are none.
    return call.kind === "unknown" || call.kind === "worker" ? 0n : null;
  }
  const { range } = event;
  // Growing loses nothing.
  if (call.kind === "truncate") return call.sizeBytes < sizeBytes ? call.sizeBytes : null;
  if (range === null) return 0n;
  // A truncation has the new size as offset and no length; but ranges are rounded to pages, so a size inside a page looks
  // like a write. The thread's registers are therefore checked first.
  if (range.lengthBytes === 0n) return range.offset < sizeBytes ? range.offset : null;
  if (call.kind === "fallocate") return (call.mode & MOVING_MODES) !== 0 ? range.offset : null;
  if (call.kind === "worker")
    return call.does === "transfer" || range.offset >= sizeBytes ? null : range.offset;
  return call.kind === "unknown" ? range.offset : null;
}

/** Of stat(2): names an inode. */
export function fileKey({ dev, ino }: { readonly dev: bigint; readonly ino: bigint }): string {
  return `${dev}/${ino}`;
}
