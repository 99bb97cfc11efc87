/**
 * Random operations on one file, each checked against a copy in memory (the idea of the fsx tester): writes, reads, both
 * through a mapping, truncations, holes, allocations, copies, re-opens; and changes by the host in the folder underneath,
 * while the client has the file open and mapped.
 *
 * The model of what a client may see. Its own operations are seen at once, by every way. A change by the host is complete
 * for read(2), stat(2) and open(2) once the attributes' time-out is over: these revalidate, and drop the pages of a file
 * whose size or modification time has changed (fs/fuse/inode.c, fuse_change_attributes). The kernel drops the answer to a
 * GETATTR if one to read-ahead that ended early has come since it was sent (fuse_read_update_size takes a new attr_version):
 * so the client revalidates twice, and the second time counts (test/transport/read-ahead.test.ts shows it alone). Until then a mapping shows, byte by byte, what any version
 * since the last revalidation had, or is not there; a mapping that is the host's own file (`coherent`: --passthrough, or no
 * mount at all) shows the newest.
 *
 * The client keeps two rules, without which the result is not defined. Before the host changes the file, its dirty pages are
 * written: they would be written over the change later. Before it changes sizes or ranges, or stores through the mapping, it
 * revalidates: fuse_do_setattr adopts new attributes without a look at the pages. Changes by the host have modification times
 * of their own, as on a kernel with multigrain time stamps. With --writeback the client's kernel owns sizes and times: the
 * host changes nothing there.
 */
import {
  copyFrom,
  copyTo,
  errnoNumber,
  files,
  MAP_SHARED,
  mmap,
  munmap,
  PROT_READ,
  PROT_WRITE,
} from "../../../sys/src/index.ts";
import { succeeded } from "../fs/errors.ts";
import { Random } from "../fuzz/generate.ts";

const EOPNOTSUPP = errnoNumber("EOPNOTSUPP");
const MAX_BYTES = 128 * 1024;
const LONG_BYTES = 32 * 1024;
const SHORT_BYTES = 3000;
const FALLOC_PUNCH_HOLE_KEEP_SIZE = files.FALLOC_FL_PUNCH_HOLE | files.FALLOC_FL_KEEP_SIZE;
const FALLOC_ZERO_KEEP_SIZE = files.FALLOC_FL_ZERO_RANGE | files.FALLOC_FL_KEEP_SIZE;
/** Versions of a file that a mapping may show: beyond, the client revalidates. */
const MAX_VERSIONS = 4;
/**
 * The kernel counts the attributes' time-out in whole jiffies, and from the end of the one that it is in (attr_timeout(),
 * time_before64()): 10 ms are up to 16 with HZ=250, and up to 20 with HZ=100.
 */
const ROUNDED_MS = 20;
/** Modification times of the host's changes begin here, in seconds. */
const HOST_TIMES = 1_000_000_000n;

const clientKinds = [
  "write",
  "write",
  "append",
  "truncate",
  "punch",
  "zero",
  "allocate",
  "copy",
  "reopen",
  "sync",
  "stat",
  "read",
  "read",
  "mapped read",
  "mapped read",
  "mapped write",
] as const;
const hostKinds = ["write", "truncate", "punch", "append"] as const;

/** One operation. `at`, `length` and `value` mean what its kind makes of them. */
export type Operation = { readonly at: number; readonly length: number; readonly value: number } & (
  | { readonly by: "client"; readonly kind: (typeof clientKinds)[number] }
  | { readonly by: "host"; readonly kind: (typeof hostKinds)[number] }
);

export type FsxPlace = {
  /** The file, as the client names it; made anew. */
  readonly path: string;
  /** The same file underneath, and how often the host changes it: once in so many operations. Null: never. */
  readonly host: { readonly path: string; readonly each: number; readonly attributesMs: number } | null;
  /** A mapping is the host's own file. */
  readonly coherent: boolean;
};

export type FsxFigures = {
  readonly operations: number;
  /** What the file system does not have (fallocate through libfuse 2). */
  readonly unsupported: number;
  /** The first difference, or null. */
  readonly wrong: string | null;
};

/** The operations of a seed, without end. */
export function* operationsOf(seed: number, hostEach: number | null): Generator<Operation> {
  const random = new Random(seed);
  for (;;) {
    const at = random.below(MAX_BYTES);
    const longest = random.below(4) === 0 ? LONG_BYTES : SHORT_BYTES;
    const length = 1 + random.below(Math.min(MAX_BYTES - at, longest));
    const what = { at, length, value: random.below(256) };
    if (hostEach !== null && random.below(hostEach) === 0) {
      yield { by: "host", kind: random.pick(hostKinds), ...what };
    } else yield { by: "client", kind: random.pick(clientKinds), ...what };
  }
}

type Version = { readonly bytes: Uint8Array; readonly size: number };

/** One file, and what it must hold. */
class Tester {
  readonly #place: FsxPlace;
  readonly #file: Uint8Array;
  readonly #model = new Uint8Array(MAX_BYTES);
  #size = 0;
  #fd: number;
  readonly #hostFd: number | null;
  #mapping = 0n;
  #isDirty = false;
  /** The host has changed the file since the client's last revalidation. */
  #isStale = false;
  #versions: Version[] = [];
  #hostChanges = 0n;
  unsupported = 0;

  constructor(place: FsxPlace) {
    this.#place = place;
    this.#file = files.pathBytes(place.path);
    this.#fd = this.#open(files.O_CREAT | files.O_TRUNC);
    this.#map();
    this.#hostFd =
      place.host === null
        ? null
        : succeeded(files.openat(files.AT_FDCWD, files.pathBytes(place.host.path), files.O_RDWR));
  }

  close(): void {
    munmap(this.#mapping, MAX_BYTES);
    files.close(this.#fd);
    if (this.#hostFd !== null) files.close(this.#hostFd);
  }

  /** Does it, and says what is wrong, or null. */
  apply(operation: Operation): string | null {
    if (operation.by === "host") {
      this.#byHost(operation);
      return null;
    }
    const { kind, at, length, value } = operation;
    switch (kind) {
      case "write":
        return this.#write(at, length, value);
      case "append":
        return this.#append(length, value);
      case "truncate":
        this.#revalidate();
        succeeded(files.ftruncate(this.#fd, BigInt(at)));
        this.#resize(at);
        return null;
      case "punch":
        return this.#range(FALLOC_PUNCH_HOLE_KEEP_SIZE, at, length);
      case "zero":
        return this.#range(FALLOC_ZERO_KEEP_SIZE, at, length);
      case "allocate":
        return this.#range(files.FALLOC_FL_KEEP_SIZE, at, length);
      case "copy":
        return this.#copy(at, length, value);
      case "reopen":
        this.#reopen();
        return null;
      case "sync":
        this.#sync();
        return null;
      case "stat":
        return this.#stat();
      case "read":
        return this.#read(at, length);
      case "mapped read":
        return this.#mappedRead(at, length);
      case "mapped write":
        return this.#mappedWrite(at, length, value);
      default:
        return kind satisfies never;
    }
  }

  /** The whole file, at the end. */
  whole(): string | null {
    return this.#stat() ?? this.#read(0, MAX_BYTES);
  }

  #open(flags: number): number {
    return succeeded(files.openat(files.AT_FDCWD, this.#file, files.O_RDWR | flags, 0o600));
  }

  #map(): void {
    const prot = PROT_READ | PROT_WRITE;
    this.#mapping = mmap({ lengthBytes: MAX_BYTES, prot, flags: MAP_SHARED, fd: this.#fd });
  }

  #reopen(): void {
    munmap(this.#mapping, MAX_BYTES);
    succeeded(files.close(this.#fd));
    this.#fd = this.#open(0);
    this.#map();
    this.#isDirty = false;
  }

  #sync(): void {
    succeeded(files.fdatasync(this.#fd));
    this.#isDirty = false;
  }

  #resize(size: number): void {
    if (size < this.#size) this.#model.fill(0, size, this.#size);
    this.#size = size;
  }

  #put(at: number, data: Uint8Array): void {
    this.#model.set(data, at);
    this.#size = Math.max(this.#size, at + data.length);
  }

  #clear(at: number, length: number): void {
    this.#model.fill(0, at, Math.min(at + length, this.#size));
  }

  #sizeNow(): number {
    const out = new Uint8Array(files.STATX_BYTES);
    succeeded(files.statx(this.#fd, files.EMPTY_PATH, files.AT_EMPTY_PATH, files.STATX_BASIC_STATS, out));
    return Number(new DataView(out.buffer).getBigUint64(files.STATX_AT.size, true));
  }

  #seen(): void {
    this.#isStale = false;
    this.#versions = [];
  }

  #revalidate(): void {
    if (!this.#isStale) return;
    this.#sizeNow();
    this.#sizeNow();
    this.#seen();
  }

  #stat(): string | null {
    this.#revalidate();
    const size = this.#sizeNow();
    this.#seen();
    return size === this.#size ? null : `size ${size}, not ${this.#size}`;
  }

  #write(at: number, length: number, value: number): string | null {
    const data = new Uint8Array(length).fill(value);
    const written = succeeded(files.pwrite(this.#fd, data, BigInt(at)));
    this.#put(at, data);
    // It is in every version that a mapping may show.
    for (const version of this.#versions) version.bytes.set(data, at);
    return written === length ? null : `wrote ${written} of ${length} at ${at}`;
  }

  #append(length: number, value: number): string | null {
    this.#revalidate();
    const at = this.#size;
    const data = new Uint8Array(Math.min(length, MAX_BYTES - at)).fill(value);
    if (data.length === 0) return null;
    const written = succeeded(files.pwritev2(this.#fd, data, 0n, files.RWF_APPEND));
    this.#put(at, data);
    return written === data.length ? null : `appended ${written} of ${data.length}`;
  }

  #range(mode: number, at: number, length: number): string | null {
    this.#revalidate();
    const result = files.fallocate(this.#fd, mode, BigInt(at), BigInt(length));
    if (result === -EOPNOTSUPP) {
      // Zeroes are refused by tmpfs, too.
      if (mode !== FALLOC_ZERO_KEEP_SIZE) this.unsupported += 1;
      return null;
    }
    succeeded(result);
    if (mode !== files.FALLOC_FL_KEEP_SIZE) this.#clear(at, length);
    return null;
  }

  /** Within the file, to a place that does not overlap. */
  #copy(at: number, length: number, value: number): string | null {
    this.#revalidate();
    const to = (at + LONG_BYTES + value * 256) % MAX_BYTES;
    const count = Math.min(length, this.#size - at, MAX_BYTES - to);
    if (count <= 0 || Math.abs(to - at) < count) return null;
    const from = { fd: this.#fd, offset: BigInt(at) };
    const copied = files.copyFileRange(from, { fd: this.#fd, offset: BigInt(to) }, BigInt(count));
    if (copied === -EOPNOTSUPP) {
      this.unsupported += 1;
      return null;
    }
    succeeded(copied);
    this.#put(to, this.#model.slice(at, at + copied));
    return null;
  }

  #read(at: number, length: number): string | null {
    if (this.#isStale) this.#sizeNow();
    const into = new Uint8Array(length);
    const got = succeeded(files.pread(this.#fd, into, BigInt(at)));
    this.#seen();
    const expected = this.#model.subarray(at, Math.max(at, Math.min(at + length, this.#size)));
    return difference("read", at, into.subarray(0, got), expected);
  }

  #mappedRead(at: number, length: number): string | null {
    const count = Math.min(length, this.#size - at);
    if (count <= 0) return null;
    const into = new Uint8Array(count);
    const result = copyFrom(this.#mapping + BigInt(at), into);
    if (result < 0)
      return this.#versions.length > 0 ? null : `a mapped page of ${count} at ${at} is not there`;
    const all = [{ bytes: this.#model, size: this.#size }, ...this.#versions];
    for (let i = 0; i < count; i += 1) {
      if (all.some(({ bytes }) => bytes[at + i] === into[i])) continue;
      return `mapped ${count} at ${at}: byte ${at + i} is ${into[i]}, not ${this.#model[at + i]}`;
    }
    return null;
  }

  #mappedWrite(at: number, length: number, value: number): string | null {
    this.#revalidate();
    const count = Math.min(length, this.#size - at);
    if (count <= 0) return null;
    const data = new Uint8Array(count).fill(value);
    const result = copyTo(this.#mapping + BigInt(at), data);
    if (result < 0) return `a mapped page of ${count} at ${at} cannot be written`;
    this.#put(at, data);
    this.#isDirty = true;
    return null;
  }

  #byHost({ kind, at, length, value }: Extract<Operation, { by: "host" }>): void {
    const { host, coherent } = this.#place;
    const fd = this.#hostFd;
    if (host === null || fd === null) return;
    if (this.#isDirty) this.#sync();
    if (this.#versions.length >= MAX_VERSIONS) this.#revalidate();
    if (!coherent) this.#versions.push({ bytes: this.#model.slice(), size: this.#size });
    switch (kind) {
      case "truncate":
        succeeded(files.ftruncate(fd, BigInt(at)));
        this.#resize(at);
        break;
      case "punch":
        succeeded(files.fallocate(fd, FALLOC_PUNCH_HOLE_KEEP_SIZE, BigInt(at), BigInt(length)));
        this.#clear(at, length);
        break;
      case "write":
      case "append": {
        const from = kind === "write" ? at : this.#size;
        const data = new Uint8Array(Math.min(length, MAX_BYTES - from)).fill(value);
        succeeded(files.pwrite(fd, data, BigInt(from)));
        this.#put(from, data);
        break;
      }
      default:
        kind satisfies never;
    }
    this.#hostChanges += 1n;
    const times = {
      access: { seconds: 0n, nanoseconds: files.UTIME_OMIT },
      modification: { seconds: HOST_TIMES + this.#hostChanges, nanoseconds: 0 },
    };
    succeeded(files.utimensat(files.AT_FDCWD, files.pathBytes(host.path), times, 0));
    this.#isStale = true;
    if (host.attributesMs > 0) sleep(host.attributesMs + ROUNDED_MS);
  }
}

const clock = new Int32Array(new SharedArrayBuffer(4));

function sleep(ms: number): void {
  Atomics.wait(clock, 0, 0, ms);
}

function difference(what: string, at: number, seen: Uint8Array, expected: Uint8Array): string | null {
  if (Buffer.compare(seen, expected) === 0) return null;
  const first = expected.findIndex((byte, i) => byte !== seen[i]);
  const where =
    first < 0 ? "more than there is" : `byte ${at + first} is ${seen[first]}, not ${expected[first]}`;
  return `${what} at ${at}: got ${seen.length}, expected ${expected.length}; ${where}`;
}

/** Runs operations on a fresh file until the first difference. */
export function replay(place: FsxPlace, operations: Iterable<Operation>): FsxFigures {
  const tester = new Tester(place);
  let count = 0;
  try {
    for (const operation of operations) {
      const wrong = attempted(() => tester.apply(operation));
      const title = `operation ${count}, ${operation.by} ${operation.kind}`;
      if (wrong !== null) {
        return { operations: count, unsupported: tester.unsupported, wrong: `${title}: ${wrong}` };
      }
      count += 1;
    }
    const wrong = attempted(() => tester.whole());
    return {
      operations: count,
      unsupported: tester.unsupported,
      wrong: wrong === null ? null : `at the end: ${wrong}`,
    };
  } finally {
    tester.close();
  }
}

function attempted(work: () => string | null): string | null {
  try {
    return work();
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

function* first<T>(count: number, from: Iterable<T>): Generator<T> {
  let left = count;
  for (const one of from) {
    if (left === 0) return;
    left -= 1;
    yield one;
  }
}

/** The first `count` operations of a seed. */
export function seeded(place: FsxPlace, seed: number, count: number): Iterable<Operation> {
  return first(count, operationsOf(seed, place.host?.each ?? null));
}

/** Runs `operations` operations of `seed` on a fresh file at `path`, by the client alone. */
export function fsx(path: string, seed: number, operations: number): FsxFigures {
  const place = { path, host: null, coherent: false };
  const { wrong, ...figures } = replay(place, seeded(place, seed, operations));
  return { ...figures, wrong: wrong === null ? null : `seed ${seed}, ${wrong}` };
}

/**
 * Fewer operations that fail as well: leaves out parts, halves first, while what is left still fails.
 * @param untilMs of performance.now(): the shortest list by then
 */
export function shrunk(
  operations: readonly Operation[],
  fails: (operations: readonly Operation[]) => boolean,
  untilMs: number,
): readonly Operation[] {
  let best = operations;
  let part = Math.ceil(best.length / 2);
  while (part >= 1) {
    let isShorter = false;
    for (let at = 0; at < best.length && performance.now() < untilMs; ) {
      const fewer = [...best.slice(0, at), ...best.slice(at + part)];
      if (fewer.length > 0 && fails(fewer)) {
        best = fewer;
        isShorter = true;
      } else at += part;
    }
    if (performance.now() >= untilMs) break;
    if (part === 1 && !isShorter) break;
    if (part > 1) part = Math.ceil(part / 2);
  }
  return best;
}
