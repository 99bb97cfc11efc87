/**
 * Builds once before the tests: child processes always run from dist/, never from source. What runs keep of themselves
 * (the last run's record) goes to a folder of the tests, not to the user's.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export default function setup(): () => void {
  execFileSync("scripts/build", { stdio: "inherit" });
  const state = mkdtempSync(join(tmpdir(), "daxfault-test-state-"));
  process.env.XDG_STATE_HOME = state;
  return () => rmSync(state, { recursive: true, force: true });
}
