/**
 * A DAX window that is mapped, as QEMU has one: what is mapped into it are files, and what is unmapped stays so for a while, since
 * other threads may be using the old view (RCU). Two threads load from all of it, again and again.
 */
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import {
  files,
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_NORESERVE,
  MAP_PRIVATE,
  MAP_SHARED,
  mmap,
  munmap,
  PROT_READ,
  PROT_WRITE,
} from "../../../sys/src/index.ts";
import type { ShmemRequest } from "./front-end.ts";

const SPINNING = new URL("./spinning.mjs", import.meta.url);
const VCPUS = 2;
const PROT = PROT_READ | PROT_WRITE;
const NOTHING = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

export class MappedWindow {
  readonly address: bigint;
  readonly #lengthBytes: number;
  readonly #delayMs: number;
  readonly #counts = new SharedArrayBuffer(12);
  readonly #words = new Int32Array(this.#counts);
  #late: { readonly atMs: number; readonly request: ShmemRequest }[] = [];
  #vcpus: readonly Worker[] = [];
  /** Mappings that were asked for. */
  maps = 0;

  constructor(lengthBytes: number, delayMs: number) {
    this.#lengthBytes = lengthBytes;
    this.#delayMs = delayMs;
    this.address = mmap({ lengthBytes, prot: PROT, flags: NOTHING });
  }

  /** Answers as QEMU: at once. */
  answer(request: ShmemRequest): bigint {
    if (request.kind === "unmap") {
      this.#late.push({ atMs: performance.now() + this.#delayMs, request });
      return 0n;
    }
    // What was there goes first, as in QEMU's list of memory regions.
    const { windowOffset, lengthBytes, fdOffset, fd } = request;
    const isOver = ({ request: late }: { readonly request: ShmemRequest }): boolean =>
      late.windowOffset < windowOffset + lengthBytes && windowOffset < late.windowOffset + late.lengthBytes;
    this.#late = this.#late.filter((late) => !isOver(late));
    const place = { address: this.address + windowOffset, lengthBytes: Number(lengthBytes) };
    mmap({ ...place, prot: PROT, flags: MAP_SHARED | MAP_FIXED, fd, fileOffset: fdOffset });
    files.close(fd);
    this.maps += 1;
    return 0n;
  }

  /** Unmaps what is due. */
  turn(): void {
    const nowMs = performance.now();
    for (const { atMs, request } of this.#late) if (atMs <= nowMs) this.#unmap(request);
    this.#late = this.#late.filter(({ atMs }) => atMs > nowMs);
  }

  #unmap({ windowOffset, lengthBytes }: ShmemRequest): void {
    const place = { address: this.address + windowOffset, lengthBytes: Number(lengthBytes) };
    mmap({ ...place, prot: PROT, flags: NOTHING | MAP_FIXED });
  }

  /** @param pages from the beginning of the window */
  async spin(pages: number): Promise<void> {
    const workerData = { address: this.address, pages, counts: this.#counts };
    this.#vcpus = Array.from({ length: VCPUS }, () => new Worker(SPINNING, { workerData }));
    await Promise.all(this.#vcpus.map((vcpu) => once(vcpu, "online")));
    while (this.loads < VCPUS * pages) await sleep(1);
  }

  get loads(): number {
    return Atomics.load(this.#words, 0);
  }

  /** Loads of pages that the file had no more: each would have been the VMM's end. */
  get lost(): number {
    return Atomics.load(this.#words, 1);
  }

  async close(): Promise<void> {
    Atomics.store(this.#words, 2, 1);
    await Promise.all(this.#vcpus.map((vcpu) => once(vcpu, "exit")));
    munmap(this.address, this.#lengthBytes);
  }
}
