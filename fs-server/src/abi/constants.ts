/** Constants of <linux/fuse.h> (7.45) by their C names. Compared with the recorded header by test. */
const bit = (n: number): bigint => 1n << BigInt(n);

export const KERNEL_VERSION = 7;
export const KERNEL_MINOR_VERSION = 45;

/** INIT flags; bits 32 and up travel in `flags2`. */
export const INIT_FLAGS: Readonly<Record<string, bigint>> = {
  FUSE_ASYNC_READ: bit(0),
  FUSE_POSIX_LOCKS: bit(1),
  FUSE_FILE_OPS: bit(2),
  FUSE_ATOMIC_O_TRUNC: bit(3),
  FUSE_EXPORT_SUPPORT: bit(4),
  FUSE_BIG_WRITES: bit(5),
  FUSE_DONT_MASK: bit(6),
  FUSE_SPLICE_WRITE: bit(7),
  FUSE_SPLICE_MOVE: bit(8),
  FUSE_SPLICE_READ: bit(9),
  FUSE_FLOCK_LOCKS: bit(10),
  FUSE_HAS_IOCTL_DIR: bit(11),
  FUSE_AUTO_INVAL_DATA: bit(12),
  FUSE_DO_READDIRPLUS: bit(13),
  FUSE_READDIRPLUS_AUTO: bit(14),
  FUSE_ASYNC_DIO: bit(15),
  FUSE_WRITEBACK_CACHE: bit(16),
  FUSE_NO_OPEN_SUPPORT: bit(17),
  FUSE_PARALLEL_DIROPS: bit(18),
  FUSE_HANDLE_KILLPRIV: bit(19),
  FUSE_POSIX_ACL: bit(20),
  FUSE_ABORT_ERROR: bit(21),
  FUSE_MAX_PAGES: bit(22),
  FUSE_CACHE_SYMLINKS: bit(23),
  FUSE_NO_OPENDIR_SUPPORT: bit(24),
  FUSE_EXPLICIT_INVAL_DATA: bit(25),
  FUSE_MAP_ALIGNMENT: bit(26),
  FUSE_SUBMOUNTS: bit(27),
  FUSE_HANDLE_KILLPRIV_V2: bit(28),
  FUSE_SETXATTR_EXT: bit(29),
  FUSE_INIT_EXT: bit(30),
  FUSE_INIT_RESERVED: bit(31),
  FUSE_SECURITY_CTX: bit(32),
  FUSE_HAS_INODE_DAX: bit(33),
  FUSE_CREATE_SUPP_GROUP: bit(34),
  FUSE_HAS_EXPIRE_ONLY: bit(35),
  FUSE_DIRECT_IO_ALLOW_MMAP: bit(36),
  FUSE_PASSTHROUGH: bit(37),
  FUSE_NO_EXPORT_SUPPORT: bit(38),
  FUSE_HAS_RESEND: bit(39),
  FUSE_ALLOW_IDMAP: bit(40),
  FUSE_OVER_IO_URING: bit(41),
  FUSE_REQUEST_TIMEOUT: bit(42),
};

/** An INIT flag by name. Throws for a name that the protocol does not have. */
export function initFlag(name: string): bigint {
  const flag = INIT_FLAGS[name];
  if (flag === undefined) throw new Error(`unknown INIT flag ${name}`);
  return flag;
}

export const FATTR_MODE = 1;
export const FATTR_UID = 2;
export const FATTR_GID = 4;
export const FATTR_SIZE = 8;
export const FATTR_ATIME = 16;
export const FATTR_MTIME = 32;
export const FATTR_FH = 64;
export const FATTR_ATIME_NOW = 128;
export const FATTR_MTIME_NOW = 256;
export const FATTR_LOCKOWNER = 512;
export const FATTR_CTIME = 1024;
export const FATTR_KILL_SUIDGID = 2048;

export const FOPEN_DIRECT_IO = 1;
export const FOPEN_KEEP_CACHE = 2;
export const FOPEN_CACHE_DIR = 8;
export const FOPEN_PASSTHROUGH = 128;

export const FUSE_SETUPMAPPING_FLAG_WRITE = 1n;
export const FUSE_SETUPMAPPING_FLAG_READ = 2n;
export const FUSE_FSYNC_FDATASYNC = 1;
export const FUSE_GETATTR_FH = 1;
/** fuse_lk_in.lk_flags: the lock is one of flock(2). */
export const FUSE_LK_FLOCK = 1;
/** fuse_release_in.release_flags: the file may have a lock of flock(2), which goes. */
export const FUSE_RELEASE_FLOCK_UNLOCK = 2;
export const FUSE_WRITE_CACHE = 1;
export const FUSE_WRITE_KILL_SUIDGID = 4;
export const FUSE_OPEN_KILL_SUIDGID = 1;
/** fuse_attr.flags of a directory: the client's kernel mounts it as a file system of its own. */
export const FUSE_ATTR_SUBMOUNT = 1;
/** An ACL is set by an owner that is not in the file's group and lacks CAP_FSETID. */
export const FUSE_SETXATTR_ACL_KILL_SGID = 1;

export const FUSE_NOTIFY_INVAL_INODE = 2;
export const FUSE_NOTIFY_INVAL_ENTRY = 3;

/** Every other constant of the table, by its C name, for the comparison with the header. */
export const CONSTANTS: Readonly<Record<string, bigint>> = {
  FUSE_KERNEL_VERSION: 7n,
  FUSE_ROOT_ID: 1n,
  FUSE_MIN_READ_BUFFER: 8192n,
  FATTR_MODE: 1n,
  FATTR_UID: 2n,
  FATTR_GID: 4n,
  FATTR_SIZE: 8n,
  FATTR_ATIME: 16n,
  FATTR_MTIME: 32n,
  FATTR_FH: BigInt(FATTR_FH),
  FATTR_ATIME_NOW: BigInt(FATTR_ATIME_NOW),
  FATTR_MTIME_NOW: BigInt(FATTR_MTIME_NOW),
  FATTR_LOCKOWNER: BigInt(FATTR_LOCKOWNER),
  FATTR_CTIME: BigInt(FATTR_CTIME),
  FATTR_KILL_SUIDGID: BigInt(FATTR_KILL_SUIDGID),
  FOPEN_DIRECT_IO: BigInt(FOPEN_DIRECT_IO),
  FOPEN_KEEP_CACHE: BigInt(FOPEN_KEEP_CACHE),
  FOPEN_CACHE_DIR: BigInt(FOPEN_CACHE_DIR),
  FOPEN_PASSTHROUGH: BigInt(FOPEN_PASSTHROUGH),
  FUSE_SETUPMAPPING_FLAG_WRITE,
  FUSE_SETUPMAPPING_FLAG_READ,
  FUSE_FSYNC_FDATASYNC: BigInt(FUSE_FSYNC_FDATASYNC),
  FUSE_GETATTR_FH: BigInt(FUSE_GETATTR_FH),
  FUSE_LK_FLOCK: BigInt(FUSE_LK_FLOCK),
  FUSE_RELEASE_FLOCK_UNLOCK: BigInt(FUSE_RELEASE_FLOCK_UNLOCK),
  FUSE_WRITE_CACHE: BigInt(FUSE_WRITE_CACHE),
  FUSE_WRITE_KILL_SUIDGID: BigInt(FUSE_WRITE_KILL_SUIDGID),
  FUSE_OPEN_KILL_SUIDGID: BigInt(FUSE_OPEN_KILL_SUIDGID),
  FUSE_ATTR_SUBMOUNT: BigInt(FUSE_ATTR_SUBMOUNT),
  FUSE_SETXATTR_ACL_KILL_SGID: BigInt(FUSE_SETXATTR_ACL_KILL_SGID),
  FUSE_NOTIFY_INVAL_INODE: BigInt(FUSE_NOTIFY_INVAL_INODE),
  FUSE_NOTIFY_INVAL_ENTRY: BigInt(FUSE_NOTIFY_INVAL_ENTRY),
};
