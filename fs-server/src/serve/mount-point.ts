/** The mount point: fit to be used, really mounted, gone again. */
import { execFileSync } from "node:child_process";
import { readdirSync, realpathSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { MNT_DETACH, mounts, unmount } from "../../../sys/src/index.ts";

/** A mount point that cannot be used. The message says why and what to do. */
export class MountPointError extends Error {
  override readonly name = "MountPointError";
}

/** The canonical path of an existing, empty directory on which nothing is mounted. Throws a MountPointError. */
export function checkedMountPoint(path: string): string {
  let real: string;
  try {
    real = realpathSync(path);
    if (!statSync(real).isDirectory()) throw new MountPointError(`mount point ${path} is not a directory`);
  } catch (cause) {
    if (cause instanceof MountPointError) throw cause;
    const code = (cause as NodeJS.ErrnoException).code ?? "";
    if (code === "ENOENT") {
      throw new MountPointError(`mount point ${path} does not exist; make it first: mkdir ${path}`);
    }
    if (code === "ENOTCONN") {
      throw new MountPointError(
        `mount point ${path} belongs to a server that has died; free it first: umount -l ${path}`,
      );
    }
    throw new MountPointError(`mount point ${path} cannot be used: ${code}`);
  }
  const covering = mounts().findLast((point) => point.mountpoint === real);
  if (covering !== undefined) {
    throw new MountPointError(
      `mount point ${path} is busy: ${covering.source} (${covering.type}) is mounted there; umount it first`,
    );
  }
  const entries = readdirSync(real).length;
  if (entries > 0) {
    throw new MountPointError(
      `mount point ${path} is not empty (${entries} entries); mounting would hide them: use an empty directory`,
    );
  }
  return real;
}

/**
 * Refuses a mount point that is its own source or lies inside it: the server would look up its own mount, and wait for
 * itself. Throws a MountPointError.
 * @param mountPoint canonical
 */
export function requireOutside(source: string, mountPoint: string): void {
  let found: { readonly dev: bigint; readonly ino: bigint };
  try {
    found = statSync(source, { bigint: true });
  } catch {
    // The server says what is wrong with its source.
    return;
  }
  for (let folder = mountPoint; ; folder = dirname(folder)) {
    const { dev, ino } = statSync(folder, { bigint: true });
    if (dev === found.dev && ino === found.ino) {
      const where = folder === mountPoint ? "is its own source" : `lies inside the source ${source}`;
      throw new MountPointError(
        `mount point ${mountPoint} ${where}: the server would wait for itself; mount outside of it`,
      );
    }
    if (folder === dirname(folder)) return;
  }
}

/** Whether a FUSE file system is mounted at `path`. */
export function isFuseMounted(path: string): boolean {
  return mounts().some((point) => point.mountpoint === path && point.type.startsWith("fuse"));
}

/**
 * Unmounts lazily: a process that still has a file open there gets errors, none blocks. As root by umount2,
 * otherwise by libfuse's set-user-id helper. Nothing mounted is success. Returns the reason if it failed.
 */
export function detach(path: string): string | null {
  if (!isFuseMounted(path)) return null;
  const result = unmount(path, MNT_DETACH);
  if (result === 0 || !isFuseMounted(path)) return null;
  for (const helper of ["fusermount3", "fusermount"]) {
    try {
      execFileSync(helper, ["-u", "-z", "--", path], { stdio: "ignore" });
      return null;
    } catch {
      // The next helper, or the reason below.
    }
  }
  return `cannot unmount ${path}: umount2 says errno ${-result}, and fusermount did not help`;
}
