/**
 * What becomes of an injected #PF in a Linux guest that knows nothing of the proposal: its own page tables have the page.
 *
 * Mirrors arch/x86/mm/fault.c: do_user_addr_fault() with access_error() for an address of user space, do_kern_addr_fault() with
 * spurious_kernel_fault() for one of the kernel (a DAX file that read(2) and write(2) copy from and to).
 */
import { isStore, modeOf } from "../access.ts";
import type { AccessStep } from "../case.ts";
import type { Machine } from "../machine.ts";

/** `retries`: nothing is wrong, the access is executed again. `bad area`: SIGSEGV, or the exception table. */
export type LinuxFault = "retries" | "bad area";

/** Copies from and to user space fault at the user's address, in kernel mode. */
function isKernelAddress(access: AccessStep): boolean {
  return modeOf(access) === "kernel" && !access.op.startsWith("copy-");
}

export function linuxFault(m: Machine, access: AccessStep): LinuxFault {
  const isProtection = m.case.pfErrorCode === "protection";
  // A write to a read-only page, by a TLB that is flushed lazily: only that is spurious in the kernel's half.
  if (isKernelAddress(access)) return isProtection && isStore(access) ? "retries" : "bad area";
  // "read, present" is an access error; a write is allowed where the VMA is writable.
  return isProtection && !isStore(access) ? "bad area" : "retries";
}
