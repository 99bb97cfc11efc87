/**
 * The janitor: waits until the run that started it is over, however it ended, then removes all of it.
 * Entry point; its arguments are the run's folder and the folder that it lies in. Runs in a session of its own, so that Ctrl-C does not reach it, and
 * notices the end by its standard input: only the run holds the other end of that pipe.
 */
import { sweep } from "./sweep.ts";

const [, , directory, parent] = process.argv;
if (directory === undefined || parent === undefined) throw new Error("usage: janitor-main DIRECTORY PARENT");

// Ends with its work, not before.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => {});

process.stdin.resume();
process.stdin.on("error", () => {});
process.stdin.on("close", () => {
  void sweep(directory, parent).then(
    () => process.exit(0),
    () => process.exit(1),
  );
});
