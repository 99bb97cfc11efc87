/** Temporary folders of tests, removed at the end of the test file. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";

const made: string[] = [];

// At import, so that it belongs to the file: a hook asked for within a running test is never called.
afterAll(() => {
  for (const folder of made.splice(0)) rmSync(folder, { recursive: true, force: true });
});

export function temporaryDirectory(): string {
  const path = mkdtempSync(join(tmpdir(), "daxfault-fs-"));
  made.push(path);
  return path;
}
