/**
 * A DAX window that is mapped, as QEMU has one: what is mapped into it are files, and what is unmapped stays so until the VMM has
 * committed the change, and then until each vCPU that was using the old view has had a turn (RCU's grace period): by what the
 * vCPUs did, not by the clock, for one that has no processor meanwhile touches nothing. Two threads load from all of it, again
 * and again.
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
/** Words that they share (spinning.mjs), before a counter of turns for each. */
const COMMON_WORDS = 3;
/** Who has had no turn for that long is halted, and uses nothing. */
const GRACE_BOUND_MS = 2000;
const PROT = PROT_READ | PROT_WRITE;
const NOTHING = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

/** What is still mapped after its SHMEM_UNMAP was answered. */
type OldView = {
  readonly request: ShmemRequest;
  readonly commitMs: number;
  /** Of each vCPU, as it is committed. */
  turns: readonly number[] | null;
};

export class MappedWindow {
  readonly address: bigint;
  readonly #lengthBytes: number;
  readonly #commitMs: number;
  readonly #counts = new SharedArrayBuffer(4 * (COMMON_WORDS + VCPUS));
  readonly #words = new Int32Array(this.#counts);
  #late: OldView[] = [];
  #vcpus: readonly Worker[] = [];
  /** Mappings that were asked for. */
  maps = 0;

  /** @param commitMs what the VMM takes from its answer to its commit */
  constructor(lengthBytes: number, commitMs: number) {
    this.#lengthBytes = lengthBytes;
    this.#commitMs = commitMs;
    this.address = mmap({ lengthBytes, prot: PROT, flags: NOTHING });
  }

  /** Answers as QEMU: at once. */
  answer(request: ShmemRequest): bigint {
    if (request.kind === "unmap") {
      this.#late.push({ request, commitMs: performance.now() + this.#commitMs, turns: null });
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

  /** Unmaps what nobody can be using any more. */
  turn(): void {
    const over = this.#late.filter((view) => this.#isOver(view));
    for (const { request } of over) this.#unmap(request);
    this.#late = this.#late.filter((view) => !over.includes(view));
  }

  #isOver(view: OldView): boolean {
    const nowMs = performance.now();
    if (nowMs < view.commitMs) return false;
    const now = Array.from({ length: VCPUS }, (_, vcpu) => Atomics.load(this.#words, COMMON_WORDS + vcpu));
    view.turns ??= now;
    const { turns } = view;
    return nowMs > view.commitMs + GRACE_BOUND_MS || now.every((count, vcpu) => count !== turns[vcpu]);
  }

  #unmap({ windowOffset, lengthBytes }: ShmemRequest): void {
    const place = { address: this.address + windowOffset, lengthBytes: Number(lengthBytes) };
    mmap({ ...place, prot: PROT, flags: NOTHING | MAP_FIXED });
  }

  /** @param pages from the beginning of the window */
  async spin(pages: number): Promise<void> {
    const common = { address: this.address, pages, counts: this.#counts };
    this.#vcpus = Array.from({ length: VCPUS }, (_, vcpu) => {
      const workerData = { ...common, turns: COMMON_WORDS + vcpu };
      return new Worker(SPINNING, { workerData });
    });
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
