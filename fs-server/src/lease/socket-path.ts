/**
 * The name of a listening Unix socket: free, left behind by a server that was killed, or in use.
 *
 * Between the look at a stale name and its removal another server may have taken it. So the folder is locked from the
 * look to bind(2): flock(2) on it leaves nothing behind, and ends with the process.
 */
import { closeSync, lstatSync, openSync, type Stats, unlinkSync } from "node:fs";
import { connect } from "node:net";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { tryLock } from "../../../sys/src/index.ts";

/** A holder of the lock needs milliseconds. */
const LOCK_BOUND_MS = 5000;
const LOCK_POLL_MS = 10;

/**
 * Makes `path` free for bind(2) and has `bind` listen there: removes a stale socket. Rejects if something else is there,
 * and leaves it alone.
 */
export async function withSocketPath(
  path: string,
  bind: () => Promise<void>,
  purpose: "grant leases" | "serve" = "grant leases",
): Promise<void> {
  const cannot = `cannot ${purpose} at ${path}`;
  const folder = await lockedFolder(path, cannot);
  try {
    await claimSocketPath(path, cannot);
    await bind();
  } finally {
    closeSync(folder);
  }
}

/** A descriptor of the folder, locked. */
async function lockedFolder(path: string, cannot: string): Promise<number> {
  let fd: number;
  try {
    fd = openSync(dirname(path), "r");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new Error(`${cannot}: its folder cannot be read: ${code}`, { cause: error });
  }
  const deadlineMs = performance.now() + LOCK_BOUND_MS;
  try {
    while (!tryLock(fd)) {
      if (performance.now() > deadlineMs) {
        throw new Error("another process has its folder locked (flock); name another path");
      }
      await sleep(LOCK_POLL_MS);
    }
  } catch (error) {
    closeSync(fd);
    throw new Error(`${cannot}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
  return fd;
}

/** Removes a stale socket. The folder is locked. */
async function claimSocketPath(path: string, cannot: string): Promise<void> {
  const found = statOf(path, cannot);
  if (found === null) return;
  if (!found.isSocket()) {
    throw new Error(`${cannot}: it exists and is not a socket; name another path`);
  }
  const answer = await connectCode(path);
  if (answer === null) {
    throw new Error(`${cannot}: another process listens there; end it, or name another path`);
  }
  if (answer !== "ECONNREFUSED" && answer !== "ENOENT") {
    throw new Error(`${cannot}: a socket is there that cannot be examined (${answer})`);
  }
  if (statOf(path, cannot)?.ino === found.ino) unlinkSync(path);
}

function statOf(path: string, cannot: string): Stats | null {
  try {
    return lstatSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw new Error(`${cannot}: ${(error as NodeJS.ErrnoException).code}`, {
      cause: error,
    });
  }
}

/** The errno's name with which connect(2) fails, ECONNREFUSED where nothing listens; null: it succeeds. */
function connectCode(path: string): Promise<string | null> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once("connect", () => {
      socket.destroy();
      resolve(null);
    });
    socket.once("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
  });
}
