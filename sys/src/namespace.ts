/** Mount namespaces (mount_namespaces(7)). Acts on the calling thread. */
import { closeSync, openSync } from "node:fs";
import { check, declare } from "./libc.ts";

const CLONE_NEWNS = 0x20000;

const cUnshare = declare<(flags: number) => number>("int unshare(int flags)");
const cSetns = declare<(fd: number, type: number) => number>("int setns(int fd, int type)");

/**
 * Does `work` in a mount namespace of its own, a copy of this one, and comes back. Needs CAP_SYS_ADMIN; a thread that
 * did this once has a working directory and a umask of its own from then on. Throws a SyscallError.
 */
export function inOwnMountNamespace<T>(work: () => T): T {
  const home = openSync("/proc/thread-self/ns/mnt", "r");
  try {
    check("unshare(CLONE_NEWNS)", cUnshare(CLONE_NEWNS));
    try {
      return work();
    } finally {
      check("setns", cSetns(home, CLONE_NEWNS));
    }
  } finally {
    closeSync(home);
  }
}
