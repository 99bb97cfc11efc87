/**
 * The front-end's side of a connection, for hostile ones: a socket, memory with guards around it, descriptors of every kind, the
 * back-end's channel. Blocking: the server is another process. Every wait is bounded.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  connectUnix,
  eventfd,
  files,
  MAP_SHARED,
  memfdCreate,
  mmap,
  munmap,
  PAGE_SIZE,
  PROT_READ,
  PROT_WRITE,
  receiveWithDescriptors,
  sendWithDescriptors,
  signalEventfd,
  socketPair,
  viewOf,
} from "../../../sys/src/index.ts";
import { HEADER_BYTES } from "../transport/vhost-user/protocol.ts";
import type { GuestRegion } from "../transport/virtio/memory.ts";
import type { Random } from "./generate.ts";
import {
  DESCRIPTORS,
  type DescriptorKind,
  type HostileMessage,
  type Place,
  payloadBytesOf,
} from "./vhost-messages.ts";

/** By which memory of the fuzz is known in /proc/PID/maps. */
export const MEMORY_NAME = "daxfault-fuzz-ram";
const GUARD = 0xa5;
/** Regions of the guest: two that adjoin for it and not here, and one high above. */
const PLACES: readonly Place[] = [
  { gpa: 0n, lengthBytes: 32_768n, fdOffset: 4096n },
  { gpa: 32_768n, lengthBytes: 16_384n, fdOffset: 40_960n },
  { gpa: 2n ** 32n + 4096n, lengthBytes: 16_384n, fdOffset: 61_440n },
];
/** Rings and tables: the first pages of the first one. */
const RINGS_AT = 4096;
const RINGS_BYTES = 0x3000;
const MEMORY_BYTES = 81_920;
const HUGE_BYTES = 2n ** 42n;
/** A file with a name, which is no RAM: as one in another device's DAX window. */
export const HOST_FILE_BYTES = 16_384n;
/** Longer than any bound of the server's own: the channel's, of a request in a call of the source. */
const BOUND_MS = 20_000;
/** More than any answer has. */
const MAX_REPLY_BYTES = 4096;

export type Reply = { readonly request: number; readonly payload: Buffer };

function filled(fd: number): number {
  files.write(fd, new Uint8Array(new BigUint64Array([2n ** 64n - 2n]).buffer));
  return fd;
}

/** What descriptors lead to; made once, for all connections. */
export class Descriptors {
  readonly memory: number = memfdCreate(MEMORY_NAME);
  readonly hostFile: number;
  readonly #apart: string = mkdtempSync(join(tmpdir(), "daxfault-fuzz-"));
  readonly #fds: Readonly<Record<Exclude<DescriptorKind, "channel" | "eventfd">, number>>;
  readonly #pipe: readonly number[];

  constructor(folder: string, file: string) {
    files.ftruncate(this.memory, BigInt(MEMORY_BYTES));
    const other = memfdCreate(MEMORY_NAME);
    files.ftruncate(other, BigInt(MEMORY_BYTES));
    const small = memfdCreate(MEMORY_NAME);
    files.ftruncate(small, BigInt(PAGE_SIZE));
    const huge = memfdCreate(MEMORY_NAME);
    files.ftruncate(huge, HUGE_BYTES);
    this.#pipe = socketPair();
    this.hostFile = this.#newFile();
    const open = (path: string, flags: number): number =>
      files.openat(files.AT_FDCWD, files.pathBytes(path), flags | files.O_CLOEXEC);
    this.#fds = {
      memory: this.memory,
      "other memory": other,
      "small memory": small,
      "huge memory": huge,
      "full eventfd": filled(eventfd()),
      pipe: this.#pipe[0] ?? -1,
      "null device": open("/dev/null", files.O_RDWR),
      folder: open(folder, files.O_RDONLY),
      "file to read": open(file, files.O_RDONLY),
    };
    const missing = DESCRIPTORS.find((kind) => kind in this.#fds && this.of(kind) < 0);
    if (missing !== undefined) throw new Error(`no descriptor of kind ${missing}`);
  }

  #newFile(): number {
    const path = files.pathBytes(join(this.#apart, "file"));
    const fd = files.openat(files.AT_FDCWD, path, files.O_RDWR | files.O_CREAT | files.O_CLOEXEC, 0o600);
    if (fd < 0) throw new Error("no file in the directory of temporary files");
    return fd;
  }

  /** A new one is the caller's, to close. */
  of(kind: DescriptorKind): number {
    return kind === "channel" || kind === "eventfd" ? -1 : this.#fds[kind];
  }

  close(): void {
    for (const fd of new Set([...Object.values(this.#fds), ...this.#pipe, this.hostFile])) files.close(fd);
    rmSync(this.#apart, { recursive: true });
  }
}

/** The connection is over: the server has closed it. */
export class Closed extends Error {
  override readonly name = "Closed";
}

export class VhostPeer {
  readonly regions: readonly GuestRegion[];
  readonly places: readonly Place[] = PLACES;
  readonly kicks: readonly number[] = [eventfd(), eventfd()];
  readonly calls: readonly number[] = [eventfd(), eventfd()];
  readonly #socket: number;
  readonly #descriptors: Descriptors;
  readonly #random: Random;
  readonly #address: bigint;
  readonly #memory: Uint8Array;
  readonly #held: number[] = [];
  #channel = -1;
  /** How the next requests on the channel are answered. */
  isChannelHostile = false;

  constructor(path: string, descriptors: Descriptors, random: Random) {
    this.#socket = connectUnix(path);
    this.#descriptors = descriptors;
    this.#random = random;
    const prot = PROT_READ | PROT_WRITE;
    this.#address = mmap({ lengthBytes: MEMORY_BYTES, prot, flags: MAP_SHARED, fd: descriptors.memory });
    this.#memory = viewOf(this.#address, MEMORY_BYTES);
    this.#memory.fill(GUARD);
    this.regions = PLACES.map(({ gpa, lengthBytes, fdOffset }) => {
      const bytes = this.#memory.subarray(Number(fdOffset), Number(fdOffset + lengthBytes)).fill(0);
      return { kind: "ram", gpa, bytes };
    });
  }

  /** Whether the bytes that are in no region are as they were. */
  areGuardsIntact(): boolean {
    let from = 0;
    for (const { fdOffset, lengthBytes } of PLACES) {
      if (this.#memory.subarray(from, Number(fdOffset)).some((byte) => byte !== GUARD)) return false;
      from = Number(fdOffset + lengthBytes);
    }
    return this.#memory.subarray(from).every((byte) => byte === GUARD);
  }

  /** Random bytes over rings and tables, as a vCPU stores them that heeds no rule. */
  scribble(stores: number): void {
    const random = this.#random;
    for (let left = stores; left > 0; left -= 1) {
      this.#memory[RINGS_AT + random.below(RINGS_BYTES)] = random.below(3) === 0 ? 0 : random.below(256);
    }
  }

  /** Makes the file of the host's that long. */
  cutHostFile(sizeBytes: bigint): number {
    const { hostFile } = this.#descriptors;
    files.ftruncate(hostFile, sizeBytes);
    return hostFile;
  }

  kick(queue: number): void {
    signalEventfd(this.kicks[queue] ?? -1);
  }

  /** Throws a Closed. */
  send({ bytes, cut, descriptors, own }: HostileMessage): void {
    const fds = [...descriptors.map((kind) => this.#descriptor(kind)), ...(own === undefined ? [] : [own])];
    const isFirst = cut === 0 || this.#random.below(2) === 0;
    if (cut > 0) this.#sendPiece(bytes.subarray(0, cut), isFirst ? fds : []);
    this.#sendPiece(bytes.subarray(cut), cut > 0 && isFirst ? [] : fds);
    for (const fd of this.#held.splice(0)) files.close(fd);
  }

  #sendPiece(bytes: Uint8Array, fds: readonly number[]): void {
    if (sendWithDescriptors(this.#socket, bytes, fds) !== bytes.length) throw new Closed();
  }

  #descriptor(kind: DescriptorKind): number {
    if (kind === "eventfd") {
      const fd = eventfd();
      this.#held.push(fd);
      return fd;
    }
    if (kind !== "channel") return this.#descriptors.of(kind);
    const [ours, theirs] = socketPair();
    this.#held.push(theirs);
    if (this.#channel >= 0) files.close(this.#channel);
    this.#channel = ours;
    return theirs;
  }

  /** The next answer. Throws a Closed, or an Error that says that there was none. */
  receive(): Reply {
    const head = this.#read(HEADER_BYTES);
    const lengthBytes = payloadBytesOf(head);
    if (lengthBytes > MAX_REPLY_BYTES) throw new Error(`an answer of ${lengthBytes} bytes`);
    return { request: head.readUInt32LE(0), payload: this.#read(lengthBytes) };
  }

  #read(count: number): Buffer {
    const into = Buffer.alloc(count);
    for (let at = 0; at < count; ) {
      this.#awaitSocket();
      const { lengthBytes, fds } = receiveWithDescriptors(this.#socket, into.subarray(at));
      for (const fd of fds) files.close(fd);
      if (lengthBytes <= 0) throw new Closed();
      at += lengthBytes;
    }
    return into;
  }

  #awaitSocket(): void {
    for (const begin = performance.now(); ; ) {
      const ready = files.pollAny([this.#socket, ...(this.#channel < 0 ? [] : [this.#channel])], 1000);
      if (Array.isArray(ready) && ready.includes(this.#socket)) return;
      if (Array.isArray(ready) && ready.length > 0) this.#answerChannel();
      if (performance.now() - begin > BOUND_MS) throw new Error(`no answer within ${BOUND_MS} ms`);
    }
  }

  /** Answers what is asked for on the channel within so many milliseconds. */
  #serveChannel(withinMs: number): void {
    if (this.#channel >= 0 && files.pollReadable(this.#channel, withinMs) === 1) this.#answerChannel();
  }

  /** Waits until `isThere`. False: it did not come within the bound. */
  until(isThere: () => boolean): boolean {
    for (const begin = performance.now(); !isThere(); ) {
      if (performance.now() - begin > BOUND_MS) return false;
      if (this.#channel >= 0) this.#serveChannel(1);
      else files.pollAny(this.calls, 1);
    }
    return true;
  }

  #answerChannel(): void {
    const random = this.#random;
    const request = Buffer.alloc(512);
    const { lengthBytes, fds } = receiveWithDescriptors(this.#channel, request);
    for (const fd of fds) files.close(fd);
    const isHostile = this.isChannelHostile && random.below(3) === 0;
    if (lengthBytes <= 0 || (isHostile && random.below(3) === 0)) {
      files.close(this.#channel);
      this.#channel = -1;
      return;
    }
    const answer = Buffer.alloc(HEADER_BYTES + 8);
    answer.writeUInt32LE(request.readUInt32LE(0), 0);
    answer.writeUInt32LE(5, 4);
    answer.writeUInt32LE(8, 8);
    answer.writeBigUInt64LE(BigInt(random.below(4) === 0 ? 1 : 0), HEADER_BYTES);
    if (isHostile) answer[random.below(answer.length)] = random.below(256);
    const extra = isHostile ? Buffer.alloc(random.below(40), random.below(256)) : Buffer.alloc(0);
    sendWithDescriptors(this.#channel, Buffer.concat([answer, extra]), []);
  }

  close(): void {
    for (const fd of [this.#socket, this.#channel, ...this.kicks, ...this.calls, ...this.#held]) {
      if (fd >= 0) files.close(fd);
    }
    munmap(this.#address, MEMORY_BYTES);
  }
}
