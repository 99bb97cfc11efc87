/** Compiles and runs a small C program: the compiler's own word on layouts and numbers. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export type CompilerCheck = { readonly reason: string | null; readonly note: string };

/** Whether gcc is there; `note` is appended to a test's title so that a skip shows its reason. */
export function compilerOrReason(): CompilerCheck {
  const found = spawnSync("gcc", ["--version"], { stdio: "ignore" }).status === 0;
  return found ? { reason: null, note: "" } : { reason: "no gcc", note: " (skipped: gcc is not installed)" };
}

/** Returns what the program prints. Throws with the compiler's message if it does not compile. */
export function compileAndRun(source: string, flags: readonly string[] = []): string {
  const directory = mkdtempSync(join(tmpdir(), "daxfault-c-"));
  try {
    writeFileSync(join(directory, "main.c"), source);
    execFileSync("gcc", [...flags, "-o", join(directory, "main"), join(directory, "main.c")], {
      stdio: "pipe",
    });
    return execFileSync(join(directory, "main"), { encoding: "utf8", timeout: 10_000 });
  } finally {
    rmSync(directory, { recursive: true });
  }
}
