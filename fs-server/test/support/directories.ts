/** Temporary folders of tests, removed at the end of the test file. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";

const made: string[] = [];

export function temporaryDirectory(): string {
  const path = mkdtempSync(join(tmpdir(), "daxfault-fs-"));
  if (made.length === 0) {
    afterAll(() => {
      for (const folder of made.splice(0)) rmSync(folder, { recursive: true, force: true });
    });
  }
  made.push(path);
  return path;
}
