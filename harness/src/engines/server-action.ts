/** What a process of the host does to the file server, one signal each; each returns when it has come to pass. */
import { existsSync, readdirSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { HostAction } from "../../../language/src/index.ts";
import { readThread } from "../../../sys/src/index.ts";

export type ServerAction = Extract<HostAction, { verb: "kill-server" | "stop-server" | "continue-server" }>;

const POLL_MS = 1;
/** A server ends, or stops, within milliseconds; under emulation within some hundred. */
const BOUND_MS = 10_000;

async function until(what: string, isSo: () => boolean): Promise<void> {
  const deadlineMs = performance.now() + BOUND_MS;
  while (!isSo()) {
    if (performance.now() > deadlineMs) throw new Error(`${what} within ${BOUND_MS} ms`);
    await sleep(POLL_MS);
  }
}

function isStopped(pid: number): boolean {
  const tids = readdirSync(`/proc/${pid}/task`).map(Number);
  return tids.every((tid) => readThread(tid, 0)?.state === "T");
}

/** Throws what kill(2) throws. @param pid of the server, which its parent reaps */
export async function actOnServer({ verb }: ServerAction, pid: number): Promise<void> {
  switch (verb) {
    case "kill-server":
      process.kill(pid, "SIGKILL");
      // Reaped, all its threads are gone, and the connection with its descriptor (fuse_dev_release(), fs/fuse/dev.c).
      await until("the file server has not ended", () => !existsSync(`/proc/${pid}`));
      return;
    case "stop-server":
      process.kill(pid, "SIGSTOP");
      await until("the file server has not stopped", () => isStopped(pid));
      return;
    case "continue-server":
      process.kill(pid, "SIGCONT");
  }
}
