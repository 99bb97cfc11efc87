/** Anonymous memory in place of the lost page: the guest goes on and reads zeros, and its stores go nowhere. */
import {
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_PRIVATE,
  mmap,
  PAGE_SIZE,
  PROT_READ,
  PROT_WRITE,
} from "../../../sys/src/index.ts";
import { WINDOW_BASE } from "../guest/channel.ts";
import { type FaultContext, type FaultPolicy, hex, resume, stop } from "./policy.ts";

/** Host virtual address of the page that the access is about, or null if it is not in the window. */
export function faultingPage({ access, window }: FaultContext): bigint | null {
  if (access === null) return null;
  const offset = access.gpa - WINDOW_BASE;
  if (offset < 0n || offset >= BigInt(window.sizeBytes)) return null;
  return window.hva + (offset & ~BigInt(PAGE_SIZE - 1));
}

/** Puts fresh zeros over one page. */
export function mapZeroPage(hva: bigint): void {
  mmap({
    address: hva,
    lengthBytes: PAGE_SIZE,
    prot: PROT_READ | PROT_WRITE,
    flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
  });
}

export const remapZero: FaultPolicy = {
  name: "remap-zero",
  prepare() {},
  onFault(context) {
    const hva = faultingPage(context);
    if (hva === null) return stop("the access is not in the window");
    mapZeroPage(hva);
    return resume(`anonymous page at hva ${hex(hva)}`);
  },
};
