/**
 * File handles of the source's mount: names of inodes that need no descriptor (name_to_handle_at(2), fs/fhandle.c).
 * Made from descriptors that were reached by checked components, kept here, never taken from a client: opening one leads
 * to an inode that was inside the source when it was named, as a descriptor does.
 */
import { files } from "../../../sys/src/index.ts";
import { fileSystemTypeOf } from "./attributes.ts";

/**
 * File systems whose handles stand for an inode for as long as it exists (statfs(2), f_type). A handle of FUSE or vfat
 * may be ESTALE as soon as the kernel has dropped the inode from its cache (fuse_get_dentry(), fs/fuse/inode.c).
 */
export const LASTING: ReadonlySet<bigint> = new Set([
  0xef53n, // ext2, ext3, ext4
  0x58465342n, // XFS
  0x9123683en, // Btrfs
  0x01021994n, // tmpfs
  0xf2f52010n, // F2FS
]);

export class FileHandles {
  readonly mountFd: number;
  readonly mountId: number;

  private constructor(mountFd: number, mountId: number) {
    this.mountFd = mountFd;
    this.mountId = mountId;
  }

  /**
   * Tried on the source itself; null: its file system has no lasting handles, or this process may not open them
   * (CAP_DAC_READ_SEARCH).
   * @param path of the source: handles are opened by a descriptor that is none of O_PATH
   */
  static open(path: Uint8Array): FileHandles | null {
    const mountFd = files.openat(files.AT_FDCWD, path, files.O_RDONLY | files.O_DIRECTORY);
    if (mountFd < 0) return null;
    const named = LASTING.has(fileSystemTypeOf(mountFd)) ? files.handleOf(mountFd) : -1;
    const probe = typeof named === "number" ? named : files.openByHandle(mountFd, named.handle, files.O_PATH);
    if (typeof named === "number" || probe < 0) {
      files.close(mountFd);
      return null;
    }
    files.close(probe);
    return new FileHandles(mountFd, named.mountId);
  }

  /** Those that another thread has opened. */
  static attach(mountFd: number, mountId: number): FileHandles {
    return new FileHandles(mountFd, mountId);
  }

  /** Of what `fd` refers to; null: it has none, or lies on another mount. */
  of(fd: number): Uint8Array | null {
    const named = files.handleOf(fd);
    return typeof named === "number" || named.mountId !== this.mountId ? null : named.handle;
  }

  /** An O_PATH descriptor, or the negative errno. */
  open(handle: Uint8Array): number {
    return files.openByHandle(this.mountFd, handle, files.O_PATH);
  }

  close(): void {
    files.close(this.mountFd);
  }
}
