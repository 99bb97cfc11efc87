/**
 * A hostile guest: malformed rings, chains, requests and register accesses, against virtio-fs and virtio-pmem.
 *
 * Promises checked: nothing throws; each chain is served exactly as the rings have it, and once; what the rings forbid stops
 * the device until a reset; but for the writable part of the chain that is served and its entry of the used ring, no byte
 * of the guest's memory changes, nor of what lies around it; nothing takes long; a reset leaves no node and no handle.
 */
import {
  files,
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_NORESERVE,
  MAP_PRIVATE,
  MAP_SHARED,
  memfdCreate,
  mmap,
  munmap,
  PAGE_SIZE,
  PROT_NONE,
  PROT_READ,
  PROT_WRITE,
} from "../../../sys/src/index.ts";
import { Session, type SessionOptions } from "../core/session.ts";
import type { FileSystem } from "../fs/filesystem.ts";
import { encodeRequest } from "../transport/memory/client.ts";
import type { QueueRequest, VirtioDevice } from "../transport/virtio/device.ts";
import { GuestMemory, type GuestRegion } from "../transport/virtio/memory.ts";
import { VirtioMmio } from "../transport/virtio/mmio.ts";
import { REGISTER, STATUS } from "../transport/virtio/registers.ts";
import { VirtioFs } from "../transport/virtio/virtio-fs.ts";
import { VirtioPmem } from "../transport/virtio/virtio-pmem.ts";
import { hostileMessage, Random } from "./generate.ts";
import { HostileGuest } from "./hostile-guest.ts";
import type { RingPlace } from "./hostile-rings.ts";
import { difference, type Extent, RingOracle } from "./ring-oracle.ts";

export type RingFuzzFigures = {
  readonly chains: number;
  /** Chains that were served, and gave a request back. */
  readonly served: number;
  /** Broken rings: each ends with a reset. */
  readonly faults: number;
  /** Sessions that got as far as an agreement. */
  readonly sessions: number;
  readonly registerAccesses: number;
  readonly defects: number;
  readonly longestMs: number;
  /** Broken promises, each a sentence with the seed and the step's number. */
  readonly failures: readonly string[];
};

export type RingFuzzOptions = {
  readonly fs: () => FileSystem;
  readonly seed: number;
  readonly chains: number;
  readonly session?: Omit<SessionOptions, "fs">;
};

const QUEUE_SIZE = 16;
const QUEUES = 2;
const MAX_FAILURES = 20;
/** One notification: at most a queue of requests. */
const SOON_MS = 5000;
/** Rounds of `work` that are waited for, where answers land in the rings and make new chains. */
const MAX_ROUNDS = 64;
/** Each so many drivers, one is that of a pmem. */
const PMEM_LIVES = 8;
/** What surrounds guest memory. */
const GUARD = 0xa5;

/** Guest memory with guards around it, all in one buffer; and a window that is partly there. */
export class FuzzMemory {
  static readonly windowGpa: bigint = 2n ** 33n;
  static readonly windowBytes: number = 4 * PAGE_SIZE;
  readonly host: Buffer;
  readonly regions: readonly GuestRegion[];
  readonly memory: GuestMemory;
  readonly #fd: number;
  readonly #window: bigint;
  readonly #filePage = Buffer.alloc(PAGE_SIZE);

  constructor() {
    const guard = PAGE_SIZE;
    const places = [
      { gpa: 0n, bytes: 32_768 },
      // Adjoins for the guest, not here.
      { gpa: 32_768n, bytes: 16_384 },
      { gpa: 2n ** 32n + 4096n, bytes: 16_384 },
    ];
    const total = places.reduce((sum, { bytes }) => sum + bytes + guard, guard);
    this.host = Buffer.from(new ArrayBuffer(total)).fill(GUARD);
    let at = guard;
    const ram = places.map(({ gpa, bytes }): GuestRegion => {
      const region = this.host.subarray(at, at + bytes).fill(0);
      at += bytes + guard;
      return { kind: "ram", gpa, bytes: new Uint8Array(region.buffer, region.byteOffset, bytes) };
    });
    this.#fd = memfdCreate("daxfault-fuzz");
    files.ftruncate(this.#fd, BigInt(2 * PAGE_SIZE));
    const lengthBytes = FuzzMemory.windowBytes;
    const nothing = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    this.#window = mmap({ lengthBytes, prot: PROT_NONE, flags: nothing });
    const prot = PROT_READ | PROT_WRITE;
    const place = { address: this.#window, lengthBytes: 2 * PAGE_SIZE };
    mmap({ ...place, prot, flags: MAP_SHARED | MAP_FIXED, fd: this.#fd });
    // Truncated: of four pages one is there, one is behind the end of its file, two are nothing.
    files.ftruncate(this.#fd, BigInt(PAGE_SIZE));
    this.regions = [
      ...ram,
      {
        kind: "window",
        gpa: FuzzMemory.windowGpa,
        address: this.#window,
        lengthBytes: BigInt(lengthBytes),
      },
    ];
    this.memory = new GuestMemory(this.regions);
  }

  areGuardsIntact(): boolean {
    let from = 0;
    for (const region of this.regions) {
      if (region.kind !== "ram") continue;
      const { byteOffset, length } = region.bytes;
      if (this.host.subarray(from, byteOffset).some((byte) => byte !== GUARD)) return false;
      from = byteOffset + length;
    }
    return this.host.subarray(from).every((byte) => byte === GUARD);
  }

  /** RAM, guards, and the one page of the window. */
  copyTo(snapshot: Buffer): void {
    this.host.copy(snapshot);
    files.pread(this.#fd, this.#filePage, 0n);
    this.#filePage.copy(snapshot, this.host.length);
  }

  snapshot(): Buffer {
    const snapshot = Buffer.alloc(this.host.length + PAGE_SIZE);
    this.copyTo(snapshot);
    return snapshot;
  }

  /** An extent as a range of a snapshot; null: nothing of it is in there. */
  rangeOf({ kind, from, to }: Extent): readonly [number, number] | null {
    if (kind === "ram") return [Number(from), Number(to)];
    const start = Number(from - this.#window);
    if (start >= PAGE_SIZE) return null;
    const base = this.host.length;
    return [base + start, base + Math.min(PAGE_SIZE, Number(to - this.#window))];
  }

  close(): void {
    munmap(this.#window, FuzzMemory.windowBytes);
    files.close(this.#fd);
  }
}

/** Compares every chain that the device is given with the rings, and memory before with memory after. */
class Observed implements VirtioDevice {
  readonly id: number;
  readonly features: bigint;
  readonly config: Uint8Array;
  readonly queueSizes: readonly number[];
  readonly sharedMemory: VirtioDevice["sharedMemory"];
  readonly #inner: VirtioDevice;
  readonly #memory: FuzzMemory;
  readonly #before: Buffer;
  readonly #after: Buffer;
  /** By queue. */
  readonly oracles = new Map<number, { readonly oracle: RingOracle; next: number; used: number }>();
  readonly wrong: string[] = [];
  served = 0;
  /** Nothing is compared any more: registers have been written at random. */
  isBlind = false;

  constructor(inner: VirtioDevice, memory: FuzzMemory) {
    this.id = inner.id;
    this.features = inner.features;
    this.config = inner.config;
    this.queueSizes = inner.queueSizes;
    this.sharedMemory = inner.sharedMemory;
    this.#inner = inner;
    this.#memory = memory;
    this.#before = memory.snapshot();
    this.#after = memory.snapshot();
  }

  serve(queue: number, request: QueueRequest): void {
    if (this.isBlind) {
      this.#inner.serve(queue, request);
      return;
    }
    const state = this.oracles.get(queue);
    const expected = state?.oracle.chain(state.next) ?? null;
    if (state === undefined || expected === null) {
      this.wrong.push(`queue ${queue} was served against the rules`);
      return;
    }
    const differs = difference(request.chain, expected);
    if (differs !== null) this.wrong.push(differs);
    this.#memory.copyTo(this.#before);
    this.#inner.serve(queue, request);
    this.served += 1;
    const entry = state.oracle.usedEntry(state.used);
    state.next = (state.next + 1) & 0xffff;
    state.used = (state.used + 1) & 0xffff;
    if (state.oracle.usedIndex() !== state.used) this.wrong.push(`chain ${expected.head} did not come back`);
    else if (entry.id !== expected.head) this.wrong.push(`${entry.id} came back for ${expected.head}`);
    else if (entry.length > request.chain.writableBytes)
      this.wrong.push(`${entry.length} bytes are too many`);
    this.#compare([...expected.writable, ...entry.extents]);
  }

  /** Only `allowed` may have changed. */
  #compare(allowed: readonly Extent[]): void {
    this.#memory.copyTo(this.#after);
    for (const extent of allowed) {
      const range = this.#memory.rangeOf(extent);
      if (range !== null) this.#after.copy(this.#before, range[0], range[0], range[1]);
    }
    if (!this.#before.equals(this.#after)) {
      const at = this.#before.findIndex((byte, i) => byte !== this.#after[i]);
      this.wrong.push(`byte ${at} of the host's copy of memory changed`);
    }
  }

  /** Memory is now as the guest wants it. */
  remember(): void {
    this.#memory.copyTo(this.#after);
  }

  /** Whether nothing has changed since then, or since the last chain was served. */
  isUntouched(): boolean {
    this.#memory.copyTo(this.#before);
    return this.#before.equals(this.#after);
  }

  msUntilDue(): number | null {
    return this.#inner.msUntilDue();
  }
  handleDue(): void {
    this.#inner.handleDue();
  }
  reset(): void {
    this.oracles.clear();
    this.#inner.reset();
  }
}

/** A device and its registers. */
type Target = { readonly device: Observed; readonly mmio: VirtioMmio };

class RingFuzz {
  readonly #options: RingFuzzOptions;
  readonly #random: Random;
  readonly #memory = new FuzzMemory();
  readonly #files: FileSystem;
  readonly #session: Session;
  readonly #fs: Target;
  readonly #pmem: Target;
  readonly #failures: string[] = [];
  readonly #counts = { chains: 0, faults: 0, sessions: 0, registerAccesses: 0 };
  #longestMs = 0;
  #unique = 2n;

  constructor(options: RingFuzzOptions) {
    this.#options = options;
    this.#random = new Random(options.seed);
    this.#files = options.fs();
    this.#session = new Session({
      ...options.session,
      fs: this.#files,
      onInit: () => {
        this.#counts.sessions += 1;
      },
    });
    const window = { gpa: FuzzMemory.windowGpa, lengthBytes: BigInt(FuzzMemory.windowBytes) };
    const requestQueues = QUEUES - 1;
    const session = this.#session;
    this.#fs = this.#target(
      new VirtioFs({ session, tag: "fuzz", queueSize: QUEUE_SIZE, requestQueues, window }),
    );
    this.#pmem = this.#target(new VirtioPmem({ ...window, flush: () => -this.#random.below(2) }));
  }

  #target(inner: VirtioDevice): Target {
    const device = new Observed(inner, this.#memory);
    return { device, mmio: new VirtioMmio(device, this.#memory.memory) };
  }

  run(): RingFuzzFigures {
    for (let lives = 1; this.#counts.chains < this.#options.chains; lives += 1) {
      if (this.#failures.length >= MAX_FAILURES) break;
      try {
        this.#life(lives % PMEM_LIVES === 0 ? this.#pmem : this.#fs);
      } catch (error) {
        this.#fail(`threw ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
      }
    }
    this.#files.close();
    this.#memory.close();
    return {
      ...this.#counts,
      served: this.#fs.device.served + this.#pmem.device.served,
      defects: this.#session.counts.defects,
      longestMs: Math.round(this.#longestMs),
      failures: this.#failures,
    };
  }

  #fail(what: string): void {
    this.#failures.push(`seed ${this.#options.seed}, chain ${this.#counts.chains}: ${what}`);
  }

  /** From a driver's first access to a device to its reset. The device itself outlives its drivers. */
  #life({ mmio, device }: Target): void {
    device.isBlind = false;
    const guest = new HostileGuest(mmio, this.#memory.regions, this.#random);
    const places = device.queueSizes.map((_, index) => guest.place(index, QUEUE_SIZE));
    const isUsable = this.#setUp(mmio, device, { guest, places });
    if (isUsable && device === this.#fs.device) this.#init(guest, places[QUEUES - 1]);
    for (let left = 1 + this.#random.below(30); isUsable && left > 0 && !mmio.needsReset; left -= 1) {
      this.#step(mmio, device, { guest, places });
    }
    if (this.#random.below(4) === 0) {
      device.isBlind = true;
      this.#accessRegisters(mmio);
    }
    mmio.write(REGISTER.status, 4, 0n);
    const { nodes, handles } = this.#files.usage();
    if (nodes + handles > 0) this.#fail(`a reset left ${nodes} nodes and ${handles} handles`);
    for (const wrong of device.wrong.splice(0)) this.#fail(wrong);
  }

  /** Returns whether the queues can be used; they must be exactly if they are placed as the rules have it. */
  #setUp(
    mmio: VirtioMmio,
    device: Observed,
    { guest, places }: { guest: HostileGuest; places: readonly RingPlace[] },
  ): boolean {
    guest.negotiate();
    for (const [queue, place] of places.entries()) {
      guest.start(queue, place);
      const oracle = new RingOracle(this.#memory.regions, place);
      const isBroken = mmio.needsReset;
      if (isBroken === oracle.isPlaced(device.queueSizes[queue] ?? 0)) {
        this.#fail(`a queue ${isBroken ? "was refused" : "started"} with ${placeText(place)}`);
      }
      if (isBroken) {
        this.#counts.faults += 1;
        this.#counts.chains += 1;
        return false;
      }
      device.oracles.set(queue, { oracle, next: 0, used: 0 });
    }
    mmio.write(REGISTER.status, 4, BigInt(STATUS.driverOk));
    return true;
  }

  #init(guest: HostileGuest, place: RingPlace | undefined): void {
    if (place === undefined) return;
    const args = { major: 7, minor: 38, max_readahead: 131_072, flags: 0x7fff_fffb, flags2: 9 };
    guest.offerPlain(place, encodeRequest("INIT", 1n, { node: 0n, args }));
    guest.notify(QUEUES - 1);
  }

  /** Some chains, a notification, and whether the device did what the rings say. */
  #step(
    mmio: VirtioMmio,
    device: Observed,
    { guest, places }: { guest: HostileGuest; places: readonly RingPlace[] },
  ): void {
    const queue = this.#random.below(places.length);
    const place = places[queue];
    if (place === undefined) return;
    for (let left = 1 + this.#random.below(3); left > 0; left -= 1) {
      this.#unique += 2n;
      guest.offer(place, this.#message(device));
      this.#counts.chains += 1;
    }
    device.remember();
    const started = performance.now();
    guest.notify(queue);
    let rounds = 0;
    while (mmio.work() === 0 && rounds < MAX_ROUNDS) rounds += 1;
    this.#longestMs = Math.max(this.#longestMs, performance.now() - started);
    if (performance.now() - started > SOON_MS) this.#fail("a notification took too long");
    // Where answers in the rings make chains without end, the device is asked no more.
    if (rounds < MAX_ROUNDS) this.#judge(mmio, device, queue);
  }

  #message(device: Observed): Uint8Array {
    if (device === this.#fs.device) return hostileMessage(this.#random, this.#unique);
    return new Uint8Array(this.#random.below(6)).fill(this.#random.below(2));
  }

  #judge(mmio: VirtioMmio, device: Observed, queue: number): void {
    const state = device.oracles.get(queue);
    if (state === undefined) return;
    if (!device.isUntouched()) this.#fail("memory changed without a chain");
    const waiting = state.oracle.waiting(state.next);
    if (!mmio.needsReset) {
      if (waiting > 0) this.#fail(`${waiting} chains were not served`);
      return;
    }
    this.#counts.faults += 1;
    if (waiting === 0 || state.oracle.chain(state.next) !== null)
      this.#fail("a chain by the rules is a fault");
    for (let each = 0; each < QUEUES; each += 1) mmio.write(REGISTER.queueNotify, 4, BigInt(each));
    mmio.work();
    if (!device.isUntouched()) this.#fail("a broken device wrote to memory");
  }

  /** Any registers in any order: only that nothing throws, hangs, or writes around the guest's memory. */
  #accessRegisters(mmio: VirtioMmio): void {
    const random = this.#random;
    for (let left = random.below(40); left > 0; left -= 1) {
      const offset =
        random.below(20) === 0 ? random.next() : random.below(0x120) & (random.below(8) ? ~3 : ~0);
      const size = random.below(10) === 0 ? random.pick([1, 2, 8]) : 4;
      if (random.below(2) === 0) mmio.read(offset, size);
      else mmio.write(offset, size, BigInt(random.below(3) === 0 ? random.next() : random.below(18)));
      this.#counts.registerAccesses += 1;
    }
    if (!this.#memory.areGuardsIntact()) this.#fail("memory around the guest's changed");
  }
}

function placeText({ size, descriptors, available, used }: RingPlace): string {
  const places = [descriptors, available, used].map((gpa) => `0x${gpa.toString(16)}`);
  return `${size} entries at ${places.join(", ")}`;
}

export function fuzzRings(options: RingFuzzOptions): RingFuzzFigures {
  return new RingFuzz(options).run();
}
