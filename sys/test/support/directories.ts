/**
 * Temporary folders of tests, removed at the end of each test file by scripts/test/test-file.ts: a hook of this module's own would
 * belong to the first file of a worker that imports it, for files of a worker share their modules.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { mountsBelow, unmountLazily } from "../../src/index.ts";

const made: string[] = [];

export function temporaryDirectory(): string {
  const path = mkdtempSync(join(tmpdir(), "daxfault-fs-"));
  made.push(path);
  return path;
}

/** Nothing is removed through a mount that a test which failed has left. */
export function removeTemporaryDirectories(): void {
  for (const folder of made.splice(0)) {
    for (const { mountpoint } of mountsBelow(folder)) unmountLazily(mountpoint);
    rmSync(folder, { recursive: true, force: true });
  }
}
