/**
 * The device's side of a split virtqueue (virtio 1.2, 2.7) in guest memory.
 *
 * Everything in the rings is the guest's and may change while it is read: each field is read once, then checked, and only
 * what was checked is used. A ring that breaks the specification is a RingFault: the chain is not served, and the
 * device needs a reset (2.1.2).
 *
 * Order against the guest's vCPUs. The index of the available ring is loaded before the entries that it covers; entries of
 * the used ring, and all content of a reply, are stored before the index that publishes them, and that before the
 * guest's flags are looked at. ECMAScript orders only a SharedArrayBuffer's memory, which a mapping cannot be. Relied on
 * is what V8 does for any typed array: Atomics.load and .store are calls that its compilers move nothing across, and are
 * sequentially consistent instructions (on x86-64 a plain load and XCHG, on arm64 LDAR and STLR). x86-64 itself keeps loads
 * in order and stores in order, and XCHG keeps later loads behind earlier stores.
 *
 * VIRTIO_F_EVENT_IDX, VIRTIO_F_RING_PACKED, VIRTIO_F_IN_ORDER and VIRTIO_F_RING_RESET are not offered.
 */
import { append, type GuestMemory, type GuestSpan, lengthOf } from "./memory.ts";

export const DESCRIPTOR_BYTES = 16;
export const VIRTQ_DESC_F_NEXT = 1;
export const VIRTQ_DESC_F_WRITE = 2;
export const VIRTQ_DESC_F_INDIRECT = 4;
const VIRTQ_AVAIL_F_NO_INTERRUPT = 1;
/** Feature bits (6). */
export const VIRTIO_F_INDIRECT_DESC: bigint = 1n << 28n;
export const VIRTIO_F_VERSION_1: bigint = 1n << 32n;
export const MAX_QUEUE_SIZE = 32_768;
/** Longest chain in bytes (2.7.5.1). */
const MAX_CHAIN_BYTES = 2 ** 32;

/** Where the driver has put a queue. Addresses are the guest's. */
export type RingLayout = {
  /** Entries; a power of two. */
  readonly size: number;
  readonly descriptors: bigint;
  readonly available: bigint;
  readonly used: bigint;
};

/**
 * How far a device is: index of the next chain to take, and of the next entry of the used ring; both count modulo 2^16. Kept
 * apart from the queue where several threads serve it, each by a SplitQueue of its own, one at a time.
 */
export interface RingPosition {
  next: number;
  used: number;
}

/** The guest broke a rule of the rings. */
export class RingFault extends Error {
  override readonly name = "RingFault";
}

/** A request: what the driver lets the device read, and what it lets it write. */
export type Chain = {
  /** Index of the first descriptor, by which it is given back. */
  readonly head: number;
  readonly readable: readonly GuestSpan[];
  readonly readableBytes: number;
  readonly writable: readonly GuestSpan[];
  readonly writableBytes: number;
};

/** Indices of 16-bit words: flags and index come first in both rings. */
const FLAGS = 0;
const INDEX = 1;
const RING = 2;
/** The used ring's entries are two 32-bit words each, after flags and index. */
const USED_RING = 1;

type Table = { readonly view: DataView; readonly entries: number; readonly isIndirect: boolean };

export class SplitQueue {
  readonly size: number;
  readonly #memory: GuestMemory;
  readonly #descriptors: Table;
  readonly #available: Uint16Array;
  readonly #usedWords: Uint16Array;
  readonly #usedEntries: Uint32Array;
  readonly #allowsIndirect: boolean;
  readonly #position: RingPosition;

  /** Throws a RingFault if the rings are not aligned RAM of the guest. */
  constructor(
    memory: GuestMemory,
    layout: RingLayout,
    options: { readonly indirect: boolean; readonly position?: RingPosition },
  ) {
    const { size } = layout;
    if (size < 1 || size > MAX_QUEUE_SIZE || (size & (size - 1)) !== 0) {
      throw new RingFault(`queue size ${size} is not a power of two up to ${MAX_QUEUE_SIZE}`);
    }
    this.size = size;
    this.#memory = memory;
    this.#allowsIndirect = options.indirect;
    this.#position = options.position ?? { next: 0, used: 0 };
    const descriptors = ringMemory(memory, "descriptor table", layout.descriptors, {
      lengthBytes: DESCRIPTOR_BYTES * size,
      alignment: 16n,
    });
    this.#descriptors = { view: dataView(descriptors), entries: size, isIndirect: false };
    // Each ring ends with a word for VIRTIO_F_EVENT_IDX, which is the driver's to leave out where that is not offered.
    const available = ringMemory(memory, "available ring", layout.available, {
      lengthBytes: 4 + 2 * size,
      alignment: 2n,
    });
    this.#available = new Uint16Array(available.buffer, available.byteOffset, RING + size);
    const used = ringMemory(memory, "used ring", layout.used, { lengthBytes: 4 + 8 * size, alignment: 4n });
    this.#usedWords = new Uint16Array(used.buffer, used.byteOffset, RING);
    this.#usedEntries = new Uint32Array(used.buffer, used.byteOffset, USED_RING + 2 * size);
  }

  /** Takes the next chain, or null if there is none. Throws a RingFault. */
  pop(): Chain | null {
    const { next } = this.#position;
    const waiting = (Atomics.load(this.#available, INDEX) - next) & 0xffff;
    if (waiting === 0) return null;
    if (waiting > this.size) {
      throw new RingFault(`${waiting} chains are available in a queue of ${this.size}`);
    }
    const head = this.#available[RING + (next & (this.size - 1))] ?? 0;
    this.#position.next = (next + 1) & 0xffff;
    return this.#walk(head);
  }

  /** Whether `pop` would find something. */
  hasMore(): boolean {
    return Atomics.load(this.#available, INDEX) !== this.#position.next;
  }

  /** Gives a chain back with the bytes that were written into it. */
  push(head: number, usedBytes: number): void {
    const { used } = this.#position;
    const entry = USED_RING + 2 * (used & (this.size - 1));
    this.#usedEntries[entry] = head;
    this.#usedEntries[entry + 1] = usedBytes;
    this.#position.used = (used + 1) & 0xffff;
    Atomics.store(this.#usedWords, INDEX, (used + 1) & 0xffff);
  }

  /** Whether the driver wants an interrupt for what was given back (2.7.7). */
  wantsInterrupt(): boolean {
    return (Atomics.load(this.#available, FLAGS) & VIRTQ_AVAIL_F_NO_INTERRUPT) === 0;
  }

  /** Bounded: a chain is no longer than the queue (2.7.5.3.1), so one that leads back into itself is a fault. */
  #walk(head: number): Chain {
    const chain = new Building(this.#memory);
    let table = this.#descriptors;
    let index = head;
    for (let left = this.size; left > 0; left -= 1) {
      if (index >= table.entries) {
        throw new RingFault(`descriptor ${index} of a table of ${table.entries}`);
      }
      const at = index * DESCRIPTOR_BYTES;
      const address = table.view.getBigUint64(at, true);
      const lengthBytes = table.view.getUint32(at + 8, true);
      const flags = table.view.getUint16(at + 12, true);
      index = table.view.getUint16(at + 14, true);
      if ((flags & VIRTQ_DESC_F_INDIRECT) !== 0) {
        table = this.#indirectTable(table, { address, lengthBytes, flags });
        index = 0;
        // It stands for the chain in its table and is no buffer itself. Happens once.
        left += 1;
        continue;
      }
      chain.add(address, lengthBytes, (flags & VIRTQ_DESC_F_WRITE) !== 0);
      if ((flags & VIRTQ_DESC_F_NEXT) === 0) return chain.finished(head);
    }
    throw new RingFault(`the chain at descriptor ${head} is longer than the queue of ${this.size}`);
  }

  /** 2.7.5.3: the last descriptor of a chain may be one, those of its table may not. */
  #indirectTable(
    from: Table,
    { address, lengthBytes, flags }: { address: bigint; lengthBytes: number; flags: number },
  ): Table {
    if (!this.#allowsIndirect) throw new RingFault("an indirect descriptor, which was not negotiated");
    if (from.isIndirect) throw new RingFault("an indirect descriptor in an indirect table");
    if ((flags & VIRTQ_DESC_F_NEXT) !== 0) throw new RingFault("an indirect descriptor with a next one");
    const entries = lengthBytes / DESCRIPTOR_BYTES;
    if (!Number.isInteger(entries) || entries < 1 || entries > this.size) {
      throw new RingFault(`an indirect table of ${lengthBytes} bytes in a queue of ${this.size}`);
    }
    const bytes = this.#memory.view(address, lengthBytes) ?? this.#memory.copy(address, lengthBytes);
    if (bytes === null) {
      throw new RingFault(`an indirect table at 0x${address.toString(16)} that is not in guest memory`);
    }
    return { view: dataView(bytes), entries, isIndirect: true };
  }
}

/** A chain of which descriptors are added one by one. */
class Building {
  readonly #memory: GuestMemory;
  readonly #readable: GuestSpan[] = [];
  readonly #writable: GuestSpan[] = [];
  #totalBytes = 0;

  constructor(memory: GuestMemory) {
    this.#memory = memory;
  }

  add(address: bigint, lengthBytes: number, isWritable: boolean): void {
    if (lengthBytes === 0) throw new RingFault("a descriptor of 0 bytes");
    if (!isWritable && this.#writable.length > 0) {
      throw new RingFault("a readable descriptor after a writable one");
    }
    this.#totalBytes += lengthBytes;
    if (this.#totalBytes > MAX_CHAIN_BYTES) throw new RingFault("a chain of more than 2^32 bytes");
    const spans = this.#memory.spans(address, lengthBytes);
    if (spans === null) {
      throw new RingFault(
        `a buffer of ${lengthBytes} bytes at 0x${address.toString(16)}, outside guest memory`,
      );
    }
    const list = isWritable ? this.#writable : this.#readable;
    for (const span of spans) append(list, span);
  }

  finished(head: number): Chain {
    const [readable, writable] = [this.#readable, this.#writable];
    return { head, readable, readableBytes: sum(readable), writable, writableBytes: sum(writable) };
  }
}

function sum(spans: readonly GuestSpan[]): number {
  return spans.reduce((bytes, span) => bytes + lengthOf(span), 0);
}

function dataView(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}

function ringMemory(
  memory: GuestMemory,
  what: string,
  gpa: bigint,
  { lengthBytes, alignment }: { readonly lengthBytes: number; readonly alignment: bigint },
): Uint8Array {
  const place = `${what} at 0x${gpa.toString(16)}`;
  if (gpa % alignment !== 0n) throw new RingFault(`${place} is not aligned to ${alignment} bytes`);
  const bytes = memory.view(gpa, lengthBytes);
  if (bytes === null) throw new RingFault(`${place}, ${lengthBytes} bytes, is not in guest RAM`);
  return bytes;
}
