/**
 * Rings and chains of a hostile driver, mostly right, with one thing wrong. Writes guest memory; reads how many came back.
 * Deterministic: the same random numbers give the same bytes.
 */
import type { GuestRegion } from "../transport/virtio/memory.ts";
import {
  DESCRIPTOR_BYTES,
  VIRTQ_DESC_F_INDIRECT as INDIRECT,
  VIRTQ_DESC_F_NEXT as NEXT,
  type RingLayout,
  VIRTQ_DESC_F_WRITE as WRITE,
} from "../transport/virtio/queue.ts";
import type { Random } from "./generate.ts";

/** Where a queue lies, and how much was offered there. */
export type RingPlace = RingLayout & { index: number };

type Descriptor = { gpa: bigint; length: number; flags: number; next: number };

/** Rings lie below, then tables; buffers above. */
const RING_BYTES = 1024n;
const TABLES = 0x2000n;
const DATA = 0x3000n;
const DATA_BYTES = 0x9000;
/** Of a DAX window, or of another file of the host's. */
export const WINDOW: bigint = 2n ** 33n;
const HIGH = 2n ** 32n + 4096n;

const NASTY_ADDRESSES: readonly bigint[] = [
  0n,
  2n ** 64n - 1n,
  2n ** 64n - 16n,
  2n ** 63n,
  2n ** 40n,
  // One byte before ends and seams: of regions, of the window, of its page that is there.
  32_767n,
  49_151n,
  HIGH - 1n,
  HIGH + 16_383n,
  WINDOW - 1n,
  WINDOW + 4095n,
  WINDOW + 16_383n,
  WINDOW,
];
const NASTY_LENGTHS: readonly number[] = [0, 1, 15, 17, 4097, 65_537, 2 ** 31, 2 ** 32 - 1, 2 ** 32 - 16];

/** Of 16 entries at most. */
export class HostileRings {
  readonly #regions: readonly GuestRegion[];
  readonly #random: Random;
  #nextTable = 0n;

  constructor(regions: readonly GuestRegion[], random: Random) {
    this.#regions = regions;
    this.#random = random;
  }

  /** A place for a queue; now and then one that is not allowed. */
  place(queue: number, largest: number): RingPlace {
    const random = this.#random;
    const base = BigInt(queue) * RING_BYTES * 2n;
    const place = {
      size: random.pick([largest, largest, largest / 2, 2, 1]),
      descriptors: base,
      available: base + 512n,
      used: base + RING_BYTES,
      index: 0,
    };
    if (random.below(20) === 0) {
      const field = random.pick(["descriptors", "available", "used"] as const);
      place[field] =
        random.below(3) === 0 ? place[field] + BigInt(random.below(16)) : random.pick(NASTY_ADDRESSES);
    }
    if (random.below(60) === 0) place.size = random.pick([0, 3, largest * 2]);
    return place;
  }

  /** Empty rings. */
  clear(place: RingPlace): void {
    for (const gpa of [place.available, place.used]) this.#store(gpa, new Uint8Array(4));
    place.index = 0;
  }

  /** How many chains came back, modulo 2^16. */
  usedIndex({ used }: RingPlace): number {
    const region = this.#regions.find(
      (each) => each.kind === "ram" && used >= each.gpa && used + 4n <= each.gpa + BigInt(each.bytes.length),
    );
    if (region?.kind !== "ram") return -1;
    const at = Number(used - region.gpa) + 2;
    return (region.bytes[at] ?? 0) | ((region.bytes[at + 1] ?? 0) << 8);
  }

  /** One chain with nothing wrong. */
  offerPlain(place: RingPlace, message: Uint8Array): void {
    const table = this.#table();
    this.#store(DATA, message);
    this.#write(table, 0, { gpa: DATA, length: message.length, flags: NEXT, next: 1 });
    this.#write(table, 1, { gpa: DATA + 4096n, length: 4096, flags: WRITE, next: 0 });
    const entries = place.size >= 2 ? 2 : 1;
    const length = DESCRIPTOR_BYTES * entries;
    this.#write(place.descriptors, 0, { gpa: table, length, flags: INDIRECT, next: 0 });
    this.#publish(place, 0);
  }

  /** One chain that carries a message, or seems to. */
  offer(place: RingPlace, message: Uint8Array): void {
    const random = this.#random;
    const isSpoiled = random.below(3) === 0;
    const chain = this.#chain(message);
    if (isSpoiled) this.#spoil(chain);
    // Longer than the queue, now and then.
    const direct = random.below(2) === 0 ? chain.length : random.below(chain.length + 1);
    const first = random.below(Math.max(1, place.size));
    const head = isSpoiled && random.below(12) === 0 ? random.pick([place.size, 65_535]) : first;
    const at = (i: number): number => (first + i) % Math.max(1, place.size);
    for (const [i, descriptor] of chain.slice(0, direct).entries()) {
      const next = (descriptor.flags & NEXT) !== 0 && descriptor.next === i + 1 ? at(i + 1) : descriptor.next;
      this.#write(place.descriptors, at(i), { ...descriptor, next });
    }
    const rest = chain.slice(direct).map((each) => ({ ...each, next: each.next - direct }));
    if (rest.length > 0) this.#write(place.descriptors, at(direct), this.#indirect(rest, isSpoiled));
    this.#publish(place, head, isSpoiled && random.below(12) === 0 ? 1 + random.next() : 1);
  }

  /** The descriptors of a message and of room for its answer. */
  #chain(message: Uint8Array): Descriptor[] {
    const random = this.#random;
    const chain: Descriptor[] = [];
    const cuts = Array.from({ length: random.below(4) }, () => random.below(message.length + 1));
    const bounds = [0, ...cuts.toSorted((a, b) => a - b), message.length];
    for (const [i, from] of bounds.slice(0, -1).entries()) {
      const piece = message.subarray(from, bounds[i + 1]);
      const gpa = this.#buffer();
      this.#store(gpa, piece);
      if (piece.length > 0) chain.push({ gpa, length: piece.length, flags: 0, next: 0 });
    }
    for (let left = random.below(4); left > 0; left -= 1) {
      const length = 1 + random.below(random.pick([20, 200, 4500]));
      chain.push({ gpa: this.#buffer(), length, flags: WRITE, next: 0 });
    }
    if (chain.length === 0) chain.push({ gpa: this.#buffer(), length: 16, flags: WRITE, next: 0 });
    for (const [i, descriptor] of chain.entries()) {
      if (i === chain.length - 1) break;
      descriptor.flags |= NEXT;
      descriptor.next = i + 1;
    }
    return chain;
  }

  /** Where a buffer lies: mostly among others, else in a window, in the rings, or in high memory. */
  #buffer(): bigint {
    const random = this.#random;
    switch (random.below(10)) {
      case 0:
        return WINDOW + BigInt(random.below(12_000));
      case 1:
        return BigInt(random.below(0x3000));
      case 2:
        return HIGH + BigInt(random.below(11_000));
      default:
        return DATA + BigInt(random.below(DATA_BYTES - 5000));
    }
  }

  /** One thing wrong. */
  #spoil(chain: Descriptor[]): void {
    const random = this.#random;
    const victim = random.pick(chain);
    switch (random.below(6)) {
      case 0:
        victim.gpa = random.pick(NASTY_ADDRESSES);
        return;
      case 1:
        victim.length = random.pick(NASTY_LENGTHS);
        return;
      case 2:
        victim.flags = random.below(8) === 0 ? random.below(65_536) : random.below(8);
        return;
      case 3:
        victim.flags |= NEXT;
        victim.next = random.pick([0, random.below(20), 65_535]);
        return;
      case 4:
        chain.reverse();
        return;
      default:
        victim.flags ^= WRITE;
    }
  }

  #indirect(rest: readonly Descriptor[], isSpoiled: boolean): Descriptor {
    const random = this.#random;
    const table = this.#table();
    for (const [i, descriptor] of rest.entries()) this.#write(table, i, descriptor);
    const plain = { gpa: table, length: DESCRIPTOR_BYTES * rest.length, flags: INDIRECT, next: 0 };
    if (!isSpoiled || random.below(2) === 0) return plain;
    switch (random.below(4)) {
      case 0:
        return { ...plain, flags: INDIRECT | random.below(4) };
      case 1:
        return { ...plain, length: random.pick([...NASTY_LENGTHS, 8, 24, 16 * 17]) };
      case 2:
        return { ...plain, gpa: random.pick(NASTY_ADDRESSES) };
      default:
        this.#write(table, random.below(rest.length), plain);
        return plain;
    }
  }

  /** Room for an indirect table that is not in use by the last few chains. */
  #table(): bigint {
    this.#nextTable = (this.#nextTable + 512n) % (DATA - TABLES);
    return TABLES + this.#nextTable;
  }

  #publish(place: RingPlace, head: number, count = 1): void {
    const slot = place.size === 0 ? 0 : place.index % place.size;
    this.#store16(place.available + 4n + 2n * BigInt(slot), head);
    place.index = (place.index + count) & 0xffff;
    this.#store16(place.available + 2n, place.index);
    // Chains get back with an interrupt or without.
    this.#store16(place.available, this.#random.below(2));
  }

  #write(table: bigint, index: number, { gpa, length, flags, next }: Descriptor): void {
    const view = new DataView(new ArrayBuffer(DESCRIPTOR_BYTES));
    view.setBigUint64(0, gpa, true);
    view.setUint32(8, length, true);
    view.setUint16(12, flags, true);
    view.setUint16(14, next, true);
    this.#store(table + BigInt(index * DESCRIPTOR_BYTES), new Uint8Array(view.buffer));
  }

  #store16(gpa: bigint, value: number): void {
    this.#store(gpa, new Uint8Array([value & 0xff, (value >> 8) & 0xff]));
  }

  /** What is in RAM of it. */
  #store(gpa: bigint, bytes: Uint8Array): void {
    for (const region of this.#regions) {
      if (region.kind !== "ram") continue;
      const from = gpa - region.gpa;
      if (from < 0n || from >= BigInt(region.bytes.length)) continue;
      const at = Number(from);
      region.bytes.set(bytes.subarray(0, region.bytes.length - at), at);
      if (bytes.length > region.bytes.length - at) {
        this.#store(region.gpa + BigInt(region.bytes.length), bytes.subarray(region.bytes.length - at));
      }
      return;
    }
  }
}
