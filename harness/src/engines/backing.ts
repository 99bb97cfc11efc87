/** Creates the file that a case maps, on the file system that the scenario wants. */
import { closeSync, fchmodSync, ftruncateSync, mkdirSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { contentBytes, firstUnallocated, isOnTmpfs, type Scenario } from "../../../language/src/index.ts";
import {
  MAP_NORESERVE,
  MAP_SHARED,
  mmap,
  mountHugetlbfs,
  mountTmpfs,
  munmap,
  PAGE_SIZE,
  PROT_READ,
  PROT_WRITE,
  populate,
  viewOf,
} from "../../../sys/src/index.ts";

export type Backing = {
  /** The folder that holds the file and nothing else: what the FUSE server serves. */
  readonly sourceDirectory: string;
  readonly filePath: string;
};

const CHUNK_BYTES = 1024 * 1024;
/** Room on a tmpfs for the file's own metadata and for what a scenario may rename over it. */
const TMPFS_SLACK_BYTES = 1024n * 1024n;
const FILL_ROUNDS = 1024;

/** Pieces made before: most cases want the same few, and making one costs more than writing it. */
const pieces = new Map<string, Uint8Array>();
const PIECES_MAX = 16;

function piece(scenario: Scenario, offset: bigint, lengthBytes: number): Uint8Array {
  const key = `${scenario.backing.content}/${offset}/${lengthBytes}`;
  const bytes = pieces.get(key) ?? contentBytes(scenario.backing.content, offset, lengthBytes);
  if (pieces.size < PIECES_MAX) pieces.set(key, bytes);
  return bytes;
}

function writeContent(path: string, scenario: Scenario, lengthBytes: bigint): void {
  const fd = openSync(path, "wx", 0o600);
  try {
    for (let offset = 0n; offset < lengthBytes; offset += BigInt(CHUNK_BYTES)) {
      const rest = lengthBytes - offset;
      const count = rest < BigInt(CHUNK_BYTES) ? Number(rest) : CHUNK_BYTES;
      writeSync(fd, piece(scenario, offset, count), 0, count, Number(offset));
    }
    ftruncateSync(fd, Number(scenario.backing.size));
    // Host actors may be other users, and a task may execute it; the folder above keeps all other users out.
    fchmodSync(fd, 0o777);
  } finally {
    closeSync(fd);
  }
}

/** As `writeContent`, through a mapping: hugetlbfs has no write(2). */
function mapContent(path: string, scenario: Scenario, lengthBytes: bigint): void {
  const fd = openSync(path, "wx+", 0o600);
  const length = Number(lengthBytes);
  try {
    ftruncateSync(fd, Number(scenario.backing.size));
    const address = mmap({
      lengthBytes: length,
      prot: PROT_READ | PROT_WRITE,
      flags: MAP_SHARED | MAP_NORESERVE,
      fd,
    });
    // Faulted in first: a pool without a page for it is an error, no SIGBUS.
    populate(address, length);
    viewOf(address, length).set(contentBytes(scenario.backing.content, 0n, length));
    munmap(address, length);
    fchmodSync(fd, 0o777);
  } finally {
    closeSync(fd);
  }
}

/** Writes to a file beside it until no block is left: first in large pieces, then page by page. */
function fillUp(path: string): void {
  const fd = openSync(path, "wx", 0o600);
  try {
    for (const pieceBytes of [CHUNK_BYTES, PAGE_SIZE]) {
      const piece = Buffer.alloc(pieceBytes, 0x66);
      for (let round = 0; round < FILL_ROUNDS; round += 1) {
        try {
          writeSync(fd, piece);
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
          break;
        }
      }
    }
  } finally {
    closeSync(fd);
  }
}

/**
 * Creates the backing below `directory`.
 * `tmpfs-full`: only the first half of the file is ever written; then another file takes every block that is left,
 * so that touching a page of the second half cannot be satisfied.
 */
export function createBacking(scenario: Scenario, directory: string): Backing {
  const { kind, size } = scenario.backing;
  const room = join(directory, "backing");
  const sourceDirectory = join(room, "source");
  mkdirSync(room);
  if (isOnTmpfs(kind))
    mountTmpfs(room, size + TMPFS_SLACK_BYTES, kind === "tmpfs-huge" ? ["huge=always"] : []);
  if (kind === "hugetlb") mountHugetlbfs(room, firstUnallocated(scenario) ?? size);
  mkdirSync(sourceDirectory);
  const filePath = join(sourceDirectory, "file");
  const write = kind === "hugetlb" ? mapContent : writeContent;
  write(filePath, scenario, firstUnallocated(scenario) ?? size);
  if (kind === "tmpfs-full") fillUp(join(room, "filler"));
  return { sourceDirectory, filePath };
}
