/** A file system on a loop device, for what a folder of this machine's own does not show. */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";

function run(program: string, ...args: readonly string[]): { readonly ok: boolean; readonly text: string } {
  const { status, stdout, stderr, error } = spawnSync(program, [...args], { encoding: "utf8" });
  return { ok: status === 0, text: `${stdout ?? ""}${stderr ?? ""}${error?.message ?? ""}`.trim() };
}

/** Why there is no btrfs here, or null. */
export function noBtrfsBecause(): string | null {
  if (process.geteuid?.() !== 0) return "needs root to mount";
  if (!run("mkfs.btrfs", "--version").ok) return "mkfs.btrfs is not installed (btrfs-progs)";
  if (!existsSync("/dev/loop-control")) return "there are no loop devices";
  run("modprobe", "btrfs");
  return /\bbtrfs$/m.test(readFileSync("/proc/filesystems", "utf8")) ? null : "the kernel has no btrfs";
}

/** Makes a btrfs in a file of `folder` and mounts it there, at `mnt`. */
export function mountBtrfs(folder: string): { readonly path: string; unmount(): void } {
  const [image, path] = [join(folder, "image"), join(folder, "mnt")];
  writeFileSync(image, "");
  truncateSync(image, 256 * 1024 * 1024);
  const steps = [
    ["mkfs.btrfs", "-q", image],
    ["mkdir", path],
    ["mount", "-o", "loop", image, path],
  ];
  for (const [program = "", ...args] of steps) {
    const { ok, text } = run(program, ...args);
    if (!ok) throw new Error(`${program} ${args.join(" ")}: ${text}`);
  }
  return { path, unmount: () => void run("umount", "-l", path) };
}
