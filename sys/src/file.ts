/** File calls that Node does not have, or has differently: its `fs.truncate` is open(2) + ftruncate(2). */
import { closeSync, openSync } from "node:fs";
import { check, declare, declareLater, errnoName, lastErrno, viewOf } from "./libc.ts";
import { MAP_SHARED, mmap, munmap, PAGE_SIZE, PROT_READ, PROT_WRITE } from "./memory.ts";

const FALLOC_FL_KEEP_SIZE = 1;
const FALLOC_FL_PUNCH_HOLE = 2;
const FALLOC_FL_COLLAPSE_RANGE = 8;

const cTruncate = declare<(path: string, length: bigint) => number>(
  "int truncate(const char *path, int64 length)",
);
const cFallocate = declare<(fd: number, mode: number, offset: bigint, length: bigint) => number>(
  "int fallocate(int fd, int mode, int64 offset, int64 length)",
);

/** truncate(2): by path, without opening. Throws a SyscallError. */
export function truncate(path: string, sizeBytes: bigint): void {
  check("truncate", cTruncate(path, sizeBytes), `${path} to ${sizeBytes} bytes`);
}

/** fallocate(2) with PUNCH_HOLE | KEEP_SIZE: the range reads as zeros afterwards. Throws a SyscallError. */
export function punchHole(path: string, offset: bigint, lengthBytes: bigint): void {
  fallocateAt(path, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, lengthBytes);
}

/**
 * fallocate(2) with COLLAPSE_RANGE: takes the range out, what is behind it moves down, the file gets shorter.
 * Throws a SyscallError: EINVAL unless both are multiples of the block size, EOPNOTSUPP where there is no such thing.
 */
export function collapseRange(path: string, offset: bigint, lengthBytes: bigint): void {
  fallocateAt(path, FALLOC_FL_COLLAPSE_RANGE, offset, lengthBytes);
}

function fallocateAt(path: string, mode: number, offset: bigint, lengthBytes: bigint): void {
  const fd = openSync(path, "r+");
  try {
    check(
      "fallocate",
      cFallocate(fd, mode, offset, lengthBytes),
      `${path}, ${lengthBytes} bytes at ${offset}`,
    );
  } finally {
    closeSync(fd);
  }
}

/** Writes 8 bytes through a shared mapping of the file. The page must be there, or this process dies of SIGBUS. */
export function storeThroughMapping(path: string, offset: bigint, value: bigint): void {
  const page = BigInt(PAGE_SIZE);
  const inPage = Number(offset % page);
  const lengthBytes = inPage + 8 > PAGE_SIZE ? 2 * PAGE_SIZE : PAGE_SIZE;
  const fd = openSync(path, "r+");
  try {
    const fileOffset = offset - (offset % page);
    const address = mmap({ lengthBytes, prot: PROT_READ | PROT_WRITE, flags: MAP_SHARED, fd, fileOffset });
    const bytes = viewOf(address, lengthBytes);
    new DataView(bytes.buffer, bytes.byteOffset).setBigUint64(inPage, value, true);
    munmap(address, lengthBytes);
  } finally {
    closeSync(fd);
  }
}

const cFallocateLater = declareLater<[number, number, bigint, bigint], number>(
  "int fallocate(int fd, int mode, int64 offset, int64 length)",
);

/**
 * Makes the file at least so long, by fallocate(2) of its last byte: unlike ftruncate(2) it can never make it shorter, whatever
 * others do at the same time. On a thread of libuv's pool. Returns null, or the errno's name.
 */
export async function growTo(fd: number, sizeBytes: bigint): Promise<string | null> {
  const result = await cFallocateLater(fd, 0, sizeBytes - 1n, 1n);
  return result === 0 ? null : errnoName(lastErrno());
}
