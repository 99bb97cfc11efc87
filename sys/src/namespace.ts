/** Mount namespaces (mount_namespaces(7)). Acts on the calling thread. */
import { closeSync, constants, openSync } from "node:fs";
import { check, declare } from "./libc.ts";

const CLONE_NEWNS = 0x20000;
const FOLDER: number = constants.O_RDONLY | constants.O_DIRECTORY;

const cUnshare = declare<(flags: number) => number>("int unshare(int flags)");
const cSetns = declare<(fd: number, type: number) => number>("int setns(int fd, int type)");

const cFchdir = declare<(fd: number) => number>("int fchdir(int fd)");
const cChroot = declare<(path: string) => number>("int chroot(const char *path)");

/**
 * Does `work` in a mount namespace of its own, a copy of this one, and comes back, also from below a changed root: setns(2)
 * makes the namespace's root the thread's (mntns_install(), fs/namespace.c), and that is undone. Needs CAP_SYS_ADMIN and
 * CAP_SYS_CHROOT; a thread that did this once has a working directory and a umask of its own from then on. Throws a
 * SyscallError.
 */
export function inOwnMountNamespace<T>(work: () => T): T {
  // All before unshare(2): what is opened behind it lies in the copy.
  const home = openSync("/proc/thread-self/ns/mnt", "r");
  const root = openSync("/", FOLDER);
  const folder = openSync(".", FOLDER);
  try {
    check("unshare(CLONE_NEWNS)", cUnshare(CLONE_NEWNS));
    try {
      return work();
    } finally {
      check("setns", cSetns(home, CLONE_NEWNS));
      check("fchdir", cFchdir(root));
      check("chroot", cChroot("."));
      check("fchdir", cFchdir(folder));
    }
  } finally {
    for (const fd of [home, root, folder]) closeSync(fd);
  }
}
