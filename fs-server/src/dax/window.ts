/**
 * The DAX window: address space that the guest sees and that files are mapped into.
 *
 * The owner of the guest's memory owns the window (the vmm, a vhost-user front-end); the server only requests mappings.
 * `checkedRange` is the only place of the repository that adds a client's offset and length, and a `WindowRange`
 * is the only thing that a window accepts: an unchecked sum cannot be passed.
 */
import { failure } from "../fs/errors.ts";

/** A non-empty, aligned range that lies inside the window it was checked against. */
export type WindowRange = {
  readonly offsetBytes: bigint;
  readonly lengthBytes: bigint;
  readonly __brand: "WindowRange";
};

/** What the owner of a window can do. */
export type WindowFacts = {
  readonly sizeBytes: bigint;
  /** Power of two; mapped ranges and file offsets are multiples of it. */
  readonly alignmentBytes: bigint;
  /** A mapping may reach past the end of its file, as mmap(2) allows. QEMU refuses it (qemu_ram_alloc_from_fd()). */
  readonly canMapPastEnd: boolean;
  /**
   * The second request for a range, now for writing: the owner maps it anew in one step; or every mapping of its is writable from
   * the start, and nothing is left to do.
   */
  readonly upgrades: "remap" | "always-writable";
};

export interface DaxWindow extends WindowFacts {
  /**
   * Makes `fd` from `fileOffset` on appear in `range`, replacing what was there.
   * The descriptor is only lent: map, do not keep it. All or nothing; throws a FileSystemError.
   */
  map(range: WindowRange, fd: number, fileOffset: bigint, options: { readonly writable: boolean }): void;
  /** Makes `range` inaccessible again. All or nothing; throws a FileSystemError. */
  unmap(range: WindowRange): void;
}

/**
 * The only adder of offset and length. Throws a RangeFault that names value and limit unless both are
 * multiples of `alignmentBytes`, the length is not zero, and the end is inside the window.
 */
export function checkedRange(
  offsetBytes: bigint,
  lengthBytes: bigint,
  windowSizeBytes: bigint,
  alignmentBytes: bigint,
): WindowRange {
  const wrong = rangeFault(offsetBytes, lengthBytes, windowSizeBytes, alignmentBytes);
  if (wrong !== null) throw new RangeFault(wrong);
  return { offsetBytes, lengthBytes } as WindowRange;
}

/** A range that is not one. Answered as EINVAL; the message names the value and the limit. */
export class RangeFault extends Error {
  override readonly name = "RangeFault";
}

function rangeFault(offset: bigint, length: bigint, size: bigint, alignment: bigint): string | null {
  if (alignment <= 0n) return `window alignment ${alignment} is not positive`;
  if (offset < 0n) return `window offset ${offset} is negative`;
  if (length <= 0n) return `length ${length} is not positive`;
  if (offset % alignment !== 0n) return `window offset ${offset} is not a multiple of ${alignment}`;
  if (length % alignment !== 0n) return `length ${length} is not a multiple of ${alignment}`;
  const end = offset + length;
  if (end > size) return `range ${offset} + ${length} ends at ${end}, past the window of ${size} bytes`;
  return null;
}

/** `RangeFault` becomes the errno of a reply; everything else passes. */
export function answeringRangeFaults<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof RangeFault) throw failure("EINVAL");
    throw error;
  }
}

/** Whether two checked ranges share a byte. */
export function overlaps(a: WindowRange, b: WindowRange): boolean {
  return a.offsetBytes < b.offsetBytes + b.lengthBytes && b.offsetBytes < a.offsetBytes + a.lengthBytes;
}
