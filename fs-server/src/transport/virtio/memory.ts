/**
 * The guest's memory as a device sees it: regions by guest physical address, and checked translation to host memory.
 *
 * Two kinds of region. `ram` belongs to the guest alone and is always there: the device loads and stores in it. `window`
 * is where files of the host are mapped (a DAX window of any device, a pmem device): a page of it may vanish at any time, and a
 * load of ours would then be a SIGBUS. No view of it is ever made: its bytes move by system calls that return EFAULT.
 */
import { type Address, copyFrom, copyTo } from "../../../../sys/src/index.ts";

export type GuestRegion =
  | { readonly kind: "ram"; readonly gpa: bigint; readonly bytes: Uint8Array }
  | {
      readonly kind: "window";
      readonly gpa: bigint;
      /** Host virtual address of the first byte. */
      readonly address: Address;
      readonly lengthBytes: bigint;
    };

/** A piece of guest memory that lies inside one region. */
export type GuestSpan =
  | { readonly kind: "ram"; readonly bytes: Uint8Array }
  | { readonly kind: "window"; readonly address: Address; readonly lengthBytes: number };

type Placed = { readonly region: GuestRegion; readonly start: bigint; readonly end: bigint };

/** Descriptor tables are aligned to 16 bytes in guest memory (virtio 1.2, 2.7), and are read through aligned views. */
const HOST_ALIGNMENT = 16;
const ADDRESS_SPACE = 2n ** 64n;

export function lengthOf(span: GuestSpan): number {
  return span.kind === "ram" ? span.bytes.length : span.lengthBytes;
}

export class GuestMemory {
  /** By address; disjoint. */
  readonly #placed: readonly Placed[];

  /** Throws a RangeError if regions overlap, are empty, or end behind 2^64. */
  constructor(regions: readonly GuestRegion[]) {
    this.#placed = regions
      .map((region) => {
        const length = region.kind === "ram" ? BigInt(region.bytes.length) : region.lengthBytes;
        return { region, start: region.gpa, end: region.gpa + length };
      })
      .toSorted((a, b) => (a.start < b.start ? -1 : 1));
    let free = 0n;
    for (const { region, start, end } of this.#placed) {
      const place = `guest memory region at 0x${start.toString(16)}`;
      if (end <= start || end > ADDRESS_SPACE) throw new RangeError(`${place} ends at 0x${end.toString(16)}`);
      if (start < free) throw new RangeError(`${place} overlaps the one below it`);
      if (region.kind === "ram" && region.bytes.byteOffset % HOST_ALIGNMENT !== Number(start % 16n)) {
        throw new RangeError(`${place} is aligned differently in host memory`);
      }
      free = end;
    }
  }

  /**
   * The host's view of `lengthBytes` from `gpa` on: one span, or more where regions adjoin. null: a byte of it is outside
   * every region. The end is a bigint, so no sum of the guest's wraps.
   */
  spans(gpa: bigint, lengthBytes: number): GuestSpan[] | null {
    const end = gpa + BigInt(lengthBytes);
    const spans: GuestSpan[] = [];
    let at = gpa;
    for (const placed of this.#placed) {
      if (at >= end) break;
      if (placed.end <= at) continue;
      if (placed.start > at) return null;
      const take = Number((placed.end < end ? placed.end : end) - at);
      spans.push(part(placed.region, at - placed.start, take));
      at += BigInt(take);
    }
    return at >= end ? spans : null;
  }

  /** The same where a view is needed: rings. null also where it is in a window or in two regions. */
  view(gpa: bigint, lengthBytes: number): Uint8Array | null {
    const [only, ...more] = this.spans(gpa, lengthBytes) ?? [];
    return only?.kind === "ram" && more.length === 0 ? only.bytes : null;
  }

  /** A copy of it, wherever it lies. null: a byte of it is outside every region, or a page of a window is not there. */
  copy(gpa: bigint, lengthBytes: number): Uint8Array | null {
    const spans = this.spans(gpa, lengthBytes);
    const bytes = new Uint8Array(spans === null ? 0 : lengthBytes);
    return spans !== null && copyIn(spans, bytes) ? bytes : null;
  }
}

function part(region: GuestRegion, offset: bigint, lengthBytes: number): GuestSpan {
  if (region.kind === "window") return { kind: "window", address: region.address + offset, lengthBytes };
  const from = Number(offset);
  return { kind: "ram", bytes: region.bytes.subarray(from, from + lengthBytes) };
}

/** Adds a span to a list; one that continues the last in host memory extends it, so that fewer calls move more. */
export function append(spans: GuestSpan[], span: GuestSpan): void {
  const last = spans.at(-1);
  if (last?.kind === "ram" && span.kind === "ram" && last.bytes.buffer === span.bytes.buffer) {
    const { buffer, byteOffset, length } = last.bytes;
    if (byteOffset + length === span.bytes.byteOffset) {
      const bytes = new Uint8Array(buffer, byteOffset, length + span.bytes.length);
      spans[spans.length - 1] = { kind: "ram", bytes };
      return;
    }
  }
  spans.push(span);
}

/** The parts of `spans` that hold `lengthBytes` from `start` on; fewer where the spans end. */
export function slicesOf(spans: readonly GuestSpan[], start: number, lengthBytes: number): GuestSpan[] {
  const slices: GuestSpan[] = [];
  let skip = start;
  let left = lengthBytes;
  for (const span of spans) {
    if (left === 0) break;
    const length = lengthOf(span);
    const from = Math.min(skip, length);
    skip -= from;
    const take = Math.min(length - from, left);
    if (take > 0) slices.push(sliceOf(span, from, take));
    left -= take;
  }
  return slices;
}

function sliceOf(span: GuestSpan, from: number, lengthBytes: number): GuestSpan {
  if (from === 0 && lengthBytes === lengthOf(span)) return span;
  return span.kind === "ram"
    ? { kind: "ram", bytes: span.bytes.subarray(from, from + lengthBytes) }
    : { kind: "window", address: span.address + BigInt(from), lengthBytes };
}

/** Copies guest memory into ours, until either ends. Returns false if a page of a window is not there. */
export function copyIn(spans: readonly GuestSpan[], into: Uint8Array): boolean {
  return eachPiece(spans, into, (span, ours) => {
    if (span.kind === "window") return copyFrom(span.address, ours) === 0;
    ours.set(span.bytes.subarray(0, ours.length));
    return true;
  });
}

/** Copies our memory into the guest's, until either ends. Returns false if a page of a window is not there. */
export function copyOut(spans: readonly GuestSpan[], from: Uint8Array): boolean {
  return eachPiece(spans, from, (span, ours) => {
    if (span.kind === "window") return copyTo(span.address, ours) === 0;
    span.bytes.set(ours);
    return true;
  });
}

function eachPiece(
  spans: readonly GuestSpan[],
  ours: Uint8Array,
  move: (span: GuestSpan, piece: Uint8Array) => boolean,
): boolean {
  let at = 0;
  for (const span of spans) {
    if (at === ours.length) break;
    const end = Math.min(ours.length, at + lengthOf(span));
    if (!move(span, ours.subarray(at, end))) return false;
    at = end;
  }
  return true;
}
