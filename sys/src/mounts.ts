/** Mounting and unmounting, and what is mounted: mount(2), umount2(2), /proc/self/mountinfo (proc(5)). */
import { readFileSync } from "node:fs";
import { check, declare, lastErrno } from "./libc.ts";

export const MS_RDONLY = 1;
export const MS_NOSUID = 2;
export const MS_NODEV = 4;
export const MNT_DETACH = 2;
const UMOUNT_NOFOLLOW = 8;

const cMount = declare<(source: string, target: string, type: string, flags: bigint, data: string) => number>(
  "int mount(const char *source, const char *target, const char *type, uint64 flags, const char *data)",
);
const cUmount2 = declare<(target: string, flags: number) => number>(
  "int umount2(const char *target, int flags)",
);

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

/** umount2(2), never through a symbolic link. Returns 0 or the negative errno. */
export function unmount(target: string, flags: number): number {
  return cUmount2(target, flags | UMOUNT_NOFOLLOW) === -1 ? -lastErrno() : 0;
}

export type MountPoint = {
  readonly path: string;
  readonly type: string;
  readonly source: string;
  /** `major:minor`, which also names the mount's folder below /sys/class/bdi. */
  readonly device: string;
};

/** What is mounted in this process's mount namespace, in the kernel's order: a later entry covers an earlier one. */
export function mountPoints(): readonly MountPoint[] {
  const lines = readFileSync("/proc/self/mountinfo", "utf8").split("\n");
  return lines.flatMap((line) => {
    // 36 35 98:0 /root /mnt/point rw,noatime master:1 - ext4 /dev/root rw
    const [before, after] = line.split(" - ");
    const fields = before?.split(" ") ?? [];
    const [type, source] = after?.split(" ") ?? [];
    const [, , device, , path] = fields;
    if (path === undefined || device === undefined || type === undefined) return [];
    return [{ path: unescaped(path), type, source: unescaped(source ?? ""), device }];
  });
}

/** mountinfo writes space, tab, newline and backslash as three octal digits. */
function unescaped(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}
