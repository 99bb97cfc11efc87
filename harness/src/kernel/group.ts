/**
 * A command in a process group of its own: apt and its methods, dpkg-deb and its tar, make and its compilers. Interrupted or
 * out of time, the whole group is killed. What it was writing to is written to no more once the promise is settled.
 */
import { type ChildProcessByStdio, spawn } from "node:child_process";
import type { Readable } from "node:stream";

export type GroupOptions = {
  readonly cwd?: string;
  readonly env: NodeJS.ProcessEnv;
  readonly signal: AbortSignal;
  readonly timeoutMs?: number;
  /** Is called once, before anything has been read. */
  readonly read: (stdout: Readable, stderr: Readable) => void;
};

export type GroupEnd =
  | { readonly kind: "exit"; readonly code: number }
  | { readonly kind: "killed"; readonly by: string }
  | { readonly kind: "interrupted" }
  | { readonly kind: "timeout" }
  | { readonly kind: "not-started"; readonly error: NodeJS.ErrnoException };

/** What a stream has said by the time of the call. */
export function textOf(stream: Readable): () => string {
  const parts: string[] = [];
  stream.setEncoding("utf8").on("data", (text: string) => parts.push(text));
  return () => parts.join("");
}

function killGroup(child: ChildProcessByStdio<null, Readable, Readable>): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, "SIGKILL");
  } catch {
    // It has ended.
  }
}

/** Never rejects. It settles when the command has ended and all that had its output open has closed it. */
export function runGroup(command: readonly string[], options: GroupOptions): Promise<GroupEnd> {
  const { cwd, env, signal, timeoutMs, read } = options;
  const [program = "", ...args] = command;
  return new Promise((resolve) => {
    if (signal.aborted) return resolve({ kind: "interrupted" });
    const where = cwd === undefined ? {} : { cwd };
    const child = spawn(program, args, { ...where, env, stdio: ["ignore", "pipe", "pipe"], detached: true });
    read(child.stdout, child.stderr);
    let isLate = false;
    const end = (): void => killGroup(child);
    const late = (): void => {
      isLate = true;
      end();
    };
    const timer = timeoutMs === undefined ? undefined : setTimeout(late, timeoutMs);
    signal.addEventListener("abort", end, { once: true });
    const settle = (result: GroupEnd): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve(result);
    };
    child.on("error", (error) => settle({ kind: "not-started", error }));
    child.on("close", (code, by) => {
      if (signal.aborted) return settle({ kind: "interrupted" });
      if (isLate) return settle({ kind: "timeout" });
      settle(code === null ? { kind: "killed", by: by ?? "" } : { kind: "exit", code });
    });
  });
}
