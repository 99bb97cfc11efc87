/** What a descriptor leads to, without asking a file server, which may never answer (AT_STATX_DONT_SYNC). */
import { files, SyscallError } from "../../../sys/src/index.ts";

export type Inode = {
  /** Names it among all of the machine. */
  readonly key: string;
  readonly sizeBytes: bigint;
};

/** Of a descriptor of any kind, O_PATH too. Throws a SyscallError. */
export function inodeOf(fd: number): Inode {
  const out = Buffer.alloc(files.STATX_BYTES);
  const flags = files.AT_EMPTY_PATH | files.AT_STATX_DONT_SYNC;
  const result = files.statx(fd, files.EMPTY_PATH, flags, files.STATX_BASIC_STATS, out);
  if (result < 0) throw new SyscallError("statx", -result);
  const device = [files.STATX_AT.deviceMajor, files.STATX_AT.deviceMinor].map((at) => out.readUInt32LE(at));
  return {
    key: `${device.join(":")}/${out.readBigUInt64LE(files.STATX_AT.inode)}`,
    sizeBytes: out.readBigUInt64LE(files.STATX_AT.size),
  };
}

/**
 * Holds what `path` leads to, a magic link of /proc, without opening it: nobody is asked for permission, no lease is broken.
 * The caller closes it. Throws a SyscallError.
 */
export function hold(path: string): number {
  const fd = files.openat(files.AT_FDCWD, files.pathBytes(path), files.O_PATH);
  if (fd < 0) throw new SyscallError("open", -fd, path);
  return fd;
}
