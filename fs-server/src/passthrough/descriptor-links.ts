/**
 * /proc/self/fd: opens again what a descriptor refers to, whatever its name has become (proc_pid_get_link(), fs/proc/base.c).
 *
 * The folder is held open, so that opening again walks one component instead of four. Its threads have their descriptors
 * in common, and so the folder's links. A descriptor may be an O_PATH one.
 */
import { files } from "../../../sys/src/index.ts";

const FOLDER = Buffer.from("/proc/self/fd/", "latin1");
/** Digits of an int, and a NUL. */
const NUMBER_BYTES = 11;
const ZERO = 0x30;

/** Reused: a path is read by the next system call. */
const path = new Uint8Array(FOLDER.length + NUMBER_BYTES);
path.set(FOLDER);
const name: Uint8Array = path.subarray(FOLDER.length);

function putNumber(fd: number): void {
  let length = 1;
  for (let rest = fd; rest >= 10; rest = Math.trunc(rest / 10)) length += 1;
  name[length] = 0;
  for (let rest = fd; length > 0; rest = Math.trunc(rest / 10)) {
    length -= 1;
    name[length] = ZERO + (rest % 10);
  }
}

/** The path of what `fd` refers to, for calls that take no folder. Valid until the next call of this module. */
export function linkPath(fd: number): Uint8Array {
  putNumber(fd);
  return path;
}

export class DescriptorLinks {
  /** Its descriptor, for other threads. */
  readonly folder: number;

  private constructor(folder: number) {
    this.folder = folder;
  }

  /** By a folder that another thread has opened, and closes. */
  static of(folder: number): DescriptorLinks {
    return new DescriptorLinks(folder);
  }

  /** The negative errno where /proc is not mounted. */
  static open(): DescriptorLinks | number {
    const folder = files.openat(files.AT_FDCWD, files.pathBytes("/proc/self/fd"), files.O_PATH);
    if (folder < 0) return folder;
    const links = new DescriptorLinks(folder);
    const probe = links.open(folder, files.O_PATH);
    if (probe < 0) links.close();
    else files.close(probe);
    return probe < 0 ? probe : links;
  }

  /** A new descriptor of what `fd` refers to, or the negative errno. */
  open(fd: number, flags: number, mode = 0): number {
    putNumber(fd);
    return files.openat(this.folder, name, flags, mode);
  }

  close(): void {
    files.close(this.folder);
  }
}
