/** Applies patches to a folder of sources with patch(1), and says of one that does not apply which hunk, and where. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { KernelError } from "../error.ts";
import type { Patch } from "../patches.ts";
import { runStep } from "./step.ts";

export type ApplyOptions = {
  readonly source: string;
  /** Of the sources, for messages. */
  readonly version: string;
  /** A folder for the text of a patch. */
  readonly work: string;
  readonly logPath: string;
  readonly signal: AbortSignal;
};

/** A hunk is shown up to this line. */
const HUNK_LINES_MAX = 24;

/** What patch(1) has said of a patch, in order: the file it is at, and the line of a hunk that it did not find. */
function rejectionOf(said: readonly string[], source: string): string {
  const file = (line: string | undefined): string | undefined =>
    /^patching file '?(.*?)'?$/.exec(line ?? "")?.[1];
  const at = said.findIndex((line) => /^Hunk #[0-9]+ FAILED at /.test(line));
  if (at < 0) {
    const missing = said.findIndex((line) => line.startsWith("can't find file to patch"));
    const name = /\+\+\+ [^/]*\/(\S+)/.exec(said.slice(missing).join("\n"))?.[1];
    if (missing >= 0) return `there is no file ${name ?? ""}`.trimEnd();
    const applied = said.find((line) => line.startsWith("Reversed (or previously applied) patch"));
    return applied === undefined ? (said.at(-1) ?? "patch said nothing") : "it is in these sources already";
  }
  const path = file(said.slice(0, at).findLast((line) => file(line) !== undefined)) ?? "";
  const line = /at ([0-9]+)/.exec(said[at] ?? "")?.[1];
  const rejects = join(source, `${path}.rej`);
  const hunk = existsSync(rejects) ? readFileSync(rejects, "utf8").trimEnd().split("\n").slice(2) : [];
  const next = hunk.findIndex((one, index) => index > 0 && one.startsWith("@@ "));
  const shown = (next < 0 ? hunk : hunk.slice(0, next)).slice(0, HUNK_LINES_MAX);
  return [`${path}:${line}: this hunk was rejected`, ...shown].join("\n");
}

/** Throws a KernelError that names the patch, the file and the line. */
export async function applyPatches(patches: readonly Patch[], options: ApplyOptions): Promise<void> {
  const { source, version, work, logPath, signal } = options;
  for (const { path, files } of patches) {
    const text = join(work, "current.patch");
    writeFileSync(text, files.map((file) => file.text).join(""));
    const said: string[] = [];
    const command = ["patch", "-p1", "--batch", "--forward", "--no-backup-if-mismatch", "-i", text];
    try {
      await runStep(command, { cwd: source, signal, logPath, onLine: (line) => said.push(line) });
    } catch (error) {
      if (signal.aborted || said.length === 0) throw error;
      throw new KernelError(`${path} does not apply to Linux ${version}: ${rejectionOf(said, source)}`);
    }
  }
}
