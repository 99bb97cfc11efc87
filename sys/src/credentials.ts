/**
 * Whose files a thread makes, and how a process ends with its parent.
 *
 * The identity calls act on the calling *thread* (setfsuid(2), securebits); umask and the death signal belong to
 * the process and the thread that called, respectively. All need what their manual pages say; nothing here raises
 * privileges.
 */
import { check, declare } from "./libc.ts";

const PR_SET_PDEATHSIG = 1;
const PR_SET_SECUREBITS = 28;
const PR_GET_SECUREBITS = 27;
const SECBIT_NO_SETUID_FIXUP = 4;

const cPrctl = declare<(option: number, value: bigint) => number>("int prctl(int option, uint64 value)");
const cSetfsuid = declare<(uid: number) => number>("int setfsuid(uint32 uid)");
const cSetfsgid = declare<(gid: number) => number>("int setfsgid(uint32 gid)");
const cUmask = declare<(mask: number) => number>("uint32 umask(uint32 mask)");
const cExit = declare<(code: number) => void>("void _exit(int code)");
const cSetrlimit = declare<(resource: number, limit: BigUint64Array) => number>(
  "int setrlimit(int resource, const void *limit)",
);
const RLIMIT_NOFILE = 7;
const cGetppid = declare<() => number>("int getppid()");

/** The kernel sends `signal` to this process when the thread that started it ends. */
export function signalOnParentDeath(signal: number): void {
  check("prctl(PR_SET_PDEATHSIG)", cPrctl(PR_SET_PDEATHSIG, BigInt(signal)));
}

export function parentProcessId(): number {
  return cGetppid();
}

/**
 * Lets the calling thread change its file system uid and keep its capabilities, so that it creates files as
 * somebody else while permission checks (already made by the client's kernel) do not run a second time.
 * Needs CAP_SETPCAP. Returns whether it worked.
 */
export function keepCapabilitiesAcrossIdentities(): boolean {
  const bits = cPrctl(PR_GET_SECUREBITS, 0n);
  if (bits === -1) return false;
  return cPrctl(PR_SET_SECUREBITS, BigInt(bits | SECBIT_NO_SETUID_FIXUP)) === 0;
}

/** setfsuid(2) and setfsgid(2) of the calling thread. */
export function setFileSystemIdentity(uid: number, gid: number): void {
  cSetfsgid(gid);
  cSetfsuid(uid);
}

/** umask(2). Returns the old mask. */
export function setUmask(mask: number): number {
  return cUmask(mask & 0o777);
}

/** _exit(2): ends every thread at once, also those that wait in a system call. Nothing is flushed. */
export function exitNow(code: number): never {
  cExit(code);
  throw new Error("_exit returned");
}

/** Lets this process open `count` descriptors (RLIMIT_NOFILE, both limits). Returns whether it was allowed to. */
export function raiseDescriptorLimit(count: number): boolean {
  return cSetrlimit(RLIMIT_NOFILE, new BigUint64Array([BigInt(count), BigInt(count)])) === 0;
}
