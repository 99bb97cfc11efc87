/**
 * The package fuse-native (libfuse 2.9, high level: paths, not nodes), as far as this transport uses it.
 *
 * Optional at install time, hence the dynamic import and these declarations of our own (its types are incomplete).
 * Read from its index.js, version 2.2.6: a callback's first argument is a negative errno or the result; file handles
 * are 32 bits; times are milliseconds; `getxattr` does not learn the size of the caller's buffer.
 */

/** 0 or a positive count: success. Negative: errno. */
export type Done = (result: number) => void;
export type Answer<T> = (result: number, value?: T) => void;

export type NativeStat = {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly dev: number;
  readonly nlink: number;
  readonly ino: number;
  readonly rdev: number;
  readonly blksize: number;
  readonly blocks: number;
  /** Milliseconds since the epoch. */
  readonly atime: number;
  readonly mtime: number;
  readonly ctime: number;
};

export type NativeStatfs = {
  readonly bsize: number;
  readonly frsize: number;
  readonly blocks: number;
  readonly bfree: number;
  readonly bavail: number;
  readonly files: number;
  readonly ffree: number;
  readonly favail: number;
  readonly namemax: number;
};

export type NativeOperations = {
  getattr(path: string, answer: Answer<NativeStat>): void;
  fgetattr(path: string, handle: number, answer: Answer<NativeStat>): void;
  statfs(path: string, answer: Answer<NativeStatfs>): void;
  readdir(path: string, answer: Answer<string[]>): void;
  readlink(path: string, answer: Answer<string>): void;
  open(path: string, flags: number, answer: Answer<number>): void;
  create(path: string, mode: number, answer: Answer<number>): void;
  read(path: string, handle: number, into: Buffer, length: number, offset: number, done: Done): void;
  write(path: string, handle: number, data: Buffer, length: number, offset: number, done: Done): void;
  flush(path: string, handle: number, done: Done): void;
  fsync(path: string, dataOnly: number, handle: number, done: Done): void;
  release(path: string, handle: number, done: Done): void;
  truncate(path: string, size: number, done: Done): void;
  ftruncate(path: string, handle: number, size: number, done: Done): void;
  utimens(path: string, accessMs: number, modificationMs: number, done: Done): void;
  chmod(path: string, mode: number, done: Done): void;
  chown(path: string, uid: number, gid: number, done: Done): void;
  mknod(path: string, mode: number, device: number, done: Done): void;
  mkdir(path: string, mode: number, done: Done): void;
  rmdir(path: string, done: Done): void;
  unlink(path: string, done: Done): void;
  rename(from: string, to: string, done: Done): void;
  link(from: string, to: string, done: Done): void;
  symlink(target: string, path: string, done: Done): void;
  getxattr(path: string, name: string, position: number, answer: Answer<Buffer>): void;
  setxattr(path: string, name: string, value: Buffer, position: number, flags: number, done: Done): void;
  listxattr(path: string, answer: Answer<string[]>): void;
  removexattr(path: string, name: string, done: Done): void;
};

export type NativeOptions = {
  readonly debug?: boolean;
  readonly allowOther?: boolean;
  readonly defaultPermissions?: boolean;
  readonly fsname?: string;
  /** false: no timer per request. */
  readonly timeout: false;
};

export interface NativeMount {
  mount(done: (error: Error | null) => void): void;
}

export type NativeClass = new (
  mountPoint: string,
  operations: NativeOperations,
  options: NativeOptions,
) => NativeMount;

/** Loads the package. Throws an Error that says how to get it. */
export async function loadFuseNative(): Promise<NativeClass> {
  const name: string = "fuse-native";
  try {
    const module = (await import(name)) as { readonly default: NativeClass };
    return module.default;
  } catch (cause) {
    const why = cause instanceof Error ? (cause.message.split("\n")[0] ?? "") : String(cause);
    throw new Error(
      `transport libfuse needs the optional package fuse-native, which cannot be loaded (${why}); ` +
        "run `npm install --include=optional`, or use another transport",
      { cause },
    );
  }
}
