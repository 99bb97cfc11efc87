/**
 * A driver for a virtio-mmio device, without a guest: it lays out rings and buffers in memory of this process.
 *
 * Probes as Linux does (drivers/virtio/virtio_mmio.c). Messages are cut at random, each piece lies somewhere else, and
 * chains go directly, through an indirect table, or begin directly and end in a table.
 */
import { Random } from "../../../src/fuzz/generate.ts";
import type { MemoryClient, MessageHandler } from "../../../src/transport/memory/client.ts";
import { GuestMemory, type GuestRegion } from "../../../src/transport/virtio/memory.ts";
import { type MmioDevice, VirtioMmio } from "../../../src/transport/virtio/mmio.ts";
import {
  DESCRIPTOR_BYTES,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_VERSION_1,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
} from "../../../src/transport/virtio/queue.ts";
import { REGISTER, STATUS } from "../../../src/transport/virtio/registers.ts";
import { type FuseServer, VirtioFs } from "../../../src/transport/virtio/virtio-fs.ts";

const KIB = 1024;
const LOW = { gpa: 0n, bytes: 512 * KIB };
/** Adjoins the low one in guest memory, not in ours: a buffer may lie across. */
const MIDDLE = { gpa: BigInt(LOW.bytes), bytes: 512 * KIB };
const HIGH_GPA = 2n ** 32n + 4096n;
const PAGE = 4096;
/** Rings lie below, buffers above. */
const BUFFERS_FROM = 64 * KIB;

/** RAM of a guest, in three regions, and whatever else a test adds. */
export class TestMemory {
  readonly regions: readonly (GuestRegion & { readonly kind: "ram" })[];
  readonly memory: GuestMemory;

  constructor(others: readonly GuestRegion[] = []) {
    this.regions = [LOW, MIDDLE, { gpa: HIGH_GPA, bytes: 256 * KIB }].map(({ gpa, bytes }) => ({
      kind: "ram",
      gpa,
      bytes: new Uint8Array(bytes),
    }));
    this.memory = new GuestMemory([...this.regions, ...others]);
  }

  /** Copies to (or from) guest memory as a vCPU would. */
  store(gpa: bigint, bytes: Uint8Array): void {
    this.#each(gpa, bytes, (ram, piece) => ram.set(piece));
  }

  load(gpa: bigint, lengthBytes: number): Uint8Array {
    const bytes = new Uint8Array(lengthBytes);
    this.#each(gpa, bytes, (ram, piece) => piece.set(ram));
    return bytes;
  }

  /** A copy of everything, to compare later. */
  snapshot(): Buffer {
    return Buffer.concat(this.regions.map(({ bytes }) => bytes));
  }

  #each(gpa: bigint, bytes: Uint8Array, move: (ram: Uint8Array, piece: Uint8Array) => void): void {
    let at = 0;
    while (at < bytes.length) {
      const address = gpa + BigInt(at);
      const region = this.regions.find((each) => {
        const end = each.gpa + BigInt(each.bytes.length);
        return each.gpa <= address && address < end;
      });
      if (region === undefined) throw new Error(`no RAM at 0x${address.toString(16)}`);
      const ram = region.bytes.subarray(Number(address - region.gpa)).subarray(0, bytes.length - at);
      move(ram, bytes.subarray(at, at + ram.length));
      at += ram.length;
    }
  }
}

export type Layout = "direct" | "indirect" | "mixed";

export type Piece = { readonly gpa: bigint; readonly lengthBytes: number };

/** Descriptors to send as they are. */
export type RawDescriptor = {
  readonly gpa: bigint;
  readonly lengthBytes: number;
  readonly isWritable: boolean;
};

type Pending = { readonly descriptors: readonly number[]; readonly done: (usedBytes: number) => void };

/** One queue as its driver has it. */
export class DriverQueue {
  readonly index: number;
  readonly size: number;
  readonly descriptors: bigint;
  readonly available: bigint;
  readonly used: bigint;
  readonly #ram: TestMemory;
  readonly #free: number[];
  readonly #pending = new Map<number, Pending>();
  #next = 0;
  #seen = 0;

  constructor(ram: TestMemory, index: number, size: number) {
    this.#ram = ram;
    this.index = index;
    this.size = size;
    const base = BigInt(PAGE + index * 16 * KIB);
    this.descriptors = base;
    this.available = base + BigInt(DESCRIPTOR_BYTES * size);
    this.used = this.available + BigInt(8 + 2 * size);
    this.#free = Array.from({ length: size }, (_, i) => i);
  }

  get room(): number {
    return this.#free.length;
  }

  /** Writes a descriptor of the queue's table or of another. */
  write(
    table: bigint,
    index: number,
    descriptor: { gpa: bigint; length: number; flags: number; next: number },
  ): void {
    const view = new DataView(new ArrayBuffer(DESCRIPTOR_BYTES));
    view.setBigUint64(0, descriptor.gpa, true);
    view.setUint32(8, descriptor.length, true);
    view.setUint16(12, descriptor.flags, true);
    view.setUint16(14, descriptor.next, true);
    this.#ram.store(table + BigInt(index * DESCRIPTOR_BYTES), new Uint8Array(view.buffer));
  }

  takeFree(random: Random): number {
    const [index] = this.#free.splice(random.below(this.#free.length), 1);
    if (index === undefined) throw new Error("no descriptor is free");
    return index;
  }

  /** Publishes a chain. */
  offer(head: number, pending: Pending): void {
    this.#pending.set(head, pending);
    const slot = this.#next % this.size;
    this.#storeWord(this.available + BigInt(4 + 2 * slot), head);
    this.#next = (this.#next + 1) & 0xffff;
    this.#storeWord(this.available + 2n, this.#next);
  }

  /** Takes what the device gave back. */
  collect(): number {
    let count = 0;
    while (this.#word(this.used + 2n) !== this.#seen) {
      const at = this.used + BigInt(4 + 8 * (this.#seen % this.size));
      const entry = new DataView(this.#ram.load(at, 8).buffer);
      const head = entry.getUint32(0, true);
      const pending = this.#pending.get(head);
      if (pending === undefined) throw new Error(`the device gave back ${head}, which it did not have`);
      this.#pending.delete(head);
      this.#free.push(...pending.descriptors);
      this.#seen = (this.#seen + 1) & 0xffff;
      count += 1;
      pending.done(entry.getUint32(4, true));
    }
    return count;
  }

  #word(gpa: bigint): number {
    return new DataView(this.#ram.load(gpa, 2).buffer).getUint16(0, true);
  }

  #storeWord(gpa: bigint, value: number): void {
    this.#ram.store(gpa, new Uint8Array([value & 0xff, value >> 8]));
  }
}

export type DriverOptions = {
  readonly seed?: number;
  /** How chains are built; null: at random. */
  readonly layout?: Layout | null;
  /** Longest piece; null: at random for each message. */
  readonly pieceBytes?: number | null;
};

const PIECES: readonly number[] = [1, 7, 40, 64, 512, 4096, 65_536];

export class Driver {
  readonly device: MmioDevice;
  readonly ram: TestMemory;
  readonly queues: DriverQueue[] = [];
  readonly #random: Random;
  readonly #options: DriverOptions;
  /** Next free byte of each region; everything is free again when nothing is under way. */
  #allocated: bigint[] = [];
  #underWay = 0;

  constructor(device: MmioDevice, ram: TestMemory, options: DriverOptions = {}) {
    this.device = device;
    this.ram = ram;
    this.#random = new Random(options.seed ?? 1);
    this.#options = options;
  }

  get32(offset: number): number {
    return Number(this.device.read(offset, 4));
  }

  set32(offset: number, value: number): void {
    this.device.write(offset, 4, BigInt(value));
  }

  set64(offset: number, value: bigint): void {
    this.device.write(offset, 4, BigInt.asUintN(32, value));
    this.device.write(offset + 4, 4, value >> 32n);
  }

  addStatus(bits: number): void {
    this.set32(REGISTER.status, this.get32(REGISTER.status) | bits);
  }

  /** What Linux does from probe to DRIVER_OK. Throws where Linux would give up. */
  probe(queueSize = 256): void {
    if (this.get32(REGISTER.magic) !== 0x74726976) throw new Error("wrong magic value");
    if (this.get32(REGISTER.version) !== 2) throw new Error("wrong version");
    this.set32(REGISTER.status, 0);
    this.addStatus(STATUS.acknowledge);
    this.addStatus(STATUS.driver);
    const offered = this.features();
    const wanted = offered & (VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC);
    this.set32(REGISTER.driverFeaturesSelect, 1);
    this.set32(REGISTER.driverFeatures, Number(wanted >> 32n));
    this.set32(REGISTER.driverFeaturesSelect, 0);
    this.set32(REGISTER.driverFeatures, Number(wanted & 0xffff_ffffn));
    this.addStatus(STATUS.featuresOk);
    if ((this.get32(REGISTER.status) & STATUS.featuresOk) === 0) throw new Error("features were refused");
    this.queues.length = 0;
    for (let index = 0; ; index += 1) {
      this.set32(REGISTER.queueSelect, index);
      const largest = this.get32(REGISTER.queueSizeMax);
      if (largest === 0) break;
      this.#setUp(new DriverQueue(this.ram, index, Math.min(largest, queueSize)));
    }
    this.addStatus(STATUS.driverOk);
  }

  features(): bigint {
    this.set32(REGISTER.deviceFeaturesSelect, 1);
    const high = BigInt(this.get32(REGISTER.deviceFeatures));
    this.set32(REGISTER.deviceFeaturesSelect, 0);
    return (high << 32n) | BigInt(this.get32(REGISTER.deviceFeatures));
  }

  #setUp(queue: DriverQueue): void {
    if (this.get32(REGISTER.queueReady) !== 0) throw new Error(`queue ${queue.index} is ready already`);
    this.ram.store(queue.available, new Uint8Array(4));
    this.ram.store(queue.used, new Uint8Array(4));
    this.set32(REGISTER.queueSize, queue.size);
    this.set64(REGISTER.queueDescriptors, queue.descriptors);
    this.set64(REGISTER.queueDriver, queue.available);
    this.set64(REGISTER.queueDevice, queue.used);
    this.set32(REGISTER.queueReady, 1);
    if (this.get32(REGISTER.queueReady) !== 1) throw new Error(`queue ${queue.index} did not become ready`);
    this.queues.push(queue);
  }

  /** Sends a message with room for an answer; `done` gets the bytes that the device says it wrote. */
  send(queue: number, message: Uint8Array, roomBytes: number, done: (answer: Uint8Array) => void): void {
    const limit = Math.floor((this.queue(queue).room - 4) / 2);
    const readable = this.#scatter(message.length, limit);
    const writable = this.#scatter(roomBytes, limit);
    let at = 0;
    for (const { gpa, lengthBytes } of readable) {
      this.ram.store(gpa, message.subarray(at, at + lengthBytes));
      at += lengthBytes;
    }
    const descriptors = [
      ...readable.map((piece) => ({ ...piece, isWritable: false })),
      ...writable.map((piece) => ({ ...piece, isWritable: true })),
    ];
    this.sendRaw(queue, descriptors, (usedBytes) => {
      if (usedBytes > roomBytes) throw new Error(`the device used ${usedBytes} of ${roomBytes} bytes`);
      const answer: Uint8Array[] = [];
      let left = usedBytes;
      for (const { gpa, lengthBytes } of writable) {
        if (left <= 0) break;
        answer.push(this.ram.load(gpa, Math.min(left, lengthBytes)));
        left -= lengthBytes;
      }
      done(Buffer.concat(answer));
    });
  }

  queue(index: number): DriverQueue {
    const queue = this.queues[index];
    if (queue === undefined) throw new Error(`no queue ${index}`);
    return queue;
  }

  /** Sends these descriptors, notifies, and collects what is done. */
  sendRaw(index: number, descriptors: readonly RawDescriptor[], done: (usedBytes: number) => void): void {
    const queue = this.queue(index);
    const layout = this.#options.layout ?? this.#random.pick<Layout>(["direct", "indirect", "mixed"]);
    const direct =
      layout === "direct"
        ? descriptors.length
        : layout === "indirect"
          ? 0
          : this.#random.below(descriptors.length);
    const rest = descriptors.length - direct;
    const taken = Array.from({ length: direct + (rest > 0 ? 1 : 0) }, () => queue.takeFree(this.#random));
    for (const [i, descriptor] of descriptors.slice(0, direct).entries()) {
      this.#write(queue, queue.descriptors, taken[i] ?? 0, descriptor, taken[i + 1] ?? null);
    }
    if (rest > 0) {
      const length = rest * DESCRIPTOR_BYTES;
      const table = this.allocate(length, 16n);
      for (const [i, descriptor] of descriptors.slice(direct).entries()) {
        this.#write(queue, table, i, descriptor, i + 1 < rest ? i + 1 : null);
      }
      const flags = VIRTQ_DESC_F_INDIRECT;
      queue.write(queue.descriptors, taken[direct] ?? 0, { gpa: table, length, flags, next: 0 });
    }
    this.#underWay += 1;
    queue.offer(taken[0] ?? 0, {
      descriptors: taken,
      done: (usedBytes) => {
        this.#underWay -= 1;
        done(usedBytes);
        if (this.#underWay === 0) this.#allocated = [];
      },
    });
    this.set32(REGISTER.queueNotify, index);
    this.collect();
  }

  #write(
    queue: DriverQueue,
    table: bigint,
    index: number,
    { gpa, lengthBytes: length, isWritable }: RawDescriptor,
    next: number | null,
  ): void {
    const flags = (isWritable ? VIRTQ_DESC_F_WRITE : 0) | (next === null ? 0 : VIRTQ_DESC_F_NEXT);
    queue.write(table, index, { gpa, length, flags, next: next ?? 0 });
  }

  /** Handles an interrupt, if there is one. Returns the chains that came back. */
  collect(): number {
    if (!this.device.irqPending()) return 0;
    const status = this.get32(REGISTER.interruptStatus);
    this.set32(REGISTER.interruptAcknowledge, status);
    return this.queues.reduce((count, queue) => count + queue.collect(), 0);
  }

  /** Memory that nothing else uses now. */
  allocate(lengthBytes: number, alignment = 1n): bigint {
    const starts = [BigInt(BUFFERS_FROM), HIGH_GPA];
    const ends = [MIDDLE.gpa + BigInt(MIDDLE.bytes), HIGH_GPA + BigInt(256 * KIB)];
    const first = this.#random.below(2);
    for (const half of [first, 1 - first]) {
      const free = this.#allocated[half] ?? starts[half] ?? 0n;
      const gpa = (free + alignment - 1n) & -alignment;
      const end = gpa + BigInt(lengthBytes);
      // A table must not lie across two regions.
      const isSplit = alignment > 1n && gpa < MIDDLE.gpa && end > MIDDLE.gpa;
      if (isSplit || end > (ends[half] ?? 0n)) continue;
      this.#allocated[half] = end + BigInt(this.#random.below(3));
      return gpa;
    }
    throw new Error(`no ${lengthBytes} bytes are free`);
  }

  #scatter(lengthBytes: number, limit: number): Piece[] {
    const least = Math.ceil(lengthBytes / Math.max(1, limit));
    const wanted = this.#options.pieceBytes ?? this.#random.pick(PIECES);
    const longest = Math.max(least, wanted);
    const isRegular = this.#random.below(2) === 0 || wanted <= least;
    const pieces: Piece[] = [];
    let left = lengthBytes;
    while (left > 0) {
      const isLast = pieces.length === limit - 1;
      const length = isLast ? left : Math.min(left, isRegular ? longest : 1 + this.#random.below(longest));
      pieces.push({ gpa: this.allocate(length), lengthBytes: length });
      left -= length;
    }
    return pieces;
  }
}

export type Through = MessageHandler & { readonly driver: Driver; readonly mmio: VirtioMmio };

/** A session behind a virtio-fs device and its driver, for `MemoryClient`. */
export function throughVirtio(session: FuseServer, options: DriverOptions = {}): Through {
  let result: ReturnType<MemoryClient["post"]> | null = null;
  const observed: FuseServer = {
    handle: (spans, sink) => {
      result = session.handle(spans, sink);
      return result;
    },
    refuse: (spans, sink, code) => {
      result = session.refuse(spans, sink, code);
      return result;
    },
    msUntilDue: () => session.msUntilDue(),
    handleDue: () => session.handleDue(),
    // A reset by the driver at its probe must not end a session that a test has begun.
    end: () => undefined,
  };
  const ram = new TestMemory();
  const mmio = new VirtioMmio(new VirtioFs({ session: observed, tag: "test", requestQueues: 3 }), ram.memory);
  const driver = new Driver(mmio, ram, options);
  driver.probe();
  let queue = 0;
  return {
    driver,
    mmio,
    handle: (spans, sink) => {
      queue = (queue + 1) % driver.queues.length;
      const message = Buffer.concat(spans);
      driver.send(queue, message, sink.capacityBytes, (answer) => {
        if (answer.length === 0) return;
        sink.frame.bytes.set(answer);
        sink.commit(answer.length, 0);
      });
      if (mmio.needsReset) throw new Error("the device needs a reset");
      if (result === null) throw new Error("the session was not asked");
      return result;
    },
  };
}
