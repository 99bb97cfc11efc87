/**
 * Whose files a thread makes. The identity calls act on the calling *thread* (setfsuid(2), securebits), umask on the
 * process. All need what their manual pages say; nothing here raises privileges.
 */
import { declare } from "./libc.ts";

const PR_SET_SECUREBITS = 28;
const PR_GET_SECUREBITS = 27;
const SECBIT_NO_SETUID_FIXUP = 4;

const cPrctl = declare<(option: number, value: bigint) => number>("int prctl(int option, uint64 value)");
const cSetfsuid = declare<(uid: number) => number>("int setfsuid(uint32 uid)");
const cSetfsgid = declare<(gid: number) => number>("int setfsgid(uint32 gid)");
const cUmask = declare<(mask: number) => number>("uint32 umask(uint32 mask)");

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
