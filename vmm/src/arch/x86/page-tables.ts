/**
 * Guest page tables: identity, built by the host (SDM vol. 3, 4.5: 4-level paging).
 *
 * Guest virtual = guest physical everywhere. RAM (2 MiB) and the window are mapped with 4 KiB pages: then what KVM
 * maps is decided by the host's mapping alone, and user/supervisor is set page by page.
 */
import { WINDOW_BASE } from "../../guest/channel.ts";
import { machineLayout } from "./layout.ts";

export const PML4_ADDRESS = 0x1000n;
const RAM_PAGE_TABLE = 0x4000n;
const FIRST_WINDOW_PAGE_TABLE = 0x6000n;

/** 32 page tables from 0x6000 to 0x26000, well below the image at 0x40000. */
export const MAX_WINDOW_BYTES: number = 64 * 2 ** 20;

const PRESENT = 1n;
const WRITABLE = 2n;
const USER = 4n;
const PAGE = 4096n;
const TABLE_REACH = 512n * PAGE;

export type UserRange = { readonly start: bigint; readonly end: bigint };

/** Writes the tables into `ram`. `userRanges`: the pages of RAM that CPL 3 may touch. */
export function writePageTables(
  ram: Uint8Array,
  windowBytes: number,
  userRanges: readonly UserRange[],
): void {
  if (windowBytes > MAX_WINDOW_BYTES) {
    throw new RangeError(`window of ${windowBytes} bytes: at most ${MAX_WINDOW_BYTES}`);
  }
  const view = new DataView(ram.buffer, ram.byteOffset, ram.byteLength);
  const set = (table: bigint, index: bigint, entry: bigint) =>
    view.setBigUint64(Number(table + index * 8n), entry, true);
  const all = PRESENT | WRITABLE | USER;
  set(PML4_ADDRESS, 0n, 0x2000n | all);
  set(0x2000n, 0n, 0x3000n | all);
  set(0x2000n, 1n, 0x5000n | all);
  set(0x3000n, 0n, RAM_PAGE_TABLE | all);
  // Page 0 stays unmapped: a null pointer in the guest is an exception, not a silent read.
  for (let address = PAGE; address < machineLayout.RAM_BYTES; address += PAGE) {
    const user = userRanges.some((range) => address >= range.start && address < range.end);
    set(RAM_PAGE_TABLE, address / PAGE, address | PRESENT | WRITABLE | (user ? USER : 0n));
  }
  const window = BigInt(windowBytes);
  for (let offset = 0n; offset < window; offset += PAGE) {
    const table = FIRST_WINDOW_PAGE_TABLE + (offset / TABLE_REACH) * PAGE;
    if (offset % TABLE_REACH === 0n) set(0x5000n, offset / TABLE_REACH, table | all);
    set(table, (offset % TABLE_REACH) / PAGE, (WINDOW_BASE + offset) | all);
  }
}
