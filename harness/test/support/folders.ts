/** Folders for tests: made like a run's, so that the sweep accepts them, and swept afterwards. */
import { mkdtempSync } from "node:fs";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { runDirectoryParent } from "../../src/paths.ts";
import { RUN_DIRECTORY_PREFIX, sweep } from "../../src/run/sweep.ts";

/** An empty folder for the running test. */
export function caseFolder(): string {
  const folder = mkdtempSync(join(runDirectoryParent, `${RUN_DIRECTORY_PREFIX}test-`));
  onTestFinished(async () => {
    await sweep(folder);
  });
  return folder;
}

/** Waits for something to become true, for at most `boundMs`. */
export async function eventually(condition: () => boolean, boundMs = 5000): Promise<boolean> {
  const deadlineMs = performance.now() + boundMs;
  while (performance.now() < deadlineMs) {
    if (condition()) return true;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return condition();
}
