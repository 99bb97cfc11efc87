/**
 * The barrier of a recall: when no vCPU of the front-end can reach a part of a file any more.
 *
 * QEMU answers SHMEM_UNMAP before it has committed the change of its memory, and gives the mapping's memory back only when no
 * thread of its own can be using the old view (RCU, virtio_shared_memory_mapping's last reference). So the barrier is that
 * the mapping is gone from its address space: munmap(2) of it has invalidated every secondary page table (mmu notifiers, KVM's
 * among them) before the line leaves /proc/PID/maps. 28 ms on average, measured with QEMU 11.1 under TCG.
 */
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { MAP_SHARED, mmap, munmap, PAGE_SIZE, PROT_NONE } from "../../../../sys/src/index.ts";

const POLL_MS = 1;

/** A line of /proc/PID/maps (proc_pid_maps(5)) of a file. */
export type FileMapping = {
  /** Device and inode as they stand there: not always those of stat(2) (Btrfs, overlayfs). */
  readonly key: string;
  readonly fileOffset: bigint;
  readonly endOffset: bigint;
  readonly start: bigint;
};

export function parseMaps(text: string): readonly FileMapping[] {
  return text.split("\n").flatMap((line) => {
    const found = /^([0-9a-f]+)-([0-9a-f]+) \S+ ([0-9a-f]+) ([0-9a-f]+:[0-9a-f]+) ([0-9]+)/.exec(line);
    const [, from = "0", to = "0", offset = "0", device = "", inode = "0"] = found ?? [];
    if (found === null || inode === "0") return [];
    const [start, fileOffset] = [BigInt(`0x${from}`), BigInt(`0x${offset}`)];
    return [
      { key: `${device} ${inode}`, start, fileOffset, endOffset: fileOffset + BigInt(`0x${to}`) - start },
    ];
  });
}

/** What an open file is called in /proc/PID/maps. */
export function mapsKeyOf(fd: number): string {
  const address = mmap({ lengthBytes: PAGE_SIZE, prot: PROT_NONE, flags: MAP_SHARED, fd });
  try {
    const mapping = parseMaps(readFileSync("/proc/self/maps", "latin1")).find(
      ({ start }) => start === address,
    );
    if (mapping === undefined)
      throw new Error("a file that this process has mapped is not in /proc/self/maps");
    return mapping.key;
  } finally {
    munmap(address, PAGE_SIZE);
  }
}

export class PeerMaps {
  readonly #pid: number;

  /** @param pid of the front-end; 0: it cannot be seen from here */
  constructor(pid: number) {
    this.#pid = pid;
  }

  /** Why the front-end's mappings cannot be seen, with what to do; null: they can. */
  refusal(): string | null {
    if (this.#pid === 0) {
      return "the VMM is in a PID namespace that this server does not see: run both in one, or the server in the outer one";
    }
    try {
      readFileSync(`/proc/${this.#pid}/maps`, "latin1");
      return null;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      return `/proc/${this.#pid}/maps of the VMM cannot be read (${code}): run server and VMM as one user, or give the server CAP_SYS_PTRACE`;
    }
  }

  /**
   * Waits until nothing of the file behind `fromBytes` is mapped there; a process that has ended has nothing mapped.
   * Returns the milliseconds that it took. Rejects after `boundMs`, or where it cannot be seen.
   */
  async vanished(key: string, fromBytes: bigint, boundMs: number): Promise<number> {
    const begin = performance.now();
    for (;;) {
      if (!this.#isMapped(key, fromBytes)) return performance.now() - begin;
      if (performance.now() - begin > boundMs) {
        throw new Error(
          `the VMM (pid ${this.#pid}) has had the file mapped for ${boundMs} ms after it was taken away`,
        );
      }
      await sleep(POLL_MS);
    }
  }

  /** Whether anything of the file is mapped there. */
  hasMapped(key: string): boolean {
    return this.#isMapped(key, 0n);
  }

  #isMapped(key: string, fromBytes: bigint): boolean {
    let text: string;
    try {
      text = readFileSync(`/proc/${this.#pid}/maps`, "latin1");
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "ENOENT" || code === "ESRCH") return false;
      throw new Error(this.refusal() ?? String(error));
    }
    return parseMaps(text).some((mapping) => mapping.key === key && mapping.endOffset > fromBytes);
  }
}
