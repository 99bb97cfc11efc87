/**
 * Whose files a thread makes. The identity calls act on the calling *thread* (setfsuid(2), securebits), umask on the
 * process, or on the thread after `ownFileSystemState`. All need the privileges in their manual pages; nothing here raises privileges.
 */
import { check, declare } from "./libc.ts";

const PR_SET_SECUREBITS = 28;
const PR_GET_SECUREBITS = 27;
const SECBIT_NO_SETUID_FIXUP = 4;

const cPrctl = declare<(option: number, value: bigint) => number>("int prctl(int option, uint64 value)");
const cSetfsuid = declare<(uid: number) => number>("int setfsuid(uint32 uid)");
const cSetfsgid = declare<(gid: number) => number>("int setfsgid(uint32 gid)");
const SYS_SETGROUPS = process.arch === "arm64" ? 159 : 116;
const cSetgroups = declare<(number: number, count: number, groups: Uint32Array) => number>(
  "int64 syscall(int64 number, int count, const void *groups)",
);
const cUmask = declare<(mask: number) => number>("uint32 umask(uint32 mask)");

/**
 * Lets the calling thread change its file system uid and keep its capabilities, so that it creates files as
 * another user while permission checks (already made by the client's kernel) do not run a second time.
 * Needs CAP_SETPCAP. Returns whether it worked.
 */
export function keepCapabilitiesAcrossIdentities(): boolean {
  return changeSecurebits((bits) => bits | SECBIT_NO_SETUID_FIXUP);
}

/**
 * The contrary, as threads begin: with the file system uid 0 go the capabilities that concern files (capabilities(7)).
 * Needs CAP_SETPCAP where they were kept. Returns whether it worked.
 */
export function dropCapabilitiesWithIdentities(): boolean {
  return changeSecurebits((bits) => bits & ~SECBIT_NO_SETUID_FIXUP);
}

function changeSecurebits(change: (bits: number) => number): boolean {
  const bits = cPrctl(PR_GET_SECUREBITS, 0n);
  if (bits === -1) return false;
  const wanted = change(bits);
  return wanted === bits || cPrctl(PR_SET_SECUREBITS, BigInt(wanted)) === 0;
}

/** setfsuid(2) and setfsgid(2) of the calling thread. */
export function setFileSystemIdentity(uid: number, gid: number): void {
  cSetfsgid(gid);
  cSetfsuid(uid);
}

/** setfsgid(2) of the calling thread. */
export function setFileSystemGroup(gid: number): void {
  cSetfsgid(gid);
}

/** setgroups(2) with no groups, of the calling thread alone. Needs CAP_SETGID. Returns whether it worked. */
export function leaveSupplementaryGroups(): boolean {
  return setSupplementaryGroups([]);
}

/** setgroups(2) of the calling thread alone: the C library's function sets those of all threads. Returns whether it worked. */
export function setSupplementaryGroups(groups: readonly number[]): boolean {
  return cSetgroups(SYS_SETGROUPS, groups.length, new Uint32Array(groups)) === 0;
}

const CLONE_FS = 0x200;
const cUnshare = declare<(flags: number) => number>("int unshare(int flags)");

/** Gives the calling thread a umask, working directory and root of its own (unshare(2), CLONE_FS). */
export function ownFileSystemState(): void {
  check("unshare(CLONE_FS)", cUnshare(CLONE_FS));
}

/** umask(2). Returns the old mask. */
export function setUmask(mask: number): number {
  return cUmask(mask & 0o777);
}

/** capability(7) */
export const CAP_FSETID = 4;
const LINUX_CAPABILITY_VERSION_3 = 0x20080522;
const cCapget = declare<(header: Uint32Array, data: Uint32Array) => number>(
  "int capget(void *header, void *data)",
);
const cCapset = declare<(header: Uint32Array, data: Uint32Array) => number>(
  "int capset(void *header, const void *data)",
);

/**
 * The calling thread without one of its effective capabilities, switched on and off; null where it has none to switch
 * (then `work` of the caller runs as it is). The capability stays permitted, so it can be taken back.
 */
export function effectiveCapability(capability: number): { drop(): void; restore(): void } | null {
  const header = new Uint32Array([LINUX_CAPABILITY_VERSION_3, 0]);
  // Twice { effective, permitted, inheritable }, the low 32 capabilities first.
  const full = new Uint32Array(6);
  if (cCapget(header, full) !== 0) return null;
  const word = capability < 32 ? 0 : 3;
  const bit = 1 << (capability % 32);
  if (((full[word] ?? 0) & bit) === 0) return null;
  const reduced = full.slice();
  reduced[word] = (full[word] ?? 0) & ~bit;
  const set = (data: Uint32Array): void => void check("capset", cCapset(header, data));
  return { drop: () => set(reduced), restore: () => set(full) };
}
