/**
 * The name of a listening Unix socket: free, left behind by a server that was killed, or in use.
 *
 * Two servers that start at the same moment over the same stale name may both remove it; then the later one has the name.
 */
import { lstatSync, type Stats, unlinkSync } from "node:fs";
import { connect } from "node:net";

/** Makes `path` free for bind(2): removes a stale socket. Rejects if something else is there, and leaves it alone. */
export async function claimSocketPath(path: string): Promise<void> {
  const found = statOf(path);
  if (found === null) return;
  if (!found.isSocket()) {
    throw new Error(`cannot grant leases at ${path}: it exists and is not a socket; name another path`);
  }
  const answer = await connectCode(path);
  if (answer === null) {
    throw new Error(
      `cannot grant leases at ${path}: another process listens there; end it, or name another path`,
    );
  }
  if (answer !== "ECONNREFUSED" && answer !== "ENOENT") {
    throw new Error(`cannot grant leases at ${path}: a socket is there that cannot be examined (${answer})`);
  }
  if (statOf(path)?.ino === found.ino) unlinkSync(path);
}

function statOf(path: string): Stats | null {
  try {
    return lstatSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw new Error(`cannot grant leases at ${path}: ${(error as NodeJS.ErrnoException).code}`, {
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
