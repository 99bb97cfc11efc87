/** Mounts: mount(2), umount2(2), and the mount table (/proc/self/mountinfo, proc_pid_mountinfo(5)). */
import { readFileSync, statfsSync } from "node:fs";
import { check, declare, lastErrno } from "./libc.ts";

export const MS_RDONLY = 1;
export const MS_NOSUID = 2;
export const MS_NODEV = 4;
export const MNT_FORCE = 1;
export const MNT_DETACH = 2;
const UMOUNT_NOFOLLOW = 8;

const cMount = declare<
  (source: string, target: string, type: string, flags: bigint, options: string) => number
>("int mount(const char *source, const char *target, const char *type, uint64 flags, const char *options)");
const cUmount2 = declare<(target: string, flags: number) => number>(
  "int umount2(const char *target, int flags)",
);

export type Mount = {
  readonly mountpoint: string;
  /** `ext4`, `tmpfs`, `fuse`, `fuse.name` .. */
  readonly type: string;
  /** What the mounting program calls the source: a device, or a name of its choice. */
  readonly source: string;
  /** `major:minor`, which also names the mount's folder below /sys/class/bdi. */
  readonly device: string;
};

/** Blanks and backslashes of paths are octal escapes there. */
function unescapeOctal(text: string): string {
  return text.replaceAll(/\\([0-7]{3})/g, (_match, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}

/** One line of /proc/PID/mountinfo: `36 35 98:0 /root /mount opts tag:1 - type source super`. */
export function parseMountLine(line: string): Mount | null {
  const [before, after] = line.split(" - ");
  const [, , device, , mountpoint] = before?.split(" ") ?? [];
  const [type, source] = after?.split(" ") ?? [];
  if (device === undefined || mountpoint === undefined || type === undefined || source === undefined) {
    return null;
  }
  return { mountpoint: unescapeOctal(mountpoint), type, source: unescapeOctal(source), device };
}

function readMountTable(): string {
  try {
    return readFileSync("/proc/self/mountinfo", "utf8");
  } catch (cause) {
    throw new Error("/proc is not mounted: the mount table is there. Next: mount -t proc proc /proc", {
      cause,
    });
  }
}

/** What is mounted in this process's namespace, in the order mounted: a later entry covers an earlier one. */
export function mounts(): readonly Mount[] {
  const table: Mount[] = [];
  for (const line of readMountTable().split("\n")) {
    const mount = parseMountLine(line);
    if (mount !== null) table.push(mount);
  }
  return table;
}

function isBelow(path: string, directory: string): boolean {
  return path === directory || path.startsWith(directory === "/" ? "/" : `${directory}/`);
}

/** The mounts at or below `directory`, deepest and latest first: the order in which they can be taken away. */
export function mountsBelow(directory: string): readonly Mount[] {
  return mounts()
    .filter((mount) => isBelow(mount.mountpoint, directory))
    .reverse();
}

/** The mount that `path` (absolute, without symbolic links) lies on. */
export function mountOf(path: string): Mount | null {
  let best: Mount | null = null;
  for (const mount of mounts()) {
    if (!isBelow(path, mount.mountpoint)) continue;
    // Later lines of equal length hide earlier ones.
    if (best === null || mount.mountpoint.length >= best.mountpoint.length) best = mount;
  }
  return best;
}

/** By statfs(2)'s f_type (include/uapi/linux/magic.h); ext2, ext3 and ext4 have one number. */
const typesByMagic: ReadonlyMap<number, string> = new Map([
  [0xef53, "ext4"],
  [0x0102_1994, "tmpfs"],
  [0x5846_5342, "xfs"],
  [0x9123_683e, "btrfs"],
  [0x794c_7630, "overlay"],
]);

/**
 * The type of the file system that holds `path` (absolute, without symbolic links). In a root that is no mount, as chroot(2)
 * makes, the mount table of the process does not have it: then what statfs(2) says, a name or a number.
 */
export function fileSystemOf(path: string): string {
  const mount = mountOf(path);
  if (mount !== null) return mount.type;
  const { type } = statfsSync(path);
  return typesByMagic.get(type) ?? `0x${type.toString(16)}`;
}

export type MountOptions = {
  readonly source: string;
  readonly target: string;
  readonly type: string;
  readonly flags: number;
  readonly data: string;
};

/** mount(2). Throws a SyscallError. */
export function mount(options: MountOptions): void {
  const { source, target, type, flags, data } = options;
  check("mount", cMount(source, target, type, BigInt(flags), data), `${type} at ${target}, options ${data}`);
}

/** Mounts an empty tmpfs of at most `sizeBytes`. Needs root. Throws a SyscallError. */
export function mountTmpfs(target: string, sizeBytes: bigint, options: readonly string[] = []): void {
  const data = [`size=${sizeBytes}`, "mode=0700", ...options].join(",");
  mount({ source: "daxfault", target, type: "tmpfs", flags: MS_NOSUID | MS_NODEV, data });
}

/** Mounts an empty hugetlbfs whose pool are so many bytes of pages of 2 MiB. Needs root. Throws a SyscallError. */
export function mountHugetlbfs(target: string, poolBytes: bigint): void {
  const data = `pagesize=2M,size=${poolBytes},mode=0700`;
  mount({ source: "daxfault", target, type: "hugetlbfs", flags: MS_NOSUID | MS_NODEV, data });
}

/** umount2(2), never through a symbolic link. Returns 0 or the negative errno. */
export function unmount(target: string, flags: number): number {
  return cUmount2(target, flags | UMOUNT_NOFOLLOW) === -1 ? -lastErrno() : 0;
}

/** umount2(2) with MNT_DETACH: gone from the tree at once, freed when the last user ends. Throws a SyscallError. */
export function unmountLazily(target: string): void {
  check("umount2", cUmount2(target, MNT_DETACH | UMOUNT_NOFOLLOW), target);
}
