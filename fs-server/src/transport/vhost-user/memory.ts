/**
 * The guest's memory as the front-end hands it over: descriptors, mapped here, and the translation of the front-end's own
 * addresses to the guest's. By the control thread; the serving threads make views of what this publishes.
 *
 * Regions of the DAX window come back this way, too: QEMU adds each mapping as a region, and tells every vhost-user device of
 * the VM. So do other files that somebody else can make shorter: an NVDIMM, what is in the window of another server. They are
 * `window` regions: a page of them may vanish when the host truncates a file, so they are never looked at, only copied by
 * system calls (virtio/memory.ts). One that is removed keeps its addresses reserved: a thread that still copies gets EFAULT.
 *
 * A front-end that makes the file of its RAM shorter afterwards ends this process by SIGBUS; the file's size is checked when it
 * comes.
 */
import { type BigIntStats, fstatSync } from "node:fs";
import {
  copyFrom,
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
  SyscallError,
  viewOf,
} from "../../../../sys/src/index.ts";
import { GuestMemory, type GuestRegion } from "../virtio/memory.ts";
import type { RegionMessage } from "./protocol.ts";
import { MAX_REGIONS, type SharedRegion } from "./state.ts";

const PAGE = BigInt(PAGE_SIZE);
const ADDRESS_SPACE = 2n ** 64n;
/** Of one guest: more than any machine has, little enough for views of all of it. */
const MAX_TOTAL_BYTES = 2n ** 43n;
/** Largest view: what a typed array of every supported Node holds. A ring that lies across a multiple of it is refused. */
const VIEW_BYTES = 2n ** 30n;

/** A region that cannot be used. The front-end gets a failure. */
export class MemoryFault extends Error {
  override readonly name = "MemoryFault";
}

/**
 * Who can make the memory of a region shorter, beside its front-end. RAM is what has the narrowest reach of a guest's regions: its
 * own file may have a name (memory-backend-file), and then nothing tells it from an NVDIMM's.
 */
const REACH = {
  /** A memfd, hugetlbfs, a device. */
  memory: 0,
  /** Whoever has the file open. */
  nameless: 1,
  /** Whoever may write to it. */
  named: 2,
  /** In our DAX window, or of a server of files. */
  window: 3,
} as const;
type Reach = (typeof REACH)[keyof typeof REACH];

/** f_type of fstatfs(2) (linux/magic.h). */
const FUSE_SUPER_MAGIC = 0x65735546n;
const HUGETLBFS_MAGIC = 0x958458f6n;

type Region = RegionMessage & { readonly kind: "ram" | "window"; readonly address: bigint };

export class GuestRegions {
  #regions: Region[] = [];
  /** Reserved addresses of window regions that are gone, by their length. */
  readonly #reserved = new Map<bigint, bigint[]>();
  readonly #isLent: (fd: number) => boolean;
  readonly #memfds: bigint = memfdDevice();
  /** Reach of the RAM that is there: what has a wider one is none. */
  #ramReach: Reach = REACH.named;

  /** @param isLent whether a descriptor is of a file in the DAX window */
  constructor(isLent: (fd: number) => boolean) {
    this.#isLent = isLent;
  }

  get shared(): readonly SharedRegion[] {
    return this.#regions.map(({ kind, gpa, lengthBytes, address }) => ({ kind, gpa, lengthBytes, address }));
  }

  /** Those of a table. Throws a MemoryFault, with some of them added. */
  addAll(table: readonly RegionMessage[], fds: readonly number[]): void {
    const regions = table.map((message, i) => {
      const fd = fds[i] ?? -1;
      return { message, fd, reach: this.#reachOf(fd, fstatSync(fd, { bigint: true })) };
    });
    const narrowFirst = regions.toSorted((a, b) => a.reach - b.reach);
    for (const { message, fd } of narrowFirst) this.add(message, fd);
  }

  /** Maps a region. The descriptor stays the caller's. Throws a MemoryFault. */
  add(message: RegionMessage, fd: number): void {
    const { gpa, lengthBytes, userAddress, fdOffset } = message;
    const place = `memory region of ${lengthBytes} bytes at 0x${gpa.toString(16)}`;
    if (this.#regions.length >= MAX_REGIONS)
      throw new MemoryFault(`${place} is one more than ${MAX_REGIONS}`);
    if (lengthBytes === 0n || [gpa, lengthBytes, fdOffset].some((value) => value % PAGE !== 0n)) {
      throw new MemoryFault(`${place}, offset ${fdOffset}: not whole pages`);
    }
    if (gpa + lengthBytes > ADDRESS_SPACE || userAddress + lengthBytes > ADDRESS_SPACE) {
      throw new MemoryFault(`${place} ends behind 2^64`);
    }
    const total = this.#regions.reduce((sum, region) => sum + region.lengthBytes, lengthBytes);
    if (total > MAX_TOTAL_BYTES)
      throw new MemoryFault(`${place}: ${total} bytes of memory, above ${MAX_TOTAL_BYTES}`);
    const other = this.#regions.find(
      (region) => gpa < region.gpa + region.lengthBytes && region.gpa < gpa + lengthBytes,
    );
    if (other !== undefined) {
      throw new MemoryFault(`${place} overlaps the one at 0x${other.gpa.toString(16)}`);
    }
    const stats = fstatSync(fd, { bigint: true });
    if (!stats.isFile() && !stats.isCharacterDevice()) throw new MemoryFault(`${place} is no memory`);
    const reach = this.#reachOf(fd, stats);
    const kind = reach <= this.#ramReach ? "ram" : "window";
    if (kind === "ram" && stats.isFile() && stats.size < fdOffset + lengthBytes) {
      // A load behind the end of a file is a SIGBUS.
      throw new MemoryFault(`${place} ends at byte ${fdOffset + lengthBytes} of a file of ${stats.size}`);
    }
    this.#regions.push({ ...message, kind, address: this.#map(message, fd, kind, place) });
    if (kind === "ram") this.#ramReach = reach;
  }

  #reachOf(fd: number, stats: BigIntStats): Reach {
    if (this.#isLent(fd)) return REACH.window;
    const type = fileSystemOf(fd);
    if (type === FUSE_SUPER_MAGIC) return REACH.window;
    if (stats.dev === this.#memfds || type === HUGETLBFS_MAGIC || stats.isCharacterDevice())
      return REACH.memory;
    return stats.nlink === 0n ? REACH.nameless : REACH.named;
  }

  /** What kind of region a message names, or null: there is none such. */
  kindOf(message: RegionMessage): "ram" | "window" | null {
    return this.#find(message)?.kind ?? null;
  }

  /** Takes a region away. One of RAM only while no thread serves. */
  remove(message: RegionMessage): void {
    const region = this.#find(message);
    if (region === undefined) return;
    this.#regions = this.#regions.filter((each) => each !== region);
    this.#unmap(region);
  }

  /** While no thread serves. */
  removeAll(): void {
    for (const region of this.#regions.splice(0)) this.#unmap(region);
    this.#ramReach = REACH.named;
    for (const [length, addresses] of this.#reserved) {
      for (const address of addresses) munmap(address, Number(length));
    }
    this.#reserved.clear();
  }

  /** The guest's address of what the front-end has mapped at `userAddress`; null: in no RAM. */
  guestAddress(userAddress: bigint): bigint | null {
    for (const { kind, userAddress: start, lengthBytes, gpa } of this.#regions) {
      const offset = userAddress - start;
      if (kind === "ram" && offset >= 0n && offset < lengthBytes) return gpa + offset;
    }
    return null;
  }

  /** The 16-bit word at `gpa` of RAM; 0 where that is none. */
  word(gpa: bigint): number {
    const region = this.#regions.find(
      ({ kind, gpa: start, lengthBytes }) =>
        kind === "ram" && gpa >= start && gpa + 2n <= start + lengthBytes,
    );
    const bytes = new Uint8Array(2);
    if (region !== undefined) copyFrom(region.address + (gpa - region.gpa), bytes);
    return (bytes[0] ?? 0) | ((bytes[1] ?? 0) << 8);
  }

  #find({ gpa, lengthBytes }: RegionMessage): Region | undefined {
    return this.#regions.find((region) => region.gpa === gpa && region.lengthBytes === lengthBytes);
  }

  #map({ lengthBytes, fdOffset }: RegionMessage, fd: number, kind: "ram" | "window", place: string): bigint {
    const address = kind === "window" ? this.#reserved.get(lengthBytes)?.pop() : undefined;
    const options = {
      lengthBytes: Number(lengthBytes),
      flags: MAP_SHARED | MAP_NORESERVE | (address === undefined ? 0 : MAP_FIXED),
      fd,
      fileOffset: fdOffset,
      ...(address === undefined ? {} : { address }),
    };
    try {
      return mmap({ ...options, prot: PROT_READ | PROT_WRITE });
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
      if (address !== undefined) this.#reserve(address, lengthBytes);
      throw new MemoryFault(`${place} cannot be mapped: ${error.code}`);
    }
  }

  #unmap({ kind, address, lengthBytes }: Region): void {
    if (kind === "ram") {
      munmap(address, Number(lengthBytes));
      return;
    }
    const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
    mmap({ address, lengthBytes: Number(lengthBytes), prot: PROT_NONE, flags });
    this.#reserve(address, lengthBytes);
  }

  #reserve(address: bigint, lengthBytes: bigint): void {
    const free = this.#reserved.get(lengthBytes) ?? [];
    free.push(address);
    this.#reserved.set(lengthBytes, free);
  }
}

function fileSystemOf(fd: number): bigint {
  const out = new Uint8Array(files.STATFS_BYTES);
  return files.fstatfs(fd, out) < 0 ? 0n : new DataView(out.buffer).getBigInt64(0, true);
}

/** st_dev of every memfd: of the kernel's own tmpfs. */
function memfdDevice(): bigint {
  const fd = memfdCreate("daxfault-device");
  try {
    return fstatSync(fd, { bigint: true }).dev;
  } finally {
    files.close(fd);
  }
}

/**
 * The guest's memory as one thread sees it. A view of RAM is made once, and kept while its region is there: V8 counts each as
 * memory of its own, as large as the guest's, and collects its heap for a few of them, while every mapping of a DAX window,
 * of any device of the VM, changes the regions.
 */
export class GuestViews {
  #kept = new Map<string, readonly GuestRegion[]>();

  /** Valid until RAM is taken away. */
  memoryOf(regions: readonly SharedRegion[]): GuestMemory {
    const before = this.#kept;
    this.#kept = new Map();
    const views = regions.flatMap((region) => {
      if (region.kind === "window") return viewsOf(region);
      const key = `${region.gpa} ${region.lengthBytes} ${region.address}`;
      const own = before.get(key) ?? viewsOf(region);
      this.#kept.set(key, own);
      return own;
    });
    return new GuestMemory(views);
  }
}

function viewsOf({ kind, gpa, lengthBytes, address }: SharedRegion): GuestRegion[] {
  if (kind === "window") return [{ kind, gpa, address, lengthBytes }];
  const views: GuestRegion[] = [];
  for (let at = 0n; at < lengthBytes; ) {
    const toBoundary = VIEW_BYTES - ((gpa + at) % VIEW_BYTES);
    const take = toBoundary < lengthBytes - at ? toBoundary : lengthBytes - at;
    views.push({ kind, gpa: gpa + at, bytes: viewOf(address + at, Number(take)) });
    at += take;
  }
  return views;
}

export function closeAll(fds: readonly number[]): void {
  for (const fd of fds) files.close(fd);
}
