/** A host mount through libfuse 2: the second, independent way to mount the same file system. */
import type { FileSystem } from "../../fs/filesystem.ts";
import { loadFuseNative } from "./fuse-native.ts";
import { type DefectLog, nativeOperations } from "./operations.ts";

export type LibfuseOptions = {
  readonly mountPoint: string;
  readonly debug: boolean;
  readonly log: DefectLog;
};

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
}
