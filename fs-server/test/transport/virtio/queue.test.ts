/** The split ring by itself: what the specification allows is a chain, what it forbids a RingFault. */
import { describe, expect, it } from "vitest";
import type { GuestRegion } from "../../../src/transport/virtio/memory.ts";
import {
  type Chain,
  DESCRIPTOR_BYTES,
  VIRTQ_DESC_F_INDIRECT as INDIRECT,
  VIRTQ_DESC_F_NEXT as NEXT,
  RingFault,
  type RingLayout,
  SplitQueue,
  VIRTQ_DESC_F_WRITE as WRITE,
} from "../../../src/transport/virtio/queue.ts";
import { DriverQueue, TestMemory } from "./driver.ts";

const SIZE = 8;
const WINDOW_GPA = 2n ** 34n;
const WINDOW: GuestRegion = { kind: "window", gpa: WINDOW_GPA, address: 4096n, lengthBytes: 65_536n };
/** Where the low RAM ends and another region begins. */
const SEAM = 512n * 1024n;
const DATA = 0x2_0000n;
const TABLE = 0x3_0000n;

type Descriptor = readonly [gpa: bigint, length: number, flags: number, next: number];

class Bench {
  readonly ram = new TestMemory([WINDOW]);
  readonly driver = new DriverQueue(this.ram, 0, SIZE);
  readonly layout: RingLayout = {
    size: SIZE,
    descriptors: this.driver.descriptors,
    available: this.driver.available,
    used: this.driver.used,
  };

  queue(options = { indirect: true }, layout: RingLayout = this.layout): SplitQueue {
    return new SplitQueue(this.ram.memory, layout, options);
  }

  /** Fills the queue's table, or another, from its first descriptor on. */
  table(descriptors: readonly Descriptor[], at: bigint = this.driver.descriptors): void {
    for (const [i, [gpa, length, flags, next]] of descriptors.entries()) {
      this.driver.write(at, i, { gpa, length, flags, next });
    }
  }

  offer(head: number): void {
    this.driver.offer(head, { descriptors: [], done: () => undefined });
  }

  pop(descriptors: readonly Descriptor[], options = { indirect: true }): Chain | null {
    this.table(descriptors);
    this.offer(0);
    return this.queue(options).pop();
  }
}

const shape = (chain: Chain | null): unknown => chain && [chain.readableBytes, chain.writableBytes];

describe("a queue's place (virtio 1.2, 2.7)", () => {
  it.each([
    ["no entries", { size: 0 }],
    ["a size that is no power of two", { size: 6 }],
    ["more than 32768 entries", { size: 65_536 }],
    ["a descriptor table that is not aligned to 16", { descriptors: DATA + 8n }],
    ["an available ring that is not aligned to 2", { available: DATA + 1n }],
    ["a used ring that is not aligned to 4", { used: DATA + 2n }],
    ["a descriptor table outside memory", { descriptors: 2n ** 40n }],
    ["a used ring that ends outside memory", { used: 2n ** 32n + 4096n + 256n * 1024n - 8n }],
    ["an available ring before 2^64, whose end wraps", { available: 2n ** 64n - 4n }],
    ["a descriptor table in a window", { descriptors: WINDOW_GPA }],
    ["a used ring in a window", { used: WINDOW_GPA }],
    ["a descriptor table in two regions", { descriptors: SEAM - 16n }],
  ])("is refused: %s", (_, change) => {
    const bench = new Bench();
    expect(() => bench.queue(undefined, { ...bench.layout, ...change })).toThrow(RingFault);
  });
});

describe("a chain", () => {
  it.each<[string, readonly Descriptor[], unknown]>([
    ["of one readable buffer", [[DATA, 10, 0, 0]], [10, 0]],
    ["of one writable buffer", [[DATA, 10, WRITE, 0]], [0, 10]],
    [
      "of readable, then writable ones",
      [
        [DATA, 10, NEXT, 1],
        [DATA, 20, NEXT, 2],
        [DATA, 30, NEXT | WRITE, 3],
        [DATA, 40, WRITE, 0],
      ],
      [30, 70],
    ],
    [
      "as long as the queue",
      Array.from({ length: SIZE }, (_, i) => [DATA, 1, i < 7 ? NEXT : 0, i + 1]),
      [8, 0],
    ],
    ["across two regions", [[SEAM - 5n, 10, 0, 0]], [10, 0]],
    ["in a window", [[WINDOW_GPA, 65_536, WRITE, 0]], [0, 65_536]],
    ["whose last next field is anything", [[DATA, 10, 0, 65_535]], [10, 0]],
    ["with reserved flags", [[DATA, 10, 0xfff8, 0]], [10, 0]],
  ])("is taken: %s", (_, descriptors, expected) => {
    expect(shape(new Bench().pop(descriptors))).toEqual(expected);
  });

  it.each<[string, readonly Descriptor[], RegExp]>([
    ["that leads back into itself", [[DATA, 1, NEXT, 0]], /longer than the queue/],
    [
      "that leads back into itself by two",
      [
        [DATA, 1, NEXT, 1],
        [DATA, 1, NEXT, 0],
      ],
      /longer than the queue/,
    ],
    ["that leads out of the table", [[DATA, 1, NEXT, SIZE]], /descriptor 8 of a table of 8/],
    ["with an empty buffer", [[DATA, 0, 0, 0]], /0 bytes/],
    [
      "of a writable, then a readable buffer",
      [
        [DATA, 1, NEXT | WRITE, 1],
        [DATA, 1, 0, 0],
      ],
      /readable descriptor after a writable/,
    ],
    ["with a buffer outside memory", [[2n ** 40n, 1, 0, 0]], /outside guest memory/],
    ["with a buffer that ends outside memory", [[2n * SEAM - 1n, 2, 0, 0]], /outside guest memory/],
    ["with a buffer whose end wraps", [[2n ** 64n - 1n, 2, WRITE, 0]], /outside guest memory/],
    ["with a length of 2^32 - 1", [[DATA, 2 ** 32 - 1, WRITE, 0]], /outside guest memory/],
  ])("is a fault: %s", (_, descriptors, message) => {
    const bench = new Bench();
    expect(() => bench.pop(descriptors)).toThrow(RingFault);
    expect(() => new Bench().pop(descriptors)).toThrow(message);
  });

  it("is a fault if it is longer than 2^32 bytes in total", () => {
    const ram = new TestMemory([{ ...WINDOW, lengthBytes: 2n ** 33n }]);
    const driver = new DriverQueue(ram, 0, SIZE);
    const longest = 2 ** 32 - 1;
    const write = (index: number, length: number, flags: number): void =>
      driver.write(driver.descriptors, index, { gpa: WINDOW_GPA, length, flags, next: 1 });
    write(0, longest, WRITE | NEXT);
    const { descriptors, available, used } = driver;
    const queue = new SplitQueue(
      ram.memory,
      { size: SIZE, descriptors, available, used },
      { indirect: true },
    );
    write(1, 1, WRITE);
    driver.offer(0, { descriptors: [], done: () => undefined });
    expect(queue.pop()?.writableBytes).toBe(2 ** 32);
    write(1, 2, WRITE);
    driver.offer(0, { descriptors: [], done: () => undefined });
    expect(() => queue.pop()).toThrow(/more than 2\^32 bytes/);
  });

  it("begins at a descriptor of the table", () => {
    const bench = new Bench();
    bench.offer(SIZE);
    expect(() => bench.queue().pop()).toThrow(/descriptor 8 of a table of 8/);
  });
});

describe("an indirect table (2.7.5.3)", () => {
  const entry = (length: number, flags: number): Descriptor => [TABLE, length, flags, 1];
  const two: readonly Descriptor[] = [
    [DATA, 10, NEXT, 1],
    [DATA, 20, WRITE, 0],
  ];

  it.each<[string, readonly Descriptor[], readonly Descriptor[], unknown]>([
    ["alone", [entry(32, INDIRECT)], two, [10, 20]],
    ["with WRITE set, which means nothing", [entry(32, INDIRECT | WRITE)], two, [10, 20]],
    ["behind other descriptors", [[DATA, 5, NEXT, 1], entry(32, INDIRECT)], two, [15, 20]],
    [
      "as long as the queue",
      [entry(16 * SIZE, INDIRECT)],
      Array.from({ length: SIZE }, (_, i) => [DATA, 1, i < 7 ? NEXT : 0, i + 1]),
      [8, 0],
    ],
  ])("is followed: %s", (_, descriptors, table, expected) => {
    const bench = new Bench();
    bench.table(table, TABLE);
    expect(shape(bench.pop(descriptors))).toEqual(expected);
  });

  it("is followed where it lies in two regions", () => {
    const bench = new Bench();
    bench.table(two, SEAM - 16n);
    expect(shape(bench.pop([[SEAM - 16n, 32, INDIRECT, 0]]))).toEqual([10, 20]);
  });

  it.each<[string, readonly Descriptor[], readonly Descriptor[], RegExp]>([
    ["in an indirect table", [entry(32, INDIRECT)], [entry(16, INDIRECT)], /in an indirect table/],
    ["with a next descriptor", [entry(32, INDIRECT | NEXT)], two, /with a next one/],
    ["of no entries", [entry(0, INDIRECT)], two, /table of 0 bytes/],
    ["of one and a half entries", [entry(24, INDIRECT)], two, /table of 24 bytes/],
    ["longer than the queue", [entry(16 * (SIZE + 1), INDIRECT)], two, /table of 144 bytes/],
    ["of 2^32 - 16 bytes", [entry(2 ** 32 - 16, INDIRECT)], two, /table of 4294967280 bytes/],
    ["outside memory", [[2n ** 40n, 32, INDIRECT, 0]], two, /not in guest memory/],
    ["in a window, where its page is not there", [[WINDOW_GPA, 32, INDIRECT, 0]], two, /not in guest memory/],
    [
      "whose chain leads out of it",
      [entry(16, INDIRECT)],
      [[DATA, 1, NEXT, 1]],
      /descriptor 1 of a table of 1/,
    ],
    [
      "whose chain leads back into itself",
      [entry(32, INDIRECT)],
      [[DATA, 1, NEXT, 0]],
      /longer than the queue/,
    ],
    [
      "that makes its chain longer than the queue",
      [[DATA, 1, NEXT, 1], entry(16 * SIZE, INDIRECT)],
      Array.from({ length: SIZE }, (_, i) => [DATA, 1, i < 7 ? NEXT : 0, i + 1]),
      /longer than the queue/,
    ],
  ])("is a fault: %s", (_, descriptors, table, message) => {
    const bench = new Bench();
    bench.table(table, TABLE);
    expect(() => bench.pop(descriptors)).toThrow(message);
  });

  it("is a fault unless it was negotiated", () => {
    const bench = new Bench();
    bench.table(two, TABLE);
    expect(() => bench.pop([entry(32, INDIRECT)], { indirect: false })).toThrow(/not negotiated/);
  });
});

describe("the available ring", () => {
  it("is a fault if it runs further ahead than the queue is long", () => {
    const bench = new Bench();
    bench.table([[DATA, 1, 0, 0]]);
    for (let i = 0; i < SIZE + 1; i += 1) bench.offer(0);
    expect(() => bench.queue().pop()).toThrow(/9 chains are available/);
  });

  it("may be full", () => {
    const bench = new Bench();
    bench.table([[DATA, 1, 0, 0]]);
    for (let i = 0; i < SIZE; i += 1) bench.offer(0);
    const queue = bench.queue();
    for (let i = 0; i < SIZE; i += 1) expect(queue.pop()).not.toBe(null);
    expect(queue.pop()).toBe(null);
  });

  it("wraps at its end and at 2^16, as the used ring does", () => {
    const bench = new Bench();
    bench.table(Array.from({ length: SIZE }, (_, i) => [DATA, i + 1, 0, 0]));
    const queue = bench.queue();
    const back: number[] = [];
    for (let i = 0; i < 66_000; i += 1) {
      const head = (i * 3) % SIZE;
      bench.driver.offer(head, { descriptors: [], done: (usedBytes) => back.push(usedBytes) });
      expect(queue.hasMore()).toBe(true);
      const chain = queue.pop();
      if (chain?.head !== head || chain.readableBytes !== head + 1)
        throw new Error(`wrong chain in round ${i}`);
      queue.push(chain.head, i);
      if (bench.driver.collect() !== 1) throw new Error(`nothing came back in round ${i}`);
    }
    expect(back).toHaveLength(66_000);
    expect(back.at(-1)).toBe(65_999);
  });

  it("says whether an interrupt is wanted", () => {
    const bench = new Bench();
    const queue = bench.queue();
    expect(queue.wantsInterrupt()).toBe(true);
    bench.ram.store(bench.driver.available, new Uint8Array([1, 0]));
    expect(queue.wantsInterrupt()).toBe(false);
  });
});

describe("fields that change while they are read", () => {
  it("count as they were read: each is read once", () => {
    const bench = new Bench();
    bench.table([[DATA, 10, 0, 0]]);
    bench.offer(0);
    const queue = bench.queue();
    const reads = new Map<number, number>();
    const real = DataView.prototype.getUint32;
    DataView.prototype.getUint32 = function (offset, little) {
      if (this.byteLength === DESCRIPTOR_BYTES * SIZE) reads.set(offset, (reads.get(offset) ?? 0) + 1);
      return real.call(this, offset, little);
    };
    try {
      queue.pop();
    } finally {
      DataView.prototype.getUint32 = real;
    }
    expect([...reads]).toEqual([[8, 1]]);
  });
});
