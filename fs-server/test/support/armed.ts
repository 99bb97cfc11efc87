/** Many files below a guard at once. */
import { closeSync, openSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { TruncationGuard } from "../../src/guard/truncation-guard.ts";
import { RecordingHolder } from "./holder.ts";

/** Files `0` to `count - 1` of a folder, each open and armed with a holder of its own; for guards that arm at once. */
export function armFiles(
  guard: TruncationGuard,
  { folder, count, content }: { folder: string; count: number; content: string | Buffer },
): { readonly holders: readonly RecordingHolder[]; closeFiles(): void } {
  const fds: number[] = [];
  const holders: RecordingHolder[] = [];
  for (let i = 0; i < count; i += 1) {
    const path = join(folder, String(i));
    writeFileSync(path, content);
    const fd = openSync(path, "r+");
    const holder = new RecordingHolder();
    void guard.arm({ fd }, holder);
    fds.push(fd);
    holders.push(holder);
  }
  return {
    holders,
    closeFiles: () => {
      for (const fd of fds) closeSync(fd);
    },
  };
}
