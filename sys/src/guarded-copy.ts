/**
 * Copies between memory of ours and memory that may not be there: the mapping of a file that another process truncates.
 *
 * A load there is a SIGBUS (or SIGSEGV, PROT_NONE), which no try/catch holds. process_vm_readv(2) and process_vm_writev(2)
 * of this process's own memory look the pages up in the kernel and return EFAULT instead (get_user_pages() without
 * FOLL_FORCE, mm/process_vm_access.c): one copy, and protections hold, which those of /proc/self/mem do not. A process
 * may always do that to itself: mm_access() asks for no permission where the memory is the caller's own.
 */
import { type Address, addressOf, declare, errnoNumber, lastErrno } from "./libc.ts";

type Transfer = (
  pid: number,
  local: BigUint64Array,
  localCount: number,
  remote: BigUint64Array,
  remoteCount: number,
  flags: number,
) => number;

const PARAMETERS =
  "(int pid, const void *local, uint64 localCount, const void *remote, uint64 remoteCount, uint64 flags)";
const cReadv = declare<Transfer>(`int64 process_vm_readv${PARAMETERS}`);
const cWritev = declare<Transfer>(`int64 process_vm_writev${PARAMETERS}`);
const EFAULT = errnoNumber("EFAULT");

/** Fills `into` from `address`. Returns 0 or a negative errno: -EFAULT if a byte of it is not there. */
export function copyFrom(address: Address, into: Uint8Array): number {
  return transfer(cReadv, address, into);
}

/** Copies `from` to `address`. Returns 0 or a negative errno; pages before the one that is not there may be written. */
export function copyTo(address: Address, from: Uint8Array): number {
  return transfer(cWritev, address, from);
}

function transfer(call: Transfer, address: Address, ours: Uint8Array): number {
  if (ours.length === 0) return 0;
  const length = BigInt(ours.length);
  const local = new BigUint64Array([addressOf(ours), length]);
  const moved = call(process.pid, local, 1, new BigUint64Array([address, length]), 1, 0);
  if (moved === -1) return -lastErrno();
  // The kernel stops at the first page that is not there.
  return moved === ours.length ? 0 : -EFAULT;
}
