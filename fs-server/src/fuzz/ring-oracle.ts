/**
 * The rings of a guest read a second time, as plainly as the specification has them (virtio 1.2, 2.7), to compare with
 * what the device makes of them. Shares no code with the device; slow.
 */
import { copyFrom } from "../../../sys/src/index.ts";
import type { GuestRegion, GuestSpan } from "../transport/virtio/memory.ts";
import type { Chain, RingLayout } from "../transport/virtio/queue.ts";

/** A range of host memory: offsets into the RAM's buffer, or addresses of a window. */
export type Extent = { readonly kind: "ram" | "window"; readonly from: bigint; readonly to: bigint };

export type ExpectedChain = {
  readonly head: number;
  readonly readable: readonly Extent[];
  readonly writable: readonly Extent[];
};

export class RingOracle {
  readonly #regions: readonly GuestRegion[];
  readonly #layout: RingLayout;

  constructor(regions: readonly GuestRegion[], layout: RingLayout) {
    this.#regions = regions;
    this.#layout = layout;
  }

  /** Whether a queue that may have `largest` entries may lie there. */
  isPlaced(largest: number): boolean {
    const { size, descriptors, available, used } = this.#layout;
    if (size > largest || ![1, 2, 4, 8, 16, 32, 64].includes(size)) return false;
    if (descriptors % 16n !== 0n || available % 2n !== 0n || used % 4n !== 0n) return false;
    return (
      this.#isOneRam(descriptors, 16n * BigInt(size)) &&
      this.#isOneRam(available, 4n + 2n * BigInt(size)) &&
      this.#isOneRam(used, 4n + 8n * BigInt(size))
    );
  }

  /** How far the guest is ahead of `next`. */
  waiting(next: number): number {
    return (Number(this.#number(this.#layout.available + 2n, 2)) - next + 65_536) % 65_536;
  }

  /** The chain at `next`, or null: a fault. */
  chain(next: number): ExpectedChain | null {
    const { size, available } = this.#layout;
    if (this.waiting(next) > size) return null;
    const head = Number(this.#number(available + 4n + 2n * BigInt(next % size), 2));
    const buffers = this.#buffers(head);
    if (buffers === null) return null;
    const firstWritable = buffers.findIndex(({ isWritable }) => isWritable);
    const split = firstWritable < 0 ? buffers.length : firstWritable;
    if (buffers.slice(split).some(({ isWritable }) => !isWritable)) return null;
    if (buffers.reduce((sum, { length }) => sum + length, 0n) > 2n ** 32n) return null;
    const extents = buffers.map(({ gpa, length }) => (length === 0n ? null : this.extents(gpa, length)));
    if (extents.includes(null)) return null;
    const present = extents.map((each) => each ?? []);
    return {
      head,
      readable: joined(present.slice(0, split).flat()),
      writable: joined(present.slice(split).flat()),
    };
  }

  /** Where the device gives a chain back, and that it may write there. */
  usedEntry(index: number): { readonly id: number; readonly length: number; readonly extents: Extent[] } {
    const { size, used } = this.#layout;
    const entry = used + 4n + 8n * BigInt(index % size);
    return {
      id: Number(this.#number(entry, 4)),
      length: Number(this.#number(entry + 4n, 4)),
      extents: [...(this.extents(entry, 8n) ?? []), ...(this.extents(used + 2n, 2n) ?? [])],
    };
  }

  usedIndex(): number {
    return Number(this.#number(this.#layout.used + 2n, 2));
  }

  /** Host memory behind guest addresses, or null if a byte of it is nobody's. */
  extents(gpa: bigint, length: bigint): Extent[] | null {
    const extents: Extent[] = [];
    for (let at = gpa; at < gpa + length; ) {
      const region = this.#regions.find((each) => each.gpa <= at && at < each.gpa + lengthOf(each));
      if (region === undefined) return null;
      const end = min(gpa + length, region.gpa + lengthOf(region));
      const host = region.kind === "ram" ? BigInt(region.bytes.byteOffset) : region.address;
      const from = host + at - region.gpa;
      extents.push({ kind: region.kind, from, to: from + end - at });
      at = end;
    }
    return extents;
  }

  #isOneRam(gpa: bigint, length: bigint): boolean {
    return this.#regions.some(
      (region) => region.kind === "ram" && region.gpa <= gpa && gpa + length <= region.gpa + lengthOf(region),
    );
  }

  #number(gpa: bigint, bytes: number): bigint {
    let digits = "0x";
    for (let i = bytes - 1; i >= 0; i -= 1) {
      const byte = this.#byte(gpa + BigInt(i));
      if (byte === null) throw new Error(`nothing at 0x${gpa.toString(16)}`);
      digits += byte.toString(16).padStart(2, "0");
    }
    return BigInt(digits);
  }

  /** null: nobody's, or of a page of the window that is not there. */
  #byte(gpa: bigint): number | null {
    const region = this.#regions.find((each) => each.gpa <= gpa && gpa < each.gpa + lengthOf(each));
    if (region === undefined) return null;
    if (region.kind === "ram") return region.bytes[Number(gpa - region.gpa)] ?? 0;
    const byte = new Uint8Array(1);
    return copyFrom(region.address + (gpa - region.gpa), byte) === 0 ? (byte[0] ?? 0) : null;
  }

  #isThere(gpa: bigint, length: bigint): boolean {
    for (let at = gpa; at < gpa + length; at += 1n) if (this.#byte(at) === null) return false;
    return true;
  }

  /** The buffers of a chain in their order, or null if its descriptors are against the rules. */
  #buffers(head: number): { gpa: bigint; length: bigint; isWritable: boolean }[] | null {
    const { size, descriptors } = this.#layout;
    const buffers: { gpa: bigint; length: bigint; isWritable: boolean }[] = [];
    let table = { at: descriptors, entries: BigInt(size), depth: 0 };
    let index = BigInt(head);
    while (buffers.length < size) {
      if (index >= table.entries) return null;
      const at = table.at + 16n * index;
      const [gpa, length] = [this.#number(at, 8), this.#number(at + 8n, 4)];
      const [flags, next] = [Number(this.#number(at + 12n, 2)), this.#number(at + 14n, 2)];
      if (flags & 4) {
        const isTable = table.depth === 0 && !(flags & 1) && length % 16n === 0n && length > 0n;
        if (!isTable || length / 16n > BigInt(size) || !this.#isThere(gpa, length)) return null;
        table = { at: gpa, entries: length / 16n, depth: 1 };
        index = 0n;
        continue;
      }
      buffers.push({ gpa, length, isWritable: (flags & 2) !== 0 });
      if (!(flags & 1)) return buffers;
      index = next;
    }
    return null;
  }
}

function lengthOf(region: GuestRegion): bigint {
  return region.kind === "ram" ? BigInt(region.bytes.length) : region.lengthBytes;
}

function min(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}

/** Extents that continue each other are one. */
function joined(extents: readonly Extent[]): Extent[] {
  const result: Extent[] = [];
  for (const extent of extents) {
    const last = result.at(-1);
    if (last !== undefined && last.kind === extent.kind && last.to === extent.from) {
      result[result.length - 1] = { ...last, to: extent.to };
    } else result.push(extent);
  }
  return result;
}

/** The spans of a device's chain as extents. */
export function extentsOf(spans: readonly GuestSpan[]): Extent[] {
  return joined(
    spans.map((span) => {
      const from = span.kind === "ram" ? BigInt(span.bytes.byteOffset) : span.address;
      const length = span.kind === "ram" ? span.bytes.length : span.lengthBytes;
      return { kind: span.kind, from, to: from + BigInt(length) };
    }),
  );
}

/** How a chain differs from the expected one, or null. */
export function difference(chain: Chain, expected: ExpectedChain): string | null {
  const text = (extents: readonly Extent[]): string =>
    extents.map(({ kind, from, to }) => `${kind} ${from.toString(16)}-${to.toString(16)}`).join(" ");
  const seen = `${chain.head}: ${text(extentsOf(chain.readable))} | ${text(extentsOf(chain.writable))}`;
  const wanted = `${expected.head}: ${text(expected.readable)} | ${text(expected.writable)}`;
  return seen === wanted ? null : `the device has chain ${seen}, the rings have ${wanted}`;
}
