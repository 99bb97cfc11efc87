/** Processes that never sleep: what a case looks like on a machine that has other work. */
import { spawn } from "node:child_process";
import { childEnvironment } from "../run/tag.ts";

export const BUSY_MAX = 64;

/** Ends with its parent, however that ends. */
const SOURCE =
  "const parent = Number(process.argv[1]); while (process.ppid === parent) for (let i = 0; i < 1e7; i += 1);";

/**
 * Starts them; returns what ends them.
 * @param directory of the run, by which they are found
 */
export function startBusy(count: number, directory: string): () => void {
  const children = Array.from({ length: count }, () =>
    spawn(process.execPath, ["-e", SOURCE, String(process.pid)], {
      stdio: "ignore",
      env: childEnvironment(directory),
    }),
  );
  return () => {
    for (const child of children) child.kill("SIGKILL");
  };
}
