/**
 * The guard `sealed`: the guest maps a sealed copy of the file (memfd, F_SEAL_SHRINK), which cannot be truncated.
 * It costs the copy, memory of its size, and sharing: the guest does not see later writes to the file, and its own writes
 * stay in the copy. For read-only content, such as image layers.
 */
import { fstatSync, readSync, writeSync } from "node:fs";
import {
  addSeals,
  F_SEAL_GROW,
  F_SEAL_SEAL,
  F_SEAL_SHRINK,
  files,
  memfdCreate,
} from "../../../sys/src/index.ts";
import {
  type ArmedFile,
  type GuardedFile,
  GuardRefused,
  type MappingHolder,
  type TruncationGuard,
} from "./truncation-guard.ts";

const refusals: Readonly<Record<string, string>> = {
  ENOSPC: "no memory for a copy of the file",
  ENOMEM: "no memory for a copy of the file",
  EMFILE: "no descriptor is left for a copy of the file: raise RLIMIT_NOFILE",
};

const CHUNK_BYTES = 1024 * 1024;

function copyAll(from: number, to: number, sizeBytes: number): void {
  const chunk = new Uint8Array(CHUNK_BYTES);
  for (let at = 0; at < sizeBytes; ) {
    const count = readSync(from, chunk, 0, Math.min(CHUNK_BYTES, sizeBytes - at), at);
    // Truncated during the copy: the copy keeps what was read, followed by zeros.
    if (count === 0) return;
    writeSync(to, chunk, 0, count, at);
    at += count;
  }
}

export class SealedGuard implements TruncationGuard {
  readonly name = "sealed" as const;
  readonly #copies = new Set<number>();

  /** Copies the file: takes as long as reading it. Its holder is never called. */
  arm({ fd }: GuardedFile, _holder: MappingHolder): ArmedFile {
    let copy = -1;
    try {
      const sizeBytes = fstatSync(fd).size;
      copy = memfdCreate("daxfault-sealed");
      files.ftruncate(copy, BigInt(sizeBytes));
      copyAll(fd, copy, sizeBytes);
      addSeals(copy, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    } catch (error) {
      if (copy >= 0) files.close(copy);
      const code = (error as { code?: string }).code ?? null;
      throw new GuardRefused(this.name, (code !== null && refusals[code]) || String(error), code, error);
    }
    this.#copies.add(copy);
    return { fd: copy, disarm: () => this.#close(copy) };
  }

  #close(copy: number): void {
    if (this.#copies.delete(copy)) files.close(copy);
  }

  caughtUp(): Promise<void> {
    return Promise.resolve();
  }

  lost(): Promise<null> {
    return Promise.resolve(null);
  }

  async close(): Promise<void> {
    for (const copy of [...this.#copies]) this.#close(copy);
  }
}
