/**
 * No dead mount is left behind: a tiny shell process outlives the server and frees its mount point lazily.
 *
 * It waits at the end of a pipe that the server holds. A clean stop writes "done" there; a crash or kill -9 just closes
 * it, and the shell then unmounts. A session of its own keeps it out of the reach of signals to the server's group.
 */
import { spawn } from "node:child_process";

const SCRIPT = `
trap '' INT TERM HUP
read -r word
[ "$word" = done ] && exit 0
umount -l -- "$1" 2>/dev/null || fusermount3 -uz -- "$1" 2>/dev/null || fusermount -uz -- "$1" 2>/dev/null
`;

/** Starts the reaper for a mount point. Returns how to dismiss it after a clean unmount. */
export function startReaper(mountPoint: string): () => void {
  const child = spawn("/bin/sh", ["-c", SCRIPT, "sh", mountPoint], {
    stdio: ["pipe", "ignore", "ignore"],
    detached: true,
    cwd: "/",
  });
  child.unref();
  return () => {
    // Written at once (a pipe with room), so that the process may end straight after.
    child.stdin?.write("done\n");
  };
}
