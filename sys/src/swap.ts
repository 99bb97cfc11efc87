/**
 * Swap: lists the swap areas, adds one, and pages memory out.
 *
 * `swapOn` changes the machine: only the agent inside a VM of its own may call it.
 */
import { closeSync, ftruncateSync, openSync, readFileSync, readSync, writeSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { type Address, check, declare, viewOf } from "./libc.ts";
import { isPageThere, PAGE_SIZE } from "./memory.ts";

const cSwapon = declare<(path: string, flags: number) => number>("int swapon(const char *path, int flags)");
const cMadvise = declare<(address: Address, length: bigint, advice: number) => number>(
  "int madvise(uint64 address, uint64 length, int advice)",
);
const cMincore = declare<(address: Address, length: bigint, vector: Uint8Array) => number>(
  "int mincore(uint64 address, uint64 length, void *vector)",
);
/** Linux 5.4 (asm-generic/mman-common.h). */
const MADV_PAGEOUT = 21;

const SWAPS = "/proc/swaps";
const ZSWAP = "/sys/module/zswap/parameters/enabled";

/** The areas that are on, by path or device: the first column of /proc/swaps. */
export function parseSwaps(text: string): readonly string[] {
  return text
    .split("\n")
    .slice(1)
    .flatMap((line) => line.split(/\s+/, 1))
    .filter((path) => path !== "");
}

/** Of a file, without the line's end; null if it cannot be read. */
function textOf(path: string): string | null {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return null;
  }
}

/**
 * Why a page that is swapped out here would not need I/O to come back; null if it would.
 * What lies in memory, compressed or not, comes back without it: zram, a RAM disk, zswap.
 */
export function swapRefusal(
  swaps: string | null = textOf(SWAPS),
  zswap: string | null = textOf(ZSWAP),
): string | null {
  if (swaps === null) return "the kernel has no swap (CONFIG_SWAP)";
  const areas = parseSwaps(swaps);
  if (areas.length === 0) return `no swap is on (${SWAPS} is empty)`;
  const inMemory = areas.find((path) => /^\/dev\/z?ram\d/.test(path));
  if (inMemory !== undefined) return `the swap on ${inMemory} is memory: coming back from there is no I/O`;
  if (zswap === "Y") return "zswap keeps what is swapped out in memory: coming back from there is no I/O";
  return null;
}

/** union swap_header (include/linux/swap.h), version 1; the kernel finds it by its last ten bytes. */
function swapHeader(pages: number): Uint8Array {
  const header = Buffer.alloc(PAGE_SIZE);
  header.writeUInt32LE(1, 1024);
  header.writeUInt32LE(pages - 1, 1028);
  header.write("SWAPSPACE2", PAGE_SIZE - 10, "latin1");
  return header;
}

/** Makes the image of a disk to swap to, as truncate(1) and mkswap(8) would: it takes no room until it is used. */
export function makeSwapImage(path: string, sizeBytes: number): void {
  const fd = openSync(path, "wx", 0o600);
  try {
    ftruncateSync(fd, sizeBytes);
    writeSync(fd, swapHeader(sizeBytes / PAGE_SIZE), 0, PAGE_SIZE, 0);
  } finally {
    closeSync(fd);
  }
}

/** swapon(2). Needs root. Throws a SyscallError: EINVAL for what has no swap header. */
export function swapOn(path: string): void {
  check("swapon", cSwapon(path, 0), path);
}

/** Of the pages of a mapping, those that are in memory: mapped, in the page cache, or in the swap cache. */
export function residentPages(address: Address, lengthBytes: number): readonly number[] {
  const vector = new Uint8Array(lengthBytes / PAGE_SIZE);
  check("mincore", cMincore(address, BigInt(lengthBytes), vector));
  return [...vector.keys()].filter((page) => ((vector[page] ?? 0) & 1) === 1);
}

const PAGE_OUT_ROUNDS = 200;
const PAGE_OUT_PAUSE_MS = 10;

/** What cannot be paged out, as far as it was tried. */
export class PageOutError extends Error {
  override readonly name = "PageOutError";
}

/** Gives a private mapping of a file, page for page, copies of the file's own bytes: from now on anonymous memory. */
export function fillWithCopies(address: Address, lengthBytes: number, fd: number): void {
  const count = readSync(fd, viewOf(address, lengthBytes), 0, lengthBytes, 0);
  if (count !== lengthBytes) throw new RangeError(`the file has ${count} of ${lengthBytes} bytes`);
}

/**
 * Has private pages written to swap and taken out of memory. Rejects with a PageOutError if some stay.
 *
 * MADV_PAGEOUT only starts the writing; until it is done, and after it, the page stays in the swap cache, where a fault
 * finds it without I/O. So what is still in memory is touched again, which maps the copy that is clean by now, and
 * advised again: a clean page is dropped at once (shrink_folio_list(), mm/vmscan.c).
 */
export async function pageOut(address: Address, lengthBytes: number): Promise<void> {
  let left: readonly number[] = [];
  for (let round = 0; round < PAGE_OUT_ROUNDS; round += 1) {
    for (const page of left) isPageThere(address + BigInt(page * PAGE_SIZE), "read");
    check("madvise", cMadvise(address, BigInt(lengthBytes), MADV_PAGEOUT), "MADV_PAGEOUT");
    await sleep(PAGE_OUT_PAUSE_MS);
    left = residentPages(address, lengthBytes);
    if (left.length === 0) return;
  }
  throw new PageOutError(
    `${left.length} of ${lengthBytes / PAGE_SIZE} pages are still in memory after ${PAGE_OUT_ROUNDS} rounds of MADV_PAGEOUT`,
  );
}
