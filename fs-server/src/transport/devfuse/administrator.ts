/**
 * Whether the caller of a request has CAP_SYS_ADMIN as capable() sees it: effective, in the initial user namespace.
 * The caller is a thread of this host that waits for the answer, so its id names no other.
 */
import { readFileSync, readlinkSync } from "node:fs";
import type { Header } from "../../core/request.ts";

const CAP_SYS_ADMIN = 21n;
/** PROC_USER_INIT_INO (include/linux/proc_ns.h). */
const INITIAL_USER_NAMESPACE = "user:[4026531837]";

/** Whether `text`, of /proc/PID/status, has CAP_SYS_ADMIN in its effective set. */
export function hasSysAdmin(text: string): boolean {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(text)?.[1];
  return effective !== undefined && ((BigInt(`0x${effective}`) >> CAP_SYS_ADMIN) & 1n) === 1n;
}

/** False for a caller that cannot be seen from here: of another PID namespace (pid 0), or gone. */
export function isAdministrator({ pid }: Header): boolean {
  try {
    return (
      hasSysAdmin(readFileSync(`/proc/${pid}/status`, "latin1")) &&
      readlinkSync(`/proc/${pid}/ns/user`) === INITIAL_USER_NAMESPACE
    );
  } catch {
    return false;
  }
}
