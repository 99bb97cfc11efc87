/** A host mount through libfuse 2: the second, independent way to mount the same file system. */
import { readdirSync, readlinkSync } from "node:fs";
import type { FileSystem } from "../../fs/filesystem.ts";
import { loadFuseNative } from "./fuse-native.ts";
import { type DefectLog, nativeOperations } from "./operations.ts";

export type LibfuseOptions = {
  readonly mountPoint: string;
  readonly debug: boolean;
  readonly log: DefectLog;
  /** The connection has ended: the file system was unmounted, or aborted. */
  readonly ended: () => void;
};

/** How soon the end of the connection is seen. */
const END_POLL_MS = 200;

/**
 * Mounts `fs` and returns when the kernel has sent INIT. Requests are served on this thread's event loop from then on.
 * Undone by unmounting (umount2): libfuse's loop then ends by itself; the process should exit afterwards, because
 * fuse-native keeps a handle on the event loop.
 */
export async function mountLibfuse(fs: FileSystem, options: LibfuseOptions): Promise<void> {
  const Fuse = await loadFuseNative();
  const native = new Fuse(options.mountPoint, nativeOperations(fs, options.log), {
    debug: options.debug,
    // Others than the mounting user need the mount too when root serves it; the kernel checks modes either way.
    allowOther: process.geteuid?.() === 0,
    defaultPermissions: true,
    // There is no option for it, but the text is pasted into libfuse's list: without big_writes every write is 4 KiB.
    fsname: "daxfault,big_writes",
    timeout: false,
  });
  await new Promise<void>((resolve, reject) => {
    native.mount((error) => (error === null || error === undefined ? resolve() : reject(error)));
  });
  whenEnded(options.ended);
}

/** The descriptors of /dev/fuse in this process. */
function fuseDescriptors(): readonly number[] {
  return readdirSync("/proc/self/fd").map(Number).filter(isFuseDescriptor);
}

function isFuseDescriptor(fd: number): boolean {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`) === "/dev/fuse";
  } catch {
    return false;
  }
}

/**
 * Calls `ended` once libfuse has closed the connection's descriptor. fuse-native's thread does that after fuse_loop_mt()
 * (start_fuse_thread() of fuse-native.c, fuse_kern_unmount() of libfuse 2) and reports it in no other way.
 */
function whenEnded(ended: () => void): void {
  const connection = fuseDescriptors();
  const timer = setInterval(() => {
    if (connection.some(isFuseDescriptor)) return;
    clearInterval(timer);
    ended();
  }, END_POLL_MS);
}
